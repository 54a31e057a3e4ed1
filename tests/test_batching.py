"""Clips of many feeds become batches in their order, none waits too long, and no position is told too early."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from standwatch.pipeline.batching import Batch, ClipBatcher
from standwatch.pipeline.flow import Intake
from standwatch.pipeline.types import Clip, SourceOffset
from tests.questions_world import UNTIMED


def clip(number: int, feed: str = "a") -> Clip:
    """A clip that is told from others by the offset it came from."""
    at = SourceOffset("t", 0, number)
    return Clip(feed, at, np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros((1, 1, 1, 3), np.uint8), ())


def intake(clips: Sequence[int] = (), **positions: int) -> Intake:
    return Intake(tuple(map(clip, clips)), {int(p[1:]): offset for p, offset in positions.items()}, (), {})


def said(batches: Sequence[Batch]) -> list[tuple[list[int], dict[int, int]]]:
    return [([one.at.offset for one in batch.clips], dict(batch.positions)) for batch in batches]


def test_a_batch_goes_when_it_is_full_and_its_position_with_its_last_clip() -> None:
    batcher = ClipBatcher(3, 100, {})
    batcher.add(intake([1, 2], p0=2), 0)
    assert said(batcher.release(0)) == []
    batcher.add(intake([3, 4], p0=4), 10)
    assert said(batcher.release(10)) == [([1, 2, 3], {0: 2})]
    batcher.add(intake([5, 6], p1=7, p0=4), 20)
    assert said(batcher.release(20)) == [([4, 5, 6], {0: 4, 1: 7})]


def test_a_large_intake_is_several_batches_and_only_the_last_tells_its_position() -> None:
    batcher = ClipBatcher(2, 0, {})
    batcher.add(intake([1, 2, 3, 4, 5], p0=9), 0)
    assert said(batcher.release(0)) == [([1, 2], {}), ([3, 4], {}), ([5], {0: 9})]


def test_what_waits_goes_when_the_oldest_has_waited() -> None:
    batcher = ClipBatcher(8, 100, {})
    assert batcher.left_ms(0) is None
    batcher.add(intake([1], p0=1), 50)
    batcher.add(intake([2], p0=2), 120)
    assert (batcher.left_ms(120), said(batcher.release(149))) == (30, [])
    assert said(batcher.release(150)) == [([1, 2], {0: 2})]
    assert batcher.left_ms(150) is None


def test_a_caller_that_comes_late_is_not_told_to_wait_a_negative_time() -> None:
    batcher = ClipBatcher(8, 100, {})
    batcher.add(intake([1]), 0)
    assert batcher.left_ms(500) == 0


def test_everything_goes_when_asked_for() -> None:
    batcher = ClipBatcher(8, 10_000, {})
    batcher.add(intake([1], p0=1), 0)
    assert said(batcher.release(0, everything=True)) == [([1], {0: 1})]
    assert said(batcher.release(0, everything=True)) == []


def test_a_position_without_clips_goes_at_once_and_not_before_clips_that_wait() -> None:
    batcher = ClipBatcher(8, 100, {0: 3, 1: 5})
    batcher.add(intake([], p0=4, p1=5), 0)
    assert said(batcher.release(0)) == [([], {0: 4})], "and one that has not moved is no news"
    batcher.add(intake([1], p0=5), 0)
    batcher.add(intake([], p0=9), 10)
    assert said(batcher.release(10)) == []
    assert said(batcher.release(100)) == [([1], {0: 9})]
    batcher.add(intake([], p0=9), 200)
    assert said(batcher.release(200)) == []


STEPS = st.lists(
    st.tuples(
        st.integers(0, 5),  # clips of the intake
        st.dictionaries(st.integers(0, 2), st.integers(0, 4), max_size=3),  # how far partitions move with it
        st.integers(0, 120),  # milliseconds until it comes
        st.booleans(),  # whether the caller looks for what is to go
        st.booleans(),  # whether it asks for everything then
    ),
    max_size=25,
)


@UNTIMED
@given(steps=STEPS, size=st.integers(1, 6), wait_ms=st.integers(0, 100), cut=st.integers(0, 60))
def test_no_position_is_told_before_its_clips_and_each_clip_comes_once_in_order(
    steps: list[tuple[int, dict[int, int], int, bool, bool]], size: int, wait_ms: int, cut: int
) -> None:
    batcher = ClipBatcher(size, wait_ms, {})
    needed: dict[tuple[int, int], int] = {}  # how many clips must be in memory before a position is true
    positions: dict[int, int] = {}
    batches: list[Batch] = []
    number = clock = 0
    for clips, moved, later_ms, looks, everything in steps:
        clock += later_ms
        positions = dict(positions)
        for partition, by in moved.items():
            positions[partition] = positions.get(partition, 0) + by
        numbers = range(number, number + clips)
        number += clips
        for partition, offset in positions.items():
            needed.setdefault((partition, offset), number)
        batcher.add(Intake(tuple(map(clip, numbers)), positions, (), {}), clock)
        if looks:
            batches += batcher.release(clock, everything)
            left = batcher.left_ms(clock)
            held = number - sum(len(batch.clips) for batch in batches)
            assert held < size and (held == 0 or not everything)
            assert (left is None) == (held == 0) and (left is None or 0 < left <= wait_ms)
    batches += batcher.release(clock, everything=True)

    assert [one.at.offset for batch in batches for one in batch.clips] == list(range(number))
    assert all(len(batch.clips) <= size for batch in batches)
    durable = 0
    told: dict[int, int] = {}
    for batch in batches[:cut]:  # a crash may come after any of them
        durable += len(batch.clips)
        assert batch.clips or batch.positions, "nothing is sent in vain"
        for partition, offset in batch.positions.items():
            assert needed[partition, offset] <= durable
            assert offset > told.get(partition, -1), "only what has moved is told"
            told[partition] = offset
    if cut >= len(batches):
        assert told == positions, "in the end every position is told"


def test_a_clip_waits_no_longer_than_configured_however_often_others_come() -> None:
    batcher = ClipBatcher(100, 50, {})
    gone: dict[int, int] = {}
    for at_ms in range(0, 1_000, 7):
        batcher.add(intake([at_ms]), at_ms)
        for batch in batcher.release(at_ms):
            gone.update((one.at.offset, at_ms) for one in batch.clips)
    assert len(gone) > 100
    assert max(left - came for came, left in gone.items()) <= 50 + 7


@pytest.mark.parametrize("size", [1, 2, 7])
def test_batches_mix_feeds_and_keep_the_order_of_each(size: int) -> None:
    batcher = ClipBatcher(size, 0, {})
    batcher.add(Intake(tuple(clip(number, "abc"[number % 3]) for number in range(9)), {}, (), {}), 0)
    out = [one for batch in batcher.release(0) for one in batch.clips]
    for feed in "abc":
        numbers = [one.at.offset for one in out if one.feed_id == feed]
        assert numbers == sorted(numbers) and len(numbers) == 3
