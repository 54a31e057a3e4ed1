"""Decides where the segments that a window is read in come from: open ones, those kept since they were read, memory.

All three are the same to the last digit that counts, so a worker that has just started answers as one that has run
for a month does, only later.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from standwatch.compression.compressor import Float16Array
from standwatch.compression.questions import View
from standwatch.compression.segments import Int64Array, OpenSegments, Segment, SegmentBuilder


@dataclass(frozen=True, eq=False)
class Wanted:
    """Frames of a feed as memory holds them up to a window's end: tokens [F, n, D] at slots [F].

    The first `context` frames lie before the window. `segments` are the numbers of those it is read in, ascending;
    `opened` are the feed's open ones.
    """

    feed: str
    tokens: Float16Array
    slots: Int64Array
    context: int
    segments: tuple[int, ...]
    opened: OpenSegments


@dataclass(frozen=True, eq=False)
class _Part:
    """What a window needs of one segment: frames low..high-1 of the wanted ones, the first `context` as context."""

    feed: str
    number: int
    low: int
    high: int
    context: int


class SegmentCache:
    """Gives views of segments, and keeps those that it had to build, up to `most_bytes`, least recently used first."""

    def __init__(self, builder: SegmentBuilder, to_video: Callable[[Float16Array], Tensor], most_bytes: int) -> None:
        """`to_video` checks tokens of memory and makes them the decoder's."""
        self._builder, self._to_video = builder, to_video
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[str, int], Segment] = OrderedDict()

    @property
    def nbytes(self) -> int:
        return sum(segment.cache.nbytes for segment in self._kept.values())

    def clear(self) -> None:
        self._kept.clear()

    def views(self, wanted: Sequence[Wanted]) -> list[tuple[View, ...]]:
        """For each window the views that hold its frames, in the order of time. What is missing is built as one batch.

        A segment at hand counts only with the very frames that memory holds of it; any other is built anew.
        """
        parts = [[part for number in one.segments for part in self._part(one, number)] for one in wanted]
        found = {
            (index, part.number): self._at_hand(one, part) for index, one in enumerate(wanted) for part in parts[index]
        }
        # Windows of one feed that end at different times want the same segment, up to different frames.
        longest: dict[tuple[str, int], tuple[Wanted, _Part]] = {}
        missing = [(index, part) for index, own in enumerate(parts) for part in own if not found[index, part.number]]
        for index, part in missing:
            key = part.feed, part.number
            if key not in longest or longest[key][1].high - longest[key][1].low < part.high - part.low:
                longest[key] = wanted[index], part
        built = self._builder.build([self._from_memory(one, part) for one, part in longest.values()])
        by_key = dict(zip(longest, built, strict=True))
        for (feed, _), segment in by_key.items():
            self._keep(feed, segment)
        for index, part in missing:
            found[index, part.number] = by_key[part.feed, part.number].up_to(int(wanted[index].slots[part.high - 1]))
        return [tuple(_view(found[index, part.number], part) for part in own) for index, own in enumerate(parts)]

    def _part(self, wanted: Wanted, number: int) -> list[_Part]:
        """What the window needs of a segment; nothing where none of its frames is asked about."""
        first = number * self._builder.hop
        low, high = (int(i) for i in np.searchsorted(wanted.slots, [first, first + self._builder.frames]))
        if high <= max(low, wanted.context):
            return []
        return [_Part(wanted.feed, number, low, high, max(0, wanted.context - low))]

    def _at_hand(self, wanted: Wanted, part: _Part) -> Segment | None:
        """The open or kept segment as it was after the last frame needed, if it holds just the frames needed."""
        slots = wanted.slots[part.low : part.high]
        key = part.feed, part.number
        for segment in (wanted.opened.find(part.number), self._kept.get(key)):
            earlier = segment and segment.up_to(int(slots[-1]))
            if earlier is not None and np.array_equal(earlier.slots, slots):
                if key in self._kept:
                    self._kept.move_to_end(key)
                return earlier
        return None

    def _from_memory(self, wanted: Wanted, part: _Part) -> tuple[int, Int64Array, Tensor]:
        frames = slice(part.low, part.high)
        return part.number, wanted.slots[frames], self._to_video(wanted.tokens[frames])

    def _keep(self, feed: str, segment: Segment) -> None:
        self._kept.pop((feed, segment.number), None)
        self._kept[feed, segment.number] = segment
        while self._kept and self.nbytes > self._most_bytes:
            self._kept.popitem(last=False)


def _view(segment: Segment | None, part: _Part) -> View:
    assert segment is not None, "what was not at hand was built"
    return View(segment.cache, part.context)
