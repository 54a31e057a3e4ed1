"""Decides which clips, of whatever feeds, are compressed together, and when a position may be told."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from standwatch.pipeline.flow import Intake
from standwatch.pipeline.types import Clip


@dataclass(frozen=True, slots=True)
class Batch:
    """Clips to compress in one call, and the positions that have moved and are true once these clips are in memory.

    Without clips: only positions moved.
    """

    clips: tuple[Clip, ...]
    positions: Mapping[int, int]


@dataclass(slots=True)
class _Waiting:
    """A clip, and the positions that are true once it and all before it are in memory; empty within an intake."""

    clip: Clip
    since_ms: int
    positions: Mapping[int, int]


class ClipBatcher:
    """Fills batches with clips in the order they came, so that many feeds share one call of the compressor.

    First in, first out: every feed's clips stay in the order of time, none is overtaken, and the positions of an
    intake go out with the last of its clips or, when it has none, with the last clip that came before it.

    Fewer clips than one batch wait here. They are not in flight yet: what `release` gives is admitted to `InFlight`,
    the one place of backpressure, and the caller takes in nothing more while it waits there.
    """

    def __init__(self, batch_clips: int, wait_ms: int, positions: Mapping[int, int]) -> None:
        """`positions`: those that are known already."""
        self._batch_clips = batch_clips
        self._wait_ms = wait_ms
        self._told = dict(positions)
        self._waiting: deque[_Waiting] = deque()
        self._reached: dict[int, int] = {}  # true now: all clips they cover were released

    def add(self, intake: Intake, now_ms: int) -> None:
        """Take what came of some records. `now_ms` is of a clock that does not go back."""
        for clip in intake.clips:
            self._waiting.append(_Waiting(clip, now_ms, {}))
        if self._waiting:
            self._waiting[-1].positions = intake.positions
        else:
            self._reached.update(intake.positions)

    def release(self, now_ms: int, everything: bool = False) -> list[Batch]:
        """Full batches, and all that waits when its oldest clip has waited long enough or `everything` is asked for."""
        batches = []
        while len(self._waiting) >= self._batch_clips or (
            self._waiting and (everything or now_ms - self._waiting[0].since_ms >= self._wait_ms)
        ):
            batches.append(self._next())
        if not self._waiting and (news := self._news()):
            batches.append(Batch((), news))
        return batches

    def left_ms(self, now_ms: int) -> int | None:
        """How long until `release` has something if nothing more comes; None while no clip waits."""
        return max(0, self._waiting[0].since_ms + self._wait_ms - now_ms) if self._waiting else None

    def _next(self) -> Batch:
        taken = [self._waiting.popleft() for _ in range(min(self._batch_clips, len(self._waiting)))]
        for one in taken:
            self._reached.update(one.positions)
        return Batch(tuple(one.clip for one in taken), self._news())

    def _news(self) -> dict[int, int]:
        news = {p: offset for p, offset in self._reached.items() if self._told.get(p) != offset}
        self._told.update(news)
        self._reached.clear()
        return news
