"""The records of reading: frames that are asked about, what is asked, and what was said.

View                     some frames in the decoder's cache
Questions                what is asked about one window, and the views that hold it
QuestionReading          what one question was told
WrittenAnswer            words, and what they cost
"""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from standwatch.compression.videocache import VideoCache

Float32Array: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class View:
    """Some frames in the decoder's cache, of which the first `context` are not part of what is asked about."""

    cache: VideoCache
    context: int = 0

    @property
    def frames(self) -> int:
        """How many frames are asked about."""
        return self.cache.frames - self.context


@dataclass(frozen=True, eq=False)
class Questions:
    """Questions about one window of `duration_s` seconds, whose frames the views hold, each frame in one of them."""

    views: tuple[View, ...]
    questions: tuple[str, ...]
    duration_s: float


@dataclass(frozen=True, eq=False)
class QuestionReading:
    """One question against one window: relevance float32 [F], and how likely the answer begins as each of the three."""

    relevance: Float32Array
    yes: float
    no: float
    unclear: float

    @property
    def probability(self) -> float:
        """Of yes against no. What the model calls unclear is as likely either; so is all where it says none of them."""
        said = self.yes + self.no + self.unclear
        return (self.yes + self.unclear / 2) / said if said > 0 else 0.5


class WrittenAnswer(NamedTuple):
    text: str
    prompt_tokens: int
    generated_tokens: int
