"""Decides which frames of a feed are kept, and how kept frames become clips. No I/O, no clock of its own."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from standwatch.pipeline.types import Clip, SourceOffset, UInt8Array


class SampleGrid:
    """Slots of equal length counted from the epoch; a feed keeps the first frame of each slot.

    The grid is absolute, so which frames are kept does not depend on where reading began.
    """

    def __init__(self, fps: float) -> None:
        rate = Fraction(fps).limit_denominator(1000)  # exact in ffmpeg's doubles, too
        self.numerator = rate.numerator
        self.denominator = rate.denominator * 1000

    def slot(self, frame_ms: int) -> int:
        return frame_ms * self.numerator // self.denominator

    def start_ms(self, slot: int) -> int:
        """The first millisecond of a slot."""
        return -(-slot * self.denominator // self.numerator)

    def origin_ms(self, at_ms: int) -> int:
        """The last time at or before `at_ms` from which slots count alike: small numbers, the same choice."""
        return at_ms - at_ms % self.denominator


@dataclass(frozen=True, slots=True, eq=False)
class SampledFrame:
    """A kept frame and the chunk it came from."""

    frame_ms: int
    at: SourceOffset
    pixels: UInt8Array  # [H, W, 3] RGB


class Sampler:
    """One feed's choice of frames: the first of each slot, always later than the one before."""

    def __init__(self, grid: SampleGrid, last_ms: int | None = None) -> None:
        """`last_ms`: time of the last frame that is kept already (the feed's watermark); None for a new feed."""
        self._grid = grid
        self.last_ms = last_ms

    def keep(self, frame_ms: int) -> bool:
        """Whether to keep this frame. Frames come in the order of their chunks and, within one, of time."""
        if self.last_ms is not None and (
            frame_ms <= self.last_ms or self._grid.slot(frame_ms) <= self._grid.slot(self.last_ms)
        ):
            return False
        self.last_ms = frame_ms
        return True


class ClipAssembler:
    """Groups the kept frames of one feed into clips.

    A clip ends when it is full, before a frame of another size, and before a frame that comes more than
    `max_gap_ms` later. That depends on frames since the last clip's end only: after a rewind to it, the same
    clips come again. A clip that was ended for other reasons (a feed's silence) is told of in `ends`.
    """

    def __init__(self, feed_id: str, frames_per_clip: int, max_gap_ms: int, ends: Sequence[int] = ()) -> None:
        """`ends`: times, in order, of the last frames of clips that are to come again as they were."""
        self._feed_id = feed_id
        self._frames_per_clip = frames_per_clip
        self._max_gap_ms = max_gap_ms
        self._ends = tuple(ends)
        self._pending: list[SampledFrame] = []

    @property
    def replaying(self) -> bool:
        """Whether the pending frames are the beginning of a clip that was made before: its end will come."""
        return bool(self._pending) and bool(self._ends) and self._pending[-1].frame_ms < self._ends[-1]

    @property
    def oldest(self) -> SourceOffset | None:
        """The chunk of the first frame that is in no clip yet and was in none before; None when there is none."""
        return self._pending[0].at if self._pending and not self.replaying else None

    def add(self, frame: SampledFrame) -> list[Clip]:
        """Take one kept frame; returns the clips that are complete now, at most two."""
        clips: list[Clip] = []
        if self._pending:
            last = self._pending[-1]
            if (
                frame.pixels.shape != last.pixels.shape
                or frame.frame_ms - last.frame_ms > self._max_gap_ms
                or frame.at.partition != last.at.partition  # offsets of two partitions do not compare
                or self._ended(frame.frame_ms) > self._ended(last.frame_ms)  # its last frame did not come again
            ):
                clips.extend(self.flush())
        self._pending.append(frame)
        if len(self._pending) == self._frames_per_clip or frame.frame_ms in self._ends:
            clips.extend(self.flush())
        return clips

    def flush(self) -> list[Clip]:
        """The pending frames as a shorter clip; empty when there are none."""
        if not self._pending:
            return []
        frames, self._pending = self._pending, []
        return [_clip(self._feed_id, frames)]

    def _ended(self, frame_ms: int) -> int:
        """How many of the clips that are to come again end before a time."""
        return bisect_left(self._ends, frame_ms)


def _clip(feed_id: str, frames: Sequence[SampledFrame]) -> Clip:
    return Clip(
        feed_id=feed_id,
        at=frames[-1].at,
        frame_ms=np.array([frame.frame_ms for frame in frames], dtype=np.int64),
        frame_offset=np.array([frame.at.offset for frame in frames], dtype=np.int64),
        frames=np.stack([frame.pixels for frame in frames]),
        thumbnails=(),
    )
