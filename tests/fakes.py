"""A model without a model, and a way to die: small stand-ins for the pipeline's ports."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from standwatch.pipeline.errors import Unavailable
from standwatch.pipeline.ports import Completion, Sink, Source
from standwatch.pipeline.segmentgrid import SegmentGrid
from standwatch.pipeline.types import (
    Clip,
    Evidence,
    Outgoing,
    Reading,
    ReadRequest,
    Record,
    TokenBatch,
    Verdict,
)

SPACE = "mean-colours"
TOKENS = 4  # per frame: the mean colours of its quarters


class Died(BaseException):
    """The process is gone: nothing catches this."""


@dataclass
class Fate:
    """Dies at the call of a port that it was told; counts the calls until then."""

    port: str = ""
    call: int = 0
    calls: dict[str, int] = field(default_factory=dict)

    def meet(self, port: str) -> None:
        self.calls[port] = self.calls.get(port, 0) + 1
        if port == self.port and self.calls[port] == self.call:
            raise Died(f"{port} {self.call}")


class ColourCompressor:
    """Tokens [T, 4, 3]: the mean colour of each quarter of a picture, 0..1."""

    def __init__(self, fate: Fate) -> None:
        self._fate = fate

    def compress(self, clips: Sequence[Clip]) -> list[TokenBatch]:
        self._fate.meet("compress")
        return [self._one(clip) for clip in clips]

    def forget(self) -> None:
        self._fate.meet("forget")

    def _one(self, clip: Clip) -> TokenBatch:
        middle_y, middle_x = clip.frames.shape[1] // 2, clip.frames.shape[2] // 2
        rows = (clip.frames[:, :middle_y], clip.frames[:, middle_y:])
        quarters = [part for row in rows for part in (row[:, :, :middle_x], row[:, :, middle_x:])]
        tokens = np.stack([part.mean(axis=(1, 2)) / 255 for part in quarters], axis=1)
        return TokenBatch(
            clip.feed_id,
            clip.at,
            clip.frame_ms,
            clip.frame_offset,
            tokens.astype(np.float16),
            clip.thumbnails,
            SPACE,
        )


class SegmentCompressor:
    """Tokens [T, 1, 4] that tell of every frame of the segment so far, of its order and of its grouping into clips.

    Refuses frames that do not come after those it has seen, as long as it has not forgotten them.
    """

    def __init__(self, grid: SegmentGrid, fate: Fate) -> None:
        self._grid, self._fate = grid, fate
        self._open: dict[str, dict[int, int]] = {}  # for each feed the number that stands for each open segment
        self._last: dict[str, int] = {}

    def forget(self) -> None:
        self._fate.meet("forget")
        self._open.clear()
        self._last.clear()

    def compress(self, clips: Sequence[Clip]) -> list[TokenBatch]:
        self._fate.meet("compress")
        return [self._one(clip) for clip in clips]

    def _one(self, clip: Clip) -> TokenBatch:
        slots = self._grid.slots(clip.frame_ms).tolist()
        if slots[0] <= self._last.get(clip.feed_id, slots[0] - 1):
            raise ValueError(f"{clip.feed_id}: slot {slots[0]} does not come after {self._last[clip.feed_id]}")
        seen = zlib.crc32(clip.frames.tobytes(), len(slots))  # a vision tower sees all frames of a clip
        numbers = []
        for place, slot in enumerate(slots):
            half = slot // self._grid.hop
            before = self._open.get(clip.feed_id, {})
            added = zlib.crc32(clip.frames[place].tobytes(), seen + place)
            now = {segment: zlib.crc32(b"%d" % added, before.get(segment, 0)) for segment in (half - 1, half)}
            self._open[clip.feed_id], self._last[clip.feed_id] = now, slot
            numbers.append(now[half - 1])
        tokens = np.array(numbers, np.uint32).view(np.uint8).reshape(len(slots), 1, 4)
        return TokenBatch(
            clip.feed_id,
            clip.at,
            clip.frame_ms,
            clip.frame_offset,
            tokens.astype(np.float16),
            clip.thumbnails,
            "segments so far",
        )


class BrightnessReader:
    """Every question is about light: the probability of yes is the mean brightness, a frame's relevance its own."""

    def __init__(self, fate: Fate) -> None:
        self._fate = fate

    def read(self, requests: Sequence[ReadRequest]) -> list[list[Reading]]:
        self._fate.meet("read")
        return [self._one(request) for request in requests]

    def _one(self, request: ReadRequest) -> list[Reading]:
        memory, window = request.memory, request.window
        own = (memory.frame_ms >= window.from_ms) & (memory.frame_ms < window.to_ms)
        light = memory.tokens[own].astype(np.float32).mean(axis=(1, 2)) if own.any() else np.empty(0, np.float32)
        bright = float(np.clip(light.mean(), 0, 1)) if len(light) else 0.5
        said = Verdict.UNKNOWN if not len(light) else Verdict.YES if bright >= 0.5 else Verdict.NO
        return [
            Reading(q.query_id, memory.feed_id, window, memory.frame_ms[own], light, said, bright, 0.0)
            for q in request.queries
        ]


class SoftTokenModel:
    """Answers with what it was given: its words name the question and how many soft tokens there were."""

    name = "soft-token-counter"
    weights = "untrained"

    def __init__(self, fate: Fate) -> None:
        self._fate = fate
        self.seen: list[Evidence] = []

    def answer(self, question: str, evidence: Evidence) -> Completion:
        self._fate.meet("answer")
        self.seen.append(evidence)
        soft = evidence.tokens.shape[0] * evidence.tokens.shape[1]
        return Completion(f"{question} {soft} soft tokens", soft, 3)


class MortalSource:
    """A source that meets its fate at `poll`."""

    def __init__(self, inner: Source, fate: Fate) -> None:
        self._inner, self._fate = inner, fate

    def partitions(self) -> Sequence[int]:
        return self._inner.partitions()

    def assign(self, positions: Mapping[int, int | None]) -> None:
        self._inner.assign(positions)

    def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        self._fate.meet("poll")
        return self._inner.poll(max_records, timeout_ms)

    def lag(self) -> Mapping[int, int]:
        return self._inner.lag()

    def note_progress(self, positions: Mapping[int, int]) -> None:
        self._inner.note_progress(positions)

    def close(self) -> None:
        self._inner.close()


class MortalSink:
    """A sink that meets its fate around `send` and `flush`; what was not flushed dies with it."""

    def __init__(self, inner: Sink, fate: Fate) -> None:
        self._inner, self._fate = inner, fate
        self._held: list[Outgoing] = []

    def send(self, record: Outgoing) -> None:
        self._fate.meet("send")
        self._held.append(record)
        self._fate.meet("sent")

    def flush(self) -> None:
        self._fate.meet("flush")
        while self._held:
            self._inner.send(self._held.pop(0))
            self._fate.meet("written")
        self._inner.flush()
        self._fate.meet("flushed")

    def close(self) -> None:
        self._inner.close()


class MovingSink:
    """Keeps what it accepted in order; `away` says of each call (counted from 1) whether the broker is out of reach.

    Like the Kafka sink: what `send` accepted stays accepted, a `flush` that fails may be called again.
    """

    def __init__(self, away: Callable[[str, int], bool] = lambda port, call: False) -> None:
        self._away = away
        self.calls = {"send": 0, "flush": 0}
        self.accepted: list[Outgoing] = []
        self.safe: list[Outgoing] = []

    def send(self, record: Outgoing) -> None:
        self._reach("send")
        self.accepted.append(record)

    def flush(self) -> None:
        self._reach("flush")
        self.safe = list(self.accepted)

    def close(self) -> None: ...

    def _reach(self, port: str) -> None:
        self.calls[port] += 1
        if self._away(port, self.calls[port]):
            raise Unavailable(f"broker: away at {port} {self.calls[port]}")


@dataclass
class FakeModel:
    """The three model ports of one process, with one fate."""

    fate: Fate

    def __post_init__(self) -> None:
        self.compressor = ColourCompressor(self.fate)
        self.reader = BrightnessReader(self.fate)
        self.language = SoftTokenModel(self.fate)
