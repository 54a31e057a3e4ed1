"""Segments lie where the clock says, and every frame of a window is read in exactly one of them."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from standwatch.pipeline.sampling import SampleGrid
from standwatch.pipeline.segmentgrid import SegmentGrid
from standwatch.pipeline.types import Window
from tests.questions_world import UNTIMED

RATES = st.sampled_from((0.001, 0.1, 1 / 3, 0.5, 1.0, 2.0, 2.5, 7.3, 29.97, 30.0, 60.0))
SIZES = st.sampled_from((2, 16, 48, 64, 1024))
TIMES = st.one_of(st.integers(-100_000, 100_000), st.integers(1_700_000_000_000, 1_900_000_000_000))


def slot_by_definition(fps: float, at_ms: int) -> int:
    rate = Fraction(fps).limit_denominator(1000)
    return int(Fraction(at_ms) * rate / 1000 // 1)


def slots_of(fps: float, window: Window) -> range:
    return range(slot_by_definition(fps, window.from_ms), slot_by_definition(fps, window.to_ms - 1) + 1)


@st.composite
def windows(draw: st.DrawFn) -> tuple[float, int, Window]:
    """A rate, a segment size and a window of up to some six segments."""
    fps, size = draw(RATES), draw(SIZES)
    start = draw(TIMES)
    slots = draw(st.integers(0, 6 * min(size, 64)))
    return fps, size, Window(start, start + 1 + round(slots / fps * 1000) + draw(st.integers(0, 999)))


@UNTIMED
@given(RATES, SIZES, st.lists(TIMES, max_size=20))
def test_slots_are_those_that_frames_are_sampled_by(fps: float, size: int, times: list[int]) -> None:
    slots = SegmentGrid(fps, size).slots(np.array(times, np.int64)).tolist()
    assert slots == [SampleGrid(fps).slot(at) for at in times] == [slot_by_definition(fps, at) for at in times]


@UNTIMED
@given(windows())
def test_every_slot_of_a_window_is_in_exactly_one_segment_of_its_cover(given_: tuple[float, int, Window]) -> None:
    fps, size, window = given_
    hop = size // 2
    cover = SegmentGrid(fps, size).cover(window)
    assert list(cover) == sorted(set(cover))
    for slot in slots_of(fps, window):
        assert sum(k * hop <= slot < (k + 2) * hop for k in cover) == 1
    held = set(slots_of(fps, window))
    assert all(held & set(range(k * hop, (k + 2) * hop)) for k in cover), "no segment without a slot of the window"


@UNTIMED
@given(windows())
def test_the_last_half_of_a_window_is_read_with_a_half_before_it(given_: tuple[float, int, Window]) -> None:
    fps, size, window = given_
    hop, slots = size // 2, slots_of(fps, window)
    cover = SegmentGrid(fps, size).cover(window)
    assert cover[-1] == slots[-1] // hop - 1
    if len(slots) <= hop:
        assert len(cover) == 1


@UNTIMED
@given(RATES, SIZES, st.integers(-(10**9), 10**9))
def test_a_segment_starts_at_the_first_millisecond_of_its_first_slot(fps: float, size: int, number: int) -> None:
    start = SegmentGrid(fps, size).start_ms(number)
    assert slot_by_definition(fps, start) >= number * (size // 2) > slot_by_definition(fps, start - 1)


@UNTIMED
@given(windows())
def test_context_holds_the_first_segment_and_the_window_and_nothing_earlier(given_: tuple[float, int, Window]) -> None:
    fps, size, window = given_
    grid = SegmentGrid(fps, size)
    assert grid.context_from_ms(window) == min(window.from_ms, grid.start_ms(grid.cover(window)[0]))


@UNTIMED
@given(RATES, SIZES, TIMES, st.integers(0, 10_000_000))
def test_whatever_comes_after_a_frame_is_read_in_segments_that_a_replay_holds_whole(
    fps: float, size: int, last_ms: int, later_ms: int
) -> None:
    grid = SegmentGrid(fps, size)
    replay = grid.replay_from_ms(last_ms)
    assert replay <= last_ms
    (own,) = grid.cover(Window(last_ms, last_ms + 1))
    assert replay == grid.start_ms(own)
    (coming,) = grid.cover(Window(last_ms + later_ms, last_ms + later_ms + 1))
    assert grid.start_ms(coming) >= replay


def test_an_empty_window_is_read_in_no_segment() -> None:
    grid = SegmentGrid(1.0, 64)
    assert grid.cover(Window(5_000, 5_000)) == grid.cover(Window(500_000, 5_000)) == ()
    assert grid.context_from_ms(Window(5_000, 5_000)) == 5_000


def test_a_window_of_a_million_years_costs_no_more_to_find_the_start_of() -> None:
    grid = SegmentGrid(60.0, 16)
    assert grid.context_from_ms(Window(0, 2**60)) <= 0


def test_an_example_by_hand() -> None:
    """One frame a second, segments of 8: halves begin at 0, 4, 8, 12 s; segment 1 holds the seconds 4 to 11."""
    grid = SegmentGrid(1.0, 8)
    assert (grid.start_ms(1), grid.start_ms(-1)) == (4_000, -4_000)
    assert grid.cover(Window(9_000, 12_000)) == (1,)
    assert grid.cover(Window(9_000, 13_000)) == (2,)
    assert grid.cover(Window(3_000, 13_000)) == (0, 2)
    assert grid.context_from_ms(Window(9_000, 12_000)) == 4_000
    assert grid.replay_from_ms(9_500) == 4_000


@pytest.mark.parametrize("frames", [0, 1, 7, -2])
def test_a_segment_without_two_halves_is_refused(frames: int) -> None:
    with pytest.raises(ValueError, match="segment_frames"):
        SegmentGrid(1.0, frames)
