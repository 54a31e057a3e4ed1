"""Real footage becomes lessons: what differs from the empty place is found, whole or not at all in every crop."""

import random

import numpy as np
import pytest

from standwatch.actors.footage import bundled
from standwatch.actors.lesson_footage import Film, seen_by
from standwatch.actors.real_lessons import TOPICS, RealFrame, real_frames, real_take
from standwatch.compression.tuning.quiz import quiz
from standwatch.compression.tuning.quiz_claims import Phrasing
from standwatch.compression.world.cutouts import differing
from standwatch.compression.world.seeing import Box
from tests.drawn_world import PLAIN
from tests.test_lesson_footage import MODEL

SIDE = 224
EMPTY = np.full((120, 160, 3), 90, np.uint8)


def standing(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    frame = EMPTY.copy()
    frame[top:bottom, left:right] = (220, 30, 30)
    return frame


def test_what_differs_from_the_background_is_found_also_at_the_border() -> None:
    (nothing, piece, cut) = differing([EMPTY, standing(24, 40, 96, 72), standing(40, 128, 120, 160)], EMPTY)
    assert nothing.area == 0
    _, box = piece.inside(Box(0, 0, 160, 120))
    assert (box.left, box.top, box.right, box.bottom) == pytest.approx((40, 24, 72, 96), abs=2)
    assert piece.area == pytest.approx(72 * 32 / EMPTY[..., 0].size, rel=0.15)
    part, half = piece.inside(Box(56, 0, 160, 120))
    assert part == pytest.approx(0.5, abs=0.05)
    assert half.left == 56 and half.right == pytest.approx(72, abs=2)
    assert piece.inside(Box(100, 0, 160, 120))[0] == 0
    assert cut.inside(Box(0, 0, 160, 120))[1].right == 160


def test_a_take_shows_something_whole_or_nothing_in_turn_and_says_where() -> None:
    frame = standing(24, 40, 96, 72)
    frames = [RealFrame(frame, "person", tuple(differing([frame], EMPTY))), RealFrame(EMPTY, "person", ())]
    for seed in range(40):
        picture, film = real_take(frames, seed, SIDE)
        assert picture.shape == (SIDE, SIDE, 3)
        red = np.argwhere(picture[..., 0].astype(int) - picture[..., 1] > 40)
        if seed % 2 == 0:
            assert not film.now
            assert len(red) == 0
            continue
        (one,) = film.now
        assert (one.name, one.colour) == ("person", "")
        found = (*red.min(0)[::-1], *(red.max(0)[::-1] + 1))
        assert (one.box.left, one.box.top, one.box.right, one.box.bottom) == pytest.approx(found, abs=5)
        again, _ = real_take(frames, seed, SIDE)
        assert np.array_equal(picture, again)


def test_what_cannot_be_shown_is_said() -> None:
    with pytest.raises(ValueError, match=r"^frames: none of 50 crops is of something whole"):
        real_take([RealFrame(EMPTY, "person", ())], 1, SIDE)


def test_of_things_side_by_side_a_crop_shows_some_whole_and_none_in_part() -> None:
    frame = standing(24, 20, 96, 40)
    frame[24:96, 110:130] = (220, 30, 30)
    both = differing([frame], EMPTY)[0].parts()
    assert [one.inside(Box(0, 0, 160, 120))[1].left for one in both] == pytest.approx([20, 110], abs=4)
    counts = set()
    for seed in range(1, 60, 2):
        picture, film = real_take([RealFrame(frame, "bottle", tuple(both), 0.3)], seed, SIDE)
        counts.add(len(film.now))
        red = picture[..., 0].astype(int) - picture[..., 1] > 40
        for one in film.now:
            box = one.box
            assert red[box.top : box.bottom, box.left : box.right].mean() > 0.7
            red[:, max(0, box.left - 9) : box.right + 9] = False
        assert not red.any()
    assert counts == {1, 2}


def test_the_bundled_videos_are_sometimes_empty_and_sometimes_not_and_an_example_says_so() -> None:
    frames = real_frames(bundled())
    counted = {name: [len(one.things) for one in frames if one.name == name] for name in ("person", "bottle")}
    assert len(frames) == sum(map(len, counted.values()))
    assert 25 < counted["person"].count(0) < 40
    assert 95 < counted["person"].count(1) < 115
    assert counted["bottle"].count(1) >= 8 and counted["bottle"].count(2) >= 12
    assert set(counted["person"]) == {0, 1} and set(counted["bottle"]) == {0, 1, 2}
    empty, full = seen_by(MODEL, Film(PLAIN, frames=frames).real(0, takes=2))
    assert len(empty.objects[0]) == 0 < len(full.objects[0])
    assert empty.features.shape == full.features.shape == (1, 4, 2 * 16)
    for name in counted:
        film = real_take([one for one in frames if one.name == name], 1, SIDE)[1]
        asked = quiz(film, random.Random(0), 200, TOPICS, Phrasing.TRAINING)
        presence = [one for one in asked if one.topic == "presence" and f" {name}" in one.question]
        assert {one.verdict for one in presence if f" {name} with" not in one.question} == {True}  # a cane, say
        assert {one.topic for one in asked} <= set(TOPICS)
