"""What the quality figures are made of: intervals, calibration, and what counts as right."""

from pathlib import Path

import pytest
from PIL import Image

from benchmarks.quality import (
    Bin,
    Marked,
    calibration_error,
    draw_reliability,
    kinds_named,
    reliability,
    shard_numbers,
    told,
    wilson,
)
from standwatch.compression.tuning.quiz import Asked
from standwatch.compression.tuning.quiz_claims import Topic


def marked(probability: float | None, right: bool) -> Marked:
    return Marked(Asked(Topic.PRESENCE, "Is there a dog?", "Yes.", True), right, probability)


def test_the_interval_is_wilsons() -> None:
    """8 of 10 by the formula's usual tables: 0.490 .. 0.943; all of 10: 0.722 .. 1."""
    assert wilson(8, 10) == (pytest.approx(0.490, abs=1e-3), pytest.approx(0.943, abs=1e-3))
    assert wilson(10, 10) == (pytest.approx(0.722, abs=1e-3), pytest.approx(1.0))
    assert wilson(0, 7)[0] == 0 and str(wilson(0, 7)[0]) == "0.0"


def test_verdicts_that_are_right_as_often_as_they_say_are_calibrated() -> None:
    """By hand: ten at 0.8 of which eight are right; then all right, which is 0.2 more than said."""
    fair = [marked(0.8, number < 8) for number in range(10)]
    assert calibration_error(reliability(fair)) == pytest.approx(0.0, abs=1e-9)
    assert calibration_error(reliability([marked(0.8, True)] * 10)) == pytest.approx(0.2)
    assert calibration_error(reliability([marked(0.2, True)] * 10)) == pytest.approx(0.2), "no is as sure as yes"


def test_each_bin_counts_by_how_many_verdicts_are_in_it_and_words_do_not_count() -> None:
    """By hand: 5 at 1.0 all right (0 off), 15 at 0.6 all wrong (0.6 off)."""
    marks = [marked(1.0, True)] * 5 + [marked(0.6, False)] * 15 + [marked(None, False)] * 50
    low, high = reliability(marks)
    assert (low.sure, low.right, low.part) == pytest.approx((0.6, 0.0, 0.75))
    assert (high.sure, high.right, high.part) == pytest.approx((1.0, 1.0, 0.25))
    assert calibration_error(reliability(marks)) == pytest.approx(0.45)


def test_reliability_is_drawn(tmp_path: Path) -> None:
    draw_reliability([Bin(0.6, 0.5, 0.25), Bin(0.95, 0.9, 0.75)], tmp_path / "reliability.png")
    with Image.open(tmp_path / "reliability.png") as drawn:
        assert drawn.size == (500, 500)
        assert len(drawn.convert("RGB").getcolors(1 << 18)) > 10


def test_a_figure_prints_its_interval_and_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert not told("presence", [True] * 8 + [False] * 2, 0.97)
    said = capsys.readouterr().out
    assert "presence: 8 of 10 right, 95 % interval 0.490 .. 0.943" in said
    assert "presence 0.800 target >=0.97 short" in said
    assert told("presence", [True], None)
    assert not told("presence", [], None)


def test_kinds_are_found_by_their_names_the_longer_one_first() -> None:
    assert kinds_named("Two people and a police car.") == {"person", "police car"}
    assert kinds_named("A red car, then three dogs: nothing burnt.") == {"car", "dog"}
    assert kinds_named("Nothing.") == kinds_named("A scar, carpets.") == set()


def test_who_chooses_among_models_never_sees_the_figures_takes() -> None:
    """However many takes are wanted of either."""
    assert list(shard_numbers(96)) == [0, 1, 2] and list(shard_numbers(1)) == [0]
    wanted = (1, 32, 33, 128, 2_048)
    assert all(
        set(shard_numbers(one)).isdisjoint(shard_numbers(other, validation=True)) for one in wanted for other in wanted
    )
    assert [len(shard_numbers(takes, validation=True)) for takes in wanted] == [
        len(shard_numbers(takes)) for takes in wanted
    ]
    for takes in (0, 2_049):
        with pytest.raises(ValueError, match=f"takes: {takes} is not within 1..2048"):
            shard_numbers(takes)
