"""The outside world as the cores see it: one small protocol per thing (STYLE §4.9)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from standwatch.pipeline.types import (
    Clip,
    Evidence,
    Outgoing,
    Reading,
    ReadRequest,
    Record,
    TokenBatch,
)


class Source(Protocol):
    """Some partitions of one topic, read from given positions. No group membership, no commit decides anything."""

    def partitions(self) -> Sequence[int]:
        """All partitions of the topic. Raises `Unavailable` when the broker is away."""
        ...

    def assign(self, positions: Mapping[int, int | None]) -> None:
        """Read these partitions from these offsets on; None is the beginning of what is retained.

        An offset older than what is retained continues at the oldest retained record.
        """
        ...

    def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        """Next records, in order within each partition; empty when none came in time. Raises `Unavailable`."""
        ...

    def end_offsets(self) -> Mapping[int, int]:
        """For each assigned partition the offset after its last record."""
        ...

    def lag(self) -> Mapping[int, int]:
        """For each assigned partition how many records lie between the reading position and its end.

        0 means that the end was reached, whatever retention or transactions left out on the way.
        """
        ...

    def note_progress(self, positions: Mapping[int, int]) -> None:
        """Tell dashboards (Kafka group offsets) what is durable; never read back, never fails the caller."""
        ...

    def close(self) -> None: ...


class Sink(Protocol):
    """Records written to topics."""

    def send(self, record: Outgoing) -> None:
        """Accept a record. Raises `BadInput` when it is too large for its topic."""
        ...

    def flush(self) -> None:
        """Return when all that was accepted is safe. Raises `Unavailable` when that cannot be had in time."""
        ...

    def close(self) -> None: ...


class Compressor(Protocol):
    """Frames to tokens; many feeds in one call, with the results of one by one. May keep a state for each feed."""

    def compress(self, clips: Sequence[Clip]) -> list[TokenBatch]:
        """Tokens of each clip, in order. Clips of one feed come in the order of time, over all calls."""
        ...

    def forget(self) -> None:
        """Forget every feed; what comes next is a replay from where the memory says."""
        ...


class QuestionReader(Protocol):
    """Questions against windows of memory; many feeds in one call, with the results of one by one."""

    def read(self, requests: Sequence[ReadRequest]) -> list[list[Reading]]:
        """For each request one `Reading` per query, in order; its window and frames are those of `request.window`.

        Raises `BadInput` when any request cannot be read; asked one by one, the others can.
        """
        ...


@dataclass(frozen=True, slots=True)
class Completion:
    """What a language model wrote and what it cost."""

    text: str
    prompt_tokens: int
    answer_tokens: int


class LanguageModel(Protocol):
    """Words about evidence; the evidence's tokens go into the prompt as soft tokens."""

    @property
    def name(self) -> str: ...

    @property
    def weights(self) -> str:
        """'untrained' while weights are drawn from a seed; otherwise where they come from."""
        ...

    def answer(self, question: str, evidence: Evidence) -> Completion: ...
