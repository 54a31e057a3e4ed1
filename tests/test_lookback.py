"""Which frames of the past a question needs; of a long span whole groups, spread over all of it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from standwatch.configs.schema import ReadingConfig
from standwatch.pipeline.lookback import context_from_ms, spread, thin
from standwatch.pipeline.segmentgrid import SegmentGrid
from standwatch.pipeline.types import Window, WindowTokens
from tests.questions_world import UNTIMED

SIZES = {"frames": st.integers(0, 3_000), "groups": st.integers(1, 40), "group": st.integers(1, 8)}


def window(frames: int) -> WindowTokens:
    """A window whose tokens, offsets and times all tell the frame's number."""
    numbers = np.arange(frames, dtype=np.int64)
    tokens = np.broadcast_to(numbers[:, None, None], (frames, 2, 3)).astype(np.float16)
    return WindowTokens("yard", Window(0, 10_000), "t", 0, 1_000 + numbers, 50 + numbers, tokens, "space")


@UNTIMED
@given(**SIZES)
def test_what_is_kept_is_in_order_within_bounds_and_whole_groups(frames: int, groups: int, group: int) -> None:
    most = groups * group
    kept = spread(frames, most, group).tolist()
    assert kept == sorted(set(kept))
    assert len(kept) <= most
    assert all(0 <= index < frames for index in kept)
    for index in kept:
        first = index // group * group
        if frames > most:
            assert set(range(first, min(first + group, frames))) <= set(kept)


@UNTIMED
@given(**SIZES)
def test_no_part_of_the_span_is_passed_over(frames: int, groups: int, group: int) -> None:
    most = groups * group
    kept = spread(frames, most, group)
    if frames <= most:
        assert kept.tolist() == list(range(frames))
    else:
        assert kept[0] == 0
        all_groups = -(-frames // group)
        widest = -(-all_groups // groups)
        taken = sorted({index // group for index in kept.tolist()})
        assert max(np.diff([*taken, all_groups])) <= widest


def test_only_reading_in_segments_needs_frames_before_the_window() -> None:
    grid, window = SegmentGrid(1.0, 8), Window(9_000, 12_000)
    assert context_from_ms(ReadingConfig(method="segments"), grid, window) == 4_000
    assert context_from_ms(ReadingConfig(method="passes"), grid, window) == 9_000


def test_ten_frames_thinned_to_four_are_two_pairs_from_the_start_and_the_middle() -> None:
    assert spread(10, 4, 2).tolist() == [0, 1, 4, 5]


def test_a_last_group_that_is_short_is_kept_short() -> None:
    assert spread(9, 8, 4).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert spread(5, 4, 2).tolist() == [0, 1, 2, 3]
    assert spread(24, 2, 4).tolist() == [0, 1], "fewer than a group may be all there is room for"
    assert spread(5, 4, 1).tolist() == [0, 1, 2, 3]


def test_a_window_that_fits_is_left_alone() -> None:
    short = window(8)
    assert thin(short, 8, 4) is short


def test_a_thinned_window_keeps_times_offsets_and_tokens_together() -> None:
    long = window(40)
    thinned = thin(long, 8, 4)
    kept = spread(40, 8, 4)
    assert len(kept) == 8
    np.testing.assert_array_equal(thinned.frame_ms, 1_000 + kept)
    np.testing.assert_array_equal(thinned.frame_offset, 50 + kept)
    np.testing.assert_array_equal(thinned.tokens[:, 0, 0], kept)
    assert (thinned.feed_id, thinned.window, thinned.token_space) == ("yard", long.window, "space")
    assert len(long.frame_ms) == 40
