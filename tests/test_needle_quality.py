"""What the needle's figures are made of: scenes with one rare event, passes that score every frame, and recall."""

from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest

from benchmarks.needle_quality import (
    GAP_MS,
    HALF_WINDOW,
    KEEP,
    PASS_FRAMES,
    Needle,
    Seeker,
    frame_count,
    interval,
    needles,
    passes,
    recall,
)
from standwatch.compression.compressor import Float16Array
from standwatch.compression.frame_sampling import GROUP
from standwatch.compression.frame_selection import sum_passes
from standwatch.compression.qcomp import UNCOVERED, ScoreType
from standwatch.compression.reader import DUPLICATE, SEGMENTS, WHOLE
from standwatch.compression.tuning.takes import draw_take
from standwatch.compression.world.truth import named
from tests.drawn_world import PLAIN
from tests.tiny_models import TINY


@pytest.fixture(scope="module")
def found() -> list[Needle]:
    return list(islice(needles(PLAIN, 128), 4))


def test_recall_is_the_share_of_the_frames_that_show_it() -> None:
    assert recall([1, 2, 3, 9], [2, 3, 4, 5], keep=4) == 0.5
    assert recall([1, 2], [1], keep=2) == 1.0
    assert recall([1, 2], [7], keep=2) == 0.0


def test_more_frames_than_are_selected_cannot_all_be_found() -> None:
    assert recall([0, 1], range(100), keep=2) == 1.0
    assert recall([0, 200], range(100), keep=2) == 0.5


def test_there_is_no_recall_of_nothing() -> None:
    with pytest.raises(ValueError, match="shown: no frame"):
        recall([1], [], keep=32)


def test_half_an_hour_is_two_passes_that_fit_into_the_models_positions() -> None:
    assert frame_count(30) == 2 * PASS_FRAMES
    assert frame_count(30) * GAP_MS == pytest.approx(30 * 60_000, rel=0.002)
    assert (PASS_FRAMES + 2 * HALF_WINDOW) * 16 + 400 < 8_192
    with pytest.raises(ValueError, match="minutes: 2 are less"):
        frame_count(2)


@pytest.mark.parametrize("score_type", [WHOLE, SEGMENTS], ids=["global", "segment-local"])
@pytest.mark.parametrize("frames", [64, 128, 832])
def test_every_frame_is_scored_in_two_passes(frames: int, score_type: ScoreType) -> None:
    ours = passes(frames, score_type)
    times = np.zeros(frames)
    scores = []
    for numbers in ours:
        covered = np.ones(len(numbers) // GROUP)
        if score_type is SEGMENTS:
            for start in SEGMENTS.window_starts(len(covered)):
                covered[start : start + SEGMENTS.window] += 1
        valid = covered == covered.max()
        np.add.at(times, numbers[valid.repeat(GROUP)], 1)
        scores.append(np.where(valid, 1.0, UNCOVERED)[None])
    assert set(times) == {DUPLICATE}
    assert set(sum_passes(ours, scores, frames)) == {1.0}


def test_the_second_time_frames_are_in_other_clips() -> None:
    first, _, second, _ = passes(832, SEGMENTS)
    assert (second[0] - first[0]) % GROUP == GROUP // DUPLICATE


def test_each_scene_shows_its_event_once_at_a_place_of_the_tests(found: list[Needle]) -> None:
    kinds, acts = [needle.what for needle in found[:2]], [needle.what for needle in found[2:]]
    assert acts == ["fall", "fire"]
    trained_on = {draw_take(seed).scene.stage.seed for seed in range(200)}
    for needle, what in zip(found, (*kinds, "person", "fire"), strict=True):
        scene = needle.camera.scene
        assert scene.stage.seed not in trained_on
        assert len(needle.times_ms) == 128 and needle.shown
        for frame in needle.shown:
            assert named(needle.camera.seen(needle.times_ms[frame]), what)
    for needle in (*found[:2], found[3]):
        actors = [one for one in needle.camera.scene.actors if needle.what in (one.kind.name, *one.kind.also)]
        assert len(actors) == 1


def test_questions_are_asked_in_words_of_the_test(found: list[Needle]) -> None:
    kind, _, fall, fire = found
    assert fall.question == "Did the camera see anyone fall?"
    assert fire.question == "Could you check whether there was a fire?"
    assert replace(kind, what="umbrella").question == "Could you check whether there was an umbrella?"
    assert kind.duration_s == 128 * GAP_MS / 1000


def test_the_same_scenes_come_again(found: list[Needle]) -> None:
    (again,) = islice(needles(PLAIN, 128), 1)
    assert (again.what, again.shown, again.camera.scene) == (found[0].what, found[0].shown, found[0].camera.scene)


def test_every_way_selects_frames_in_the_order_of_time() -> None:
    seeker = Seeker(TINY)
    tokens: Float16Array = np.random.default_rng(1).normal(size=(96, 4, 24)).astype(np.float16)
    question = tokens, "Was there a dog?", 400.0
    whole, local = (seeker.in_passes(score_type, *question).tolist() for score_type in (WHOLE, SEGMENTS))
    for chosen in (whole, local, seeker.as_asked(*question).tolist()):
        assert len(chosen) == KEEP
        assert all(one < later for one, later in pairwise(chosen))
        assert chosen[0] >= 0 and chosen[-1] < 96
    assert whole != local
    for chosen in (whole, local):
        groups = {frame // (GROUP // DUPLICATE) for frame in chosen}
        assert len(groups) * GROUP // DUPLICATE == KEEP, "both passes count for each frame"


def test_memory_holds_one_row_of_tokens_for_each_frame() -> None:
    pictures = np.random.default_rng(2).integers(0, 255, (6, 32, 32, 3), np.uint8)
    assert Seeker(TINY).tokens(pictures).shape == (6, 4, 24)


def test_the_interval_is_that_of_the_mean() -> None:
    """By hand: of ten scenes of which five count 1, the mean has a standard error of 0.158."""
    low, high = interval([0.0, 1.0] * 5)
    assert low == pytest.approx(0.5 - 1.96 * 0.158, abs=0.05)
    assert high == pytest.approx(0.5 + 1.96 * 0.158, abs=0.05)
    assert interval([0.5] * 4) == (0.5, 0.5)
