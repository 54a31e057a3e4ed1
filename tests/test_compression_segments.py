"""A feed without end in segments: however its frames come, a segment is what it would be built as at once."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from standwatch.compression.segments import Int64Array, OpenSegments, Segment, SegmentBuilder
from tests.tiny_models import QUICK, Shape, shape_of, shapes

TOLERANCE = 1e-4
SHAPE = shape_of()
FRAMES = 8  # slots of a segment
HOP = FRAMES // 2


def builder_of(shape: Shape) -> SegmentBuilder:
    return SegmentBuilder(shape.decoder, shape.schedule, shape.rows(3), FRAMES)


BUILDER = builder_of(SHAPE)


@st.composite
def feeds(draw: st.DrawFn) -> tuple[Int64Array, list[int]]:
    """Slots from anywhere, mostly neighbours, with gaps of all sizes; and the lengths of the clips they come in."""
    first = draw(st.integers(-30, 30))
    steps = draw(st.lists(st.sampled_from((1, 1, 1, 1, 2, 3, HOP, FRAMES, 25)), max_size=24))
    slots = np.cumsum([first, *steps]).astype(np.int64)
    lengths: list[int] = []
    while sum(lengths) < len(slots):
        lengths.append(min(draw(st.integers(1, 9)), len(slots) - sum(lengths)))
    return slots, lengths


def advanced(
    builder: SegmentBuilder, video: Tensor, slots: Int64Array, lengths: Sequence[int]
) -> tuple[OpenSegments, Tensor]:
    """A feed's state after all its clips, and the final states of every frame."""
    state, states, at = OpenSegments(), [], 0
    for length in lengths:
        ((state, final),) = builder.advance([state], [video[at : at + length]], [slots[at : at + length]])
        states.append(final)
        at += length
    return state, torch.cat(states)


def inside(number: int, slots: Int64Array) -> Int64Array:
    """Indices of the frames of a segment, from its definition."""
    return np.flatnonzero((slots >= number * HOP) & (slots < (number + 2) * HOP))


def assert_same(one: Segment, other: Segment) -> None:
    assert one.number == other.number
    assert one.slots.dtype == np.int64
    assert one.slots.tolist() == other.slots.tolist()
    assert one.cache.frames == other.cache.frames == len(one.slots)
    for layer in range(len(one.cache.keys)):
        end = one.cache.length(layer)
        assert end == other.cache.length(layer)
        for mine, theirs in ((one.cache.keys, other.cache.keys), (one.cache.values, other.cache.values)):
            torch.testing.assert_close(mine[layer][:, :end], theirs[layer][:, :end], atol=TOLERANCE, rtol=0)


@QUICK
@given(shapes(), feeds())
def test_open_segments_are_what_they_would_be_built_as_at_once(
    shape: Shape, feed: tuple[Int64Array, list[int]]
) -> None:
    builder, (slots, lengths) = builder_of(shape), feed
    video = shape.video(len(slots))
    state, _ = advanced(builder, video, slots, lengths)
    half = int(slots[-1]) // HOP
    assert [segment.number for segment in state.segments] == [half - 1, half]
    places = [inside(number, slots) for number in (half - 1, half)]
    at_once = builder.build(
        [(number, slots[own], video[own]) for number, own in zip((half - 1, half), places, strict=True)]
    )
    for segment, expected in zip(state.segments, at_once, strict=True):
        assert_same(segment, expected)
        assert state.find(segment.number) is segment
    assert state.find(half + 1) is state.find(half - 3) is None
    if (closed := state.find(half - 2)) is not None:
        own = inside(half - 2, slots)
        assert_same(closed, builder.build([(half - 2, slots[own], video[own])])[0])


@QUICK
@given(shapes(), feeds())
def test_a_frames_final_state_comes_from_the_segment_that_began_half_a_segment_before_it(
    shape: Shape, feed: tuple[Int64Array, list[int]]
) -> None:
    builder, (slots, lengths) = builder_of(shape), feed
    video = shape.video(len(slots))
    _, states = advanced(builder, video, slots, lengths)
    assert states.shape == (len(slots), 1, 24)
    for half in sorted({int(slot) // HOP for slot in slots}):
        own = inside(half - 1, slots)
        empty = shape.decoder.empty(shape.schedule, builder.prefix, FRAMES)
        expected = shape.decoder.append([empty], [video[own]]).frames[0]
        in_half = slots[own] // HOP == half
        assert in_half.any()
        torch.testing.assert_close(states[own[in_half]], expected[in_half], atol=TOLERANCE, rtol=0)


@QUICK
@given(st.lists(st.tuples(feeds(), feeds()), min_size=1, max_size=4))
def test_many_feeds_in_one_batch_are_each_feed_alone(
    histories: list[tuple[tuple[Int64Array, list[int]], tuple[Int64Array, list[int]]]],
) -> None:
    """Each with a past of its own, in another half, and a clip of another length that may cross halves."""
    states, videos, slots = [], [], []
    for place, ((before, lengths), (after, _)) in enumerate(histories):
        states.append(advanced(BUILDER, SHAPE.video(len(before), seed=place), before, lengths)[0])
        videos.append(SHAPE.video(len(after), seed=100 + place))
        slots.append(after - after[0] + before[-1] + 1)
    together = BUILDER.advance(states, videos, slots)
    for place, (state, final) in enumerate(together):
        ((alone, expected),) = BUILDER.advance([states[place]], [videos[place]], [slots[place]])
        for one, other in zip(state.segments, alone.segments, strict=True):
            assert_same(one, other)
        torch.testing.assert_close(final, expected, atol=TOLERANCE, rtol=0)


def test_every_frame_is_in_two_segments_and_read_in_the_older() -> None:
    """By hand: segments of 8 begin every 4; frame 6 is in 0 and 1, and 1 is half built when 8 to 11 come."""
    slots = np.arange(16, dtype=np.int64)
    video, state = SHAPE.video(16), OpenSegments()
    held: list[list[tuple[int, list[int]]]] = []
    for slot in slots:
        ((state, _),) = BUILDER.advance([state], [video[slot : slot + 1]], [slots[slot : slot + 1]])
        held.append([(segment.number, segment.slots.tolist()) for segment in state.segments])
    assert held[0] == [(-1, [0]), (0, [0])]
    assert held[6] == [(0, [0, 1, 2, 3, 4, 5, 6]), (1, [4, 5, 6])]
    assert held[8] == [(1, [4, 5, 6, 7, 8]), (2, [8])]
    assert held[15] == [(2, list(range(8, 16))), (3, [12, 13, 14, 15])]


def test_a_feed_that_never_ends_takes_the_memory_of_two_segments_and_the_one_closed_last() -> None:
    """Each full from the start: of prefix and 8 frames in every layer, keys and values, float32."""
    rows = sum(3 + FRAMES * n for n in SHAPE.schedule.tokens_by_layer)
    each = 2 * rows * SHAPE.config.kv_heads * SHAPE.config.head_dim * 4
    state, sizes = OpenSegments(), set()
    assert state.nbytes == 0
    for start in range(0, 120, 3):
        slots = np.arange(start, start + 3, dtype=np.int64)
        ((state, _),) = BUILDER.advance([state], [SHAPE.video(3, seed=start)], [slots])
        sizes.add(state.nbytes)
        assert len(state.segments) == 2
        assert all(len(segment.slots) <= FRAMES for segment in state.segments)
    assert sizes == {2 * each, 3 * each}


@pytest.mark.parametrize("frames", [1, 3, 5])
def test_the_segment_closed_last_is_found_whole_though_a_clip_reached_beyond_it(frames: int) -> None:
    video, state = SHAPE.video(20), OpenSegments()
    slots = np.arange(20, dtype=np.int64)
    for at in range(0, 20, frames):
        ((state, _),) = BUILDER.advance([state], [video[at : at + frames]], [slots[at : at + frames]])
    assert [segment.number for segment in state.segments] == [3, 4]
    closed = state.find(2)
    assert closed is not None and closed.slots.tolist() == list(range(8, 16))
    assert_same(closed, BUILDER.build([(2, slots[8:16], video[8:16])])[0])
    assert state.find(1) is None


def test_a_segment_built_at_once_takes_no_storage_for_frames_it_does_not_have() -> None:
    slots = np.array([8, 9, 11], dtype=np.int64)
    (segment,) = BUILDER.build([(2, slots, SHAPE.video(3))])
    assert segment.cache.capacity == 3
    assert BUILDER.build([]) == []
    assert BUILDER.advance([], [], []) == []


@pytest.mark.parametrize(
    ("slots", "frames"),
    [([5], 1), ([4], 1), ([6, 6], 2), ([8, 7], 2), ([6, 7], 3), ([6, 7, 8], 2), ([], 0), ([-1, 6], 2)],
)
def test_slots_that_do_not_follow_are_refused_and_nobody_is_moved(slots: list[int], frames: int) -> None:
    """Of a batch with a sound feed in it, too."""
    begun, _ = advanced(BUILDER, SHAPE.video(6), np.arange(6), [4, 2])
    before = [[tensor.clone() for tensor in segment.cache.save().values()] for segment in begun.segments]
    sound = OpenSegments()
    with pytest.raises(ValueError, match="slots: "):
        BUILDER.advance(
            [sound, begun], [SHAPE.video(1), SHAPE.video(frames)], [np.array([3]), np.array(slots, np.int64)]
        )
    assert sound.segments == ()
    for segment, held in zip(begun.segments, before, strict=True):
        assert all(map(torch.equal, segment.cache.save().values(), held))
    after = BUILDER.advance([begun], [SHAPE.video(9)[6:]], [np.arange(6, 9)])[0][0]
    at_once, _ = advanced(BUILDER, SHAPE.video(9), np.arange(9), [9])
    for one, other in zip(after.segments, at_once.segments, strict=True):
        assert_same(one, other)


def test_a_state_is_what_it_was_after_the_feed_has_gone_on() -> None:
    begun, _ = advanced(BUILDER, SHAPE.video(6), np.arange(6), [4, 2])
    before = [[tensor.clone() for tensor in segment.cache.save().values()] for segment in begun.segments]
    BUILDER.advance([begun], [SHAPE.video(5, seed=4)], [np.arange(6, 11)])
    for segment, held in zip(begun.segments, before, strict=True):
        assert all(map(torch.equal, segment.cache.save().values(), held))


def test_a_segment_knows_what_it_was_at_any_slot() -> None:
    slots = np.array([8, 9, 12, 15], dtype=np.int64)
    video = SHAPE.video(4)
    (segment,) = BUILDER.build([(2, slots, video)])
    assert segment.up_to(7) is None
    for slot, frames in ((8, 1), (9, 2), (11, 2), (12, 3), (14, 3), (15, 4), (99, 4)):
        earlier = segment.up_to(slot)
        assert earlier is not None
        (expected,) = BUILDER.build([(2, slots[:frames], video[:frames])])
        assert_same(earlier, expected)
