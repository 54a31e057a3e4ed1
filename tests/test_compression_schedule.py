"""What a schedule may be, beyond what the golden files hold."""

import pytest

from standwatch.compression.frame_selection import relevant_layers
from standwatch.compression.merging import merge_schedule
from standwatch.compression.schedule import build_schedule, runnable_schedule


def test_a_decoder_too_shallow_for_its_tokens_is_refused_and_told_the_depth() -> None:
    assert 0 in build_schedule(8, 16, "suffix").drop_steps
    with pytest.raises(ValueError, match="at least 9 layers"):
        runnable_schedule(8, 16, "suffix")


@pytest.mark.parametrize("layers", [9, 12])
def test_nine_and_twelve_layers_are_deep_enough_for_sixteen_tokens(layers: int) -> None:
    schedule = runnable_schedule(layers, 16, "suffix")
    assert schedule.tokens_by_layer[0] == 16
    assert schedule.tokens_by_layer[-1] == 1


def test_one_token_per_frame_is_the_trivial_schedule() -> None:
    schedule = runnable_schedule(4, 1, "suffix")
    assert schedule.tokens_by_layer == (1, 1, 1, 1)
    assert schedule.drop_steps == ()


def test_suffix_keeps_the_last_places_and_uniform_spreads() -> None:
    assert build_schedule(28, 16, "suffix").survivors(3) == tuple(range(1, 16))
    assert build_schedule(28, 16, "uniform").survivors(3) == (0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15)


def test_a_schedule_that_ends_earlier_is_the_same_up_to_there() -> None:
    whole = build_schedule(28, 16, "suffix")
    assert whole.first(9).layers == 9
    assert whole.first(9).tokens_by_layer == whole.tokens_by_layer[:9]
    assert whole.first(28) == whole


def test_an_unknown_way_of_keeping_is_refused() -> None:
    with pytest.raises(ValueError, match="keep"):
        build_schedule(28, 16, "prefix")


def test_relevant_layers_are_six_to_twentythree_of_twentyeight_and_scale() -> None:
    assert relevant_layers(28) == range(6, 24)
    assert relevant_layers(12) == range(3, 10)
    assert all(relevant_layers(layers) for layers in range(1, 40))


def test_merging_steps_of_the_real_geometry_and_of_odd_counts() -> None:
    assert merge_schedule(3136, 64) == (1568, 784, 392, 196, 98, 34)
    assert merge_schedule(784, 16) == (392, 196, 98, 49, 24, 9)
    assert merge_schedule(64, 64) == ()
    with pytest.raises(ValueError, match="image_px"):
        merge_schedule(9, 16)
