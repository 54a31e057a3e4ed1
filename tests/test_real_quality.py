"""What the figures on real footage are made of: the area under the curve, the truth by eye, and the contact sheet."""

from itertools import pairwise

import numpy as np
import pytest

from benchmarks.real_quality import (
    FPS,
    WATCHED,
    Judged,
    Part,
    Watched,
    auc,
    contact_sheet,
    held_out,
    pictures,
    told,
)
from standwatch.actors.footage import TRAINED_PART, bundled


def judged(truth: bool | None, probability: float) -> Judged:
    return Judged(1.5, np.full((40, 80, 3), 128, np.uint8), truth, probability)


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    """By hand: of 0.9, 0.4 against 0.5, 0.1 three pairs of four."""
    assert auc([0.9, 0.4], [0.5, 0.1]) == 0.75
    assert auc([0.9, 0.8], [0.2]) == 1.0
    assert auc([0.1], [0.2, 0.3]) == 0.0


def test_equal_scores_count_half() -> None:
    assert auc([0.5, 0.5], [0.5]) == 0.5
    assert auc([0.5, 0.9], [0.5, 0.1]) == pytest.approx((0.5 + 1 + 1 + 1) / 4)


def test_there_is_no_area_without_both_answers() -> None:
    with pytest.raises(ValueError, match="yes and no: 0 and 1 scores"):
        auc([], [0.5])


def test_what_is_in_no_span_cannot_be_told() -> None:
    part = Part((0, 1), yes=((2.0, 3.0),), no=((0.0, 1.5),))
    assert [part.truth(second) for second in (0.0, 1.0, 1.5, 2.0, 2.5, 3.0)] == [False, False, None, True, True, None]


@pytest.mark.parametrize("watched", WATCHED, ids=lambda watched: watched.figure)
def test_truth_was_written_down_for_footage_that_nothing_was_trained_on(watched: Watched) -> None:
    (video,) = [video for video in bundled() if video.name == watched.video]
    frames = held_out(video)
    seconds = [second for second, _ in frames]
    assert {later - one for one, later in pairwise(seconds)} == {1 / FPS}
    length_s = seconds[-1] + 1 / FPS
    assert seconds[0] >= TRAINED_PART[1] * length_s
    for part in watched.parts:
        spans = sorted((*part.yes, *part.no))
        assert part.yes and part.no
        assert all(one[1] <= later[0] for one, later in pairwise(spans)), "one frame would be both"
        assert all(seconds[0] <= start < end <= length_s for start, end in spans)


def test_parts_are_cut_from_every_frame() -> None:
    parts = Part((0, 1 / 3), (), ()), Part((2 / 3, 1), (), ())
    frame = np.zeros((2, 9, 3), np.uint8)
    frame[:, 6:] = 255
    found = list(pictures(Watched("figure", "video", "Is it?", parts), [(1.0, frame), (1.5, frame)]))
    assert [(second, int(picture.mean()), part) for second, picture, part in found] == [
        (1.0, 0, parts[0]),
        (1.5, 0, parts[0]),
        (1.0, 255, parts[1]),
        (1.5, 255, parts[1]),
    ]


def test_frames_that_cannot_be_told_do_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(WATCHED[0], [judged(True, 0.9), judged(None, 0.0), judged(False, 0.1)])
    said = capsys.readouterr().out
    assert "1 pictures with, mean probability 0.900; 1 without, 0.100; 1 left out" in said
    assert "real_person 1.000 target >=0.95 ok" in said
    assert not told(WATCHED[0], [judged(True, 0.1), judged(False, 0.1)])


def test_the_sheet_shows_every_picture_and_marks_wrong_ones() -> None:
    sheet = np.asarray(contact_sheet([[judged(True, 0.9)] * 8, [judged(True, 0.2)], [judged(None, 0.2)]]))
    tiles = (sheet == 128).all(-1).sum() / (72 * 144)
    assert tiles == pytest.approx(10, abs=0.1)
    rows = [sheet[row * 98 : row * 98 + 26].reshape(-1, 3).max(0).tolist() for row in range(3)]
    red, green, blue = rows[1]
    assert red > 200 and green == blue == 0, "a wrong answer is red"
    assert rows[0][1] > 200 and rows[0][0] < 200, "a right one is green"
    assert len(set(rows[2])) == 1, "what cannot be told is grey"
