"""Segments that are open, were kept or are built from memory give one and the same view."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from standwatch.compression.compressor import Float16Array
from standwatch.compression.questions import View
from standwatch.compression.segmentcache import SegmentCache, Wanted
from standwatch.compression.segments import Int64Array, OpenSegments, SegmentBuilder
from standwatch.pipeline.segmentgrid import SegmentGrid
from standwatch.pipeline.types import Window
from tests.tiny_models import QUICK, memory_tokens, shape_of

SHAPE = shape_of()
FRAMES = 16
GRID = SegmentGrid(1.0, FRAMES)
BUILDER = SegmentBuilder(SHAPE.decoder, SHAPE.schedule, SHAPE.rows(3), FRAMES)
MUCH = 1 << 30
NOTHING_OPEN = OpenSegments()


@dataclass
class Reads:
    """Counts the frames that had to be read from memory."""

    frames: list[int] = field(default_factory=list)

    def __call__(self, tokens: Float16Array) -> Tensor:
        self.frames.append(len(tokens))
        return torch.from_numpy(tokens.copy()).float()


@dataclass(frozen=True)
class Feed:
    """A feed's memory from its first frame on; a frame each second, at the slots."""

    slots: Int64Array
    tokens: Float16Array
    name: str = "hall"

    def wanted(self, first_s: int, end_s: int, opened: OpenSegments = NOTHING_OPEN) -> Wanted:
        """The window [first_s, end_s), with the context that its first segment needs."""
        window = Window(1000 * first_s, 1000 * end_s)
        from_s = GRID.context_from_ms(window) // 1000
        held = (self.slots >= from_s) & (self.slots < end_s)
        context = int((self.slots[held] < first_s).sum())
        return Wanted(self.name, self.tokens[held], self.slots[held], context, GRID.cover(window), opened)

    def opened(self, end_s: int) -> OpenSegments:
        """The feed's open segments after its frames before `end_s`."""
        own = self.slots < end_s
        ((state, _),) = BUILDER.advance(
            [OpenSegments()], [torch.from_numpy(self.tokens[own]).float()], [self.slots[own]]
        )
        return state


def feed(frames: int, name: str = "hall", first: int = 0) -> Feed:
    slots = np.arange(first, first + frames, dtype=np.int64)
    return Feed(slots, memory_tokens(frames, seed=len(name)), name)


def assert_same(views: Sequence[View], others: Sequence[View]) -> None:
    for one, other in zip(views, others, strict=True):
        assert (one.context, one.frames) == (other.context, other.frames)
        assert one.cache.lengths == other.cache.lengths
        for layer, end in enumerate(one.cache.lengths):
            for mine, theirs in ((one.cache.keys, other.cache.keys), (one.cache.values, other.cache.values)):
                torch.testing.assert_close(mine[layer][:, :end], theirs[layer][:, :end], atol=1e-4, rtol=0)


@QUICK
@given(
    st.sets(st.integers(0, 69), max_size=30),
    st.integers(0, 60),
    st.integers(1, 50),
    st.integers(0, 30),
)
def test_each_frame_of_a_window_is_in_one_view_as_its_segment_has_it(
    absent: set[int], first: int, seconds: int, forgotten: int
) -> None:
    """With gaps in the feed, and with frames from before that memory has forgotten."""
    slots = np.array([slot for slot in range(forgotten, 70) if slot not in absent], np.int64)
    tokens = memory_tokens(len(slots))
    this = Feed(slots, tokens)
    wanted = this.wanted(first, first + seconds)
    (views,) = SegmentCache(BUILDER, Reads(), MUCH).views([wanted])
    in_window = [slot for slot in slots.tolist() if first <= slot < first + seconds]
    assert sum(view.frames for view in views) == len(in_window)
    assert all(view.frames > 0 for view in views)
    expected = []
    for number in GRID.cover(Window(1000 * first, 1000 * (first + seconds))):
        own = [i for i, slot in enumerate(slots) if 0 <= slot - number * 8 < 16 and slot < first + seconds]
        asked = [i for i in own if slots[i] >= first]
        if asked:
            (segment,) = BUILDER.build([(number, slots[own], torch.from_numpy(tokens[own]).float())])
            expected.append(View(segment.cache, len(own) - len(asked)))
    assert_same(views, expected)


def test_open_kept_and_built_segments_give_equal_views() -> None:
    this = feed(40)
    reads = Reads()
    cache = SegmentCache(BUILDER, reads, MUCH)
    (opened,) = cache.views([this.wanted(29, 40, this.opened(40))])
    assert reads.frames == [] and cache.nbytes == 0, "open segments need nothing from memory, and are not kept twice"
    (built,) = cache.views([this.wanted(29, 40)])
    assert reads.frames == [16]
    (kept,) = cache.views([this.wanted(29, 40)])
    assert reads.frames == [16]
    assert_same(opened, built)
    assert kept[0].cache.keys[0].data_ptr() == built[0].cache.keys[0].data_ptr()
    assert_same(kept, built)


def test_a_window_that_ended_earlier_is_read_in_what_the_segment_was_then() -> None:
    this = feed(40)
    reads = Reads()
    cache = SegmentCache(BUILDER, reads, MUCH)
    (earlier,) = cache.views([this.wanted(30, 35, this.opened(40))])
    assert reads.frames == []
    (alone,) = SegmentCache(BUILDER, Reads(), MUCH).views([this.wanted(30, 35)])
    assert_same(earlier, alone)
    cache.views([this.wanted(30, 40)])
    (from_kept,) = cache.views([this.wanted(30, 35)])
    assert reads.frames == [16]
    assert_same(from_kept, alone)


def test_a_kept_segment_that_has_become_longer_is_built_anew() -> None:
    this = feed(40)
    reads = Reads()
    cache = SegmentCache(BUILDER, reads, MUCH)
    cache.views([this.wanted(30, 35)])
    (longer,) = cache.views([this.wanted(30, 38)])
    assert reads.frames == [11, 14]
    (again,) = cache.views([this.wanted(30, 38)])
    assert reads.frames == [11, 14]
    assert_same(longer, again)
    assert cache.nbytes == longer[0].cache.nbytes, "in the place of the shorter one"


@pytest.mark.parametrize("missing", [24, 25, 33, 36])
def test_a_segment_at_hand_with_other_frames_than_memory_is_not_used(missing: int) -> None:
    """A worker that saw a frame which memory does not hold, or began later than memory does."""
    this = feed(38)
    kept = this.slots != missing
    other = Feed(this.slots[kept], this.tokens[kept])
    reads = Reads()
    cache = SegmentCache(BUILDER, reads, MUCH)
    alone = SegmentCache(BUILDER, Reads(), MUCH)
    for of, by, frames in ((this, other, 14), (other, this, 13)):
        cache.clear()
        reads.frames.clear()
        (views,) = cache.views([of.wanted(30, 38, by.opened(38))])
        assert reads.frames == [frames]
        assert_same(views, alone.views([of.wanted(30, 38)])[0])
    cache.clear()
    cache.views([this.wanted(30, 38)])
    (views,) = cache.views([other.wanted(30, 38)])
    assert_same(views, alone.views([other.wanted(30, 38)])[0])


def test_as_many_frames_are_not_the_same_frames() -> None:
    this = feed(38)
    ones, others = (Feed(this.slots[kept], this.tokens[kept]) for kept in (this.slots != 25, this.slots != 33))
    cache = SegmentCache(BUILDER, Reads(), MUCH)
    (expected,) = SegmentCache(BUILDER, Reads(), MUCH).views([ones.wanted(30, 38)])
    assert_same(cache.views([ones.wanted(30, 38, others.opened(38))])[0], expected)
    cache.views([others.wanted(30, 38)])
    assert_same(cache.views([ones.wanted(30, 38)])[0], expected)


def test_a_segment_that_holds_nothing_but_context_is_no_view() -> None:
    """By hand: seconds 20 to 39 are read in the segments of 8 to 23 and 24 to 39; the feed was away from 20 to 23."""
    this = feed(40)
    present = (this.slots < 20) | (this.slots >= 24)
    away = Feed(this.slots[present], this.tokens[present])
    assert away.wanted(20, 40).segments == (1, 3)
    reads = Reads()
    (views,) = SegmentCache(BUILDER, reads, MUCH).views([away.wanted(20, 40)])
    assert [(view.context, view.frames) for view in views] == [(0, 16)]
    assert reads.frames == [16]


def test_feeds_do_not_share_segments_that_have_the_same_number() -> None:
    hall, yard = feed(40), feed(40, "the yard")
    cache = SegmentCache(BUILDER, Reads(), MUCH)
    both = cache.views([hall.wanted(20, 40), yard.wanted(20, 40)])
    again = cache.views([hall.wanted(20, 40), yard.wanted(20, 40)])
    for views, repeated, this in zip(both, again, (hall, yard), strict=True):
        assert_same(views, repeated)
        assert_same(views, SegmentCache(BUILDER, Reads(), MUCH).views([this.wanted(20, 40)])[0])
    assert not torch.equal(both[0][0].cache.values[0], both[1][0].cache.values[0])


def test_windows_read_together_are_each_window_alone() -> None:
    """Open, kept and missing ones among them, of one feed and of others, overlapping and not."""
    hall, yard = feed(60), feed(50, "the yard", 7)
    wanted = [
        hall.wanted(40, 60, hall.opened(60)),
        hall.wanted(3, 30),
        yard.wanted(12, 57, yard.opened(57)),
        hall.wanted(50, 60),
        yard.wanted(20, 21),
    ]
    cache = SegmentCache(BUILDER, Reads(), MUCH)
    cache.views([hall.wanted(8, 20)])
    for one, views in zip(wanted, cache.views(wanted), strict=True):
        (alone,) = SegmentCache(BUILDER, Reads(), MUCH).views([one])
        assert_same(views, alone)
    assert cache.views([]) == []


def test_no_more_is_kept_than_allowed_and_what_was_used_last_stays() -> None:
    this = feed(96)
    whole = BUILDER.build([(0, this.slots[:16], torch.from_numpy(this.tokens[:16]).float())])[0].cache.nbytes
    reads = Reads()
    cache = SegmentCache(BUILDER, reads, 2 * whole)

    def read(first: int) -> None:
        cache.views([this.wanted(first, first + 16)])
        assert cache.nbytes <= 2 * whole

    for first in (0, 16, 0, 32):  # 16 is the one that was not used for longest
        read(first)
    assert (len(reads.frames), cache.nbytes) == (3, 2 * whole)
    read(0)
    read(32)
    assert len(reads.frames) == 3
    read(16)
    assert len(reads.frames) == 4
    cache.clear()
    assert cache.nbytes == 0
    read(16)
    assert len(reads.frames) == 5


def test_a_cache_too_small_for_any_segment_still_gives_views() -> None:
    this = feed(40)
    cache = SegmentCache(BUILDER, Reads(), 10)
    for _ in range(2):
        (views,) = cache.views([this.wanted(10, 40)])
        assert [view.frames for view in views] == [14, 16]
        assert cache.nbytes == 0
