"""Scenes become examples: coded as cameras code, seen by the tower, with the truth of each frame beside it."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from standwatch.actors.lesson_footage import Film, recoded, seen_by
from standwatch.compression.tuning.quiz import IN_TIME
from standwatch.compression.tuning.quiz_claims import Topic
from standwatch.compression.tuning.quiz_events import orders
from standwatch.compression.tuning.shown import shown
from standwatch.compression.tuning.takes import ORDER, TEST_SEEDS, draw_take, with_context
from standwatch.compression.world.artwork import Artwork
from standwatch.compression.world.camera import Camera
from standwatch.compression.world.happenings import events_of
from standwatch.compression.world.script import What
from standwatch.compression.world.truth import is_clear
from standwatch.configs.schema import VisionConfig
from tests.drawn_world import PLAIN
from tests.tiny_models import TINY, tiny_xcomp

TOWER = VisionConfig(
    tower="dinov2", image_px=28, patch_px=14, width=16, heads=2, blocks=1, mlp_width=16, frames_per_clip=4
)
MODEL = tiny_xcomp(replace(TINY, vision=TOWER))


def test_a_shard_holds_its_takes_with_what_is_in_every_frame_and_the_same_each_time() -> None:
    examples = seen_by(MODEL, Film(PLAIN).shard(2, takes=3, for_tests=False))
    for number, example in enumerate(examples):
        take = draw_take(2 * 3 + number)
        camera = Camera(take.scene, PLAIN)
        assert (example.times_ms, example.source) == (take.times_ms, take.source)
        assert example.features.shape == (len(take.times_ms), 4, 2 * 16)  # mean and deviation of each cell
        assert example.features.isfinite().all()
        for t, objects in zip(take.times_ms, example.objects, strict=True):
            assert [one.name for one in objects] == [one.name for one in camera.seen(t) if is_clear(one)]
            assert all(0 <= edge <= 1 for one in objects for edge in one.box)
        assert 0 < len(example.asked) <= 24
    again = seen_by(MODEL, Film(Artwork(PLAIN.svgs)).shard(2, 3, False))
    for one, other in zip(examples, again, strict=True):
        assert torch.equal(one.features, other.features)
        assert one.asked == other.asked


def test_a_varied_shard_shows_the_same_places_at_the_same_times_drawn_by_its_own_hand() -> None:
    film = Film(PLAIN)
    plain, varied = film.shard(2, 3, False), film.shard(2, 3, False, varied=True)
    for one, other in zip(plain, varied, strict=True):
        assert (one.times_ms, one.source) == (other.times_ms, other.source)
        assert not np.array_equal(one.pictures, other.pictures)
    again = Film(Artwork(PLAIN.svgs)).shard(2, 3, False, varied=True)
    assert all(np.array_equal(one.pictures, other.pictures) for one, other in zip(varied, again, strict=True))


def test_scenes_and_places_for_tests_are_none_that_training_sees() -> None:
    places = {draw_take(seed).scene.stage.seed for seed in range(60)}
    kept = {draw_take(TEST_SEEDS + seed).scene.stage.seed for seed in range(60)}
    assert places and kept and not places & kept


def test_most_takes_are_single_frames_and_windows_keep_their_spacing() -> None:
    takes = [draw_take(seed) for seed in range(200)]
    single = [take for take in takes if len(take.times_ms) == 1]
    assert 100 < len(single) < 160
    for take in takes:
        assert take.times_ms[-1] < take.scene.length_ms
        assert len(set(np.diff(take.times_ms).tolist())) <= 1


def test_every_take_is_a_single_frame_where_only_stills_are_wanted() -> None:
    assert {len(draw_take(seed, stills=True).times_ms) for seed in range(40)} == {1}
    still = next(seed for seed in range(40) if len(draw_take(seed).times_ms) == 1)
    assert draw_take(still, stills=True) == draw_take(still)


def test_most_stills_of_a_kind_show_it_and_some_do_not() -> None:
    takes = [draw_take(seed, stills=True, of="person") for seed in range(60)]
    counts = Counter(sum(actor.kind.name == "person" for actor in take.scene.actors) for take in takes)
    assert {len(take.times_ms) for take in takes} == {1}
    assert counts[1] > 20 and counts[2] > 3 and counts[0] > 3
    for unknown in ("unicorn", "fall"):
        with pytest.raises(ValueError, match=f"of: '{unknown}' is no kind of object"):
            draw_take(0, stills=True, of=unknown)


def test_every_take_is_several_frames_where_only_windows_are_wanted() -> None:
    takes = [draw_take(seed, windows=True) for seed in range(40)]
    assert {len(take.times_ms) for take in takes} == {4, 8, 12, 16}
    window = next(seed for seed in range(40) if len(draw_take(seed).times_ms) > 1)
    assert takes[window] == draw_take(window)


@pytest.mark.parametrize(("of", "what"), [("fall", What.FALLS), ("fire", What.BURNS), ("rabbit", What.ENTERS)])
def test_windows_of_something_rare_show_it_as_often_as_not(of: str, what: What) -> None:
    shown, staged = 0, 0
    for seed in range(40):
        take = draw_take(seed, windows=True, of=of)
        events = [
            event for event in events_of(take.scene) if event.what is what and (of != "rabbit" or event.name == of)
        ]
        assert len(events) <= 1
        assert take.times_ms[0] >= 0 and take.times_ms[-1] < take.scene.length_ms
        staged += bool(events)
        shown += any(event.start_ms <= take.times_ms[-1] and event.end_ms >= take.times_ms[0] for event in events)
    assert staged > 25
    assert 8 < shown < staged - 4


def test_windows_of_order_show_two_events_and_what_is_asked_is_what_happened_and_when() -> None:
    takes = [draw_take(seed, windows=True, of=ORDER) for seed in range(20)]
    assert min(len(take.times_ms) for take in takes) == 8
    told = [shown(Camera(take.scene, PLAIN), take.times_ms) for take in takes]
    assert sum(bool(orders(one)) for one in told) > 12  # of windows anywhere, one in five
    shots = Film(PLAIN).shard(0, 4, False, windows=True, of=ORDER)
    topics = {asked.topic for shot in shots for asked in shot.asked}
    assert {Topic.ORDER, Topic.EVENT} <= topics <= set(IN_TIME)
    assert [shot.source for shot in shots] == [take.source for take in takes[:4]]


def test_a_window_can_be_of_no_act_that_happens_all_the_time() -> None:
    with pytest.raises(
        ValueError, match="of: 'crossing' is no kind of object, and of windows none of fall, fire, left"
    ):
        draw_take(0, windows=True, of="crossing")


def test_a_window_is_the_same_behind_context_and_a_single_frame_has_none() -> None:
    for seed in range(60):
        take = draw_take(seed)
        behind = with_context(take)
        assert behind.times_ms[behind.context :] == take.times_ms
        assert (behind.scene, behind.source) == (take.scene, take.source)
        if len(take.times_ms) == 1:
            assert behind == take
        else:
            assert 0 <= behind.context <= 48
            assert behind.times_ms[0] >= 0 and len(set(np.diff(behind.times_ms).tolist())) == 1
    assert len({with_context(draw_take(seed)).context for seed in range(60)}) > 10


def test_what_is_asked_is_about_the_window_alone_whatever_came_before_it() -> None:
    alone, behind = (Film(PLAIN).shard(2, 3, False, context=context) for context in (False, True))
    assert [shot.asked for shot in behind] == [shot.asked for shot in alone]
    assert any(shot.context for shot in behind)
    for example, shot, one in zip(seen_by(MODEL, behind), behind, alone, strict=True):
        assert len(example.features) == len(example.objects) == len(shot.times_ms) == len(one.times_ms) + shot.context
        assert (example.context, example.window_ms) == (shot.context, one.times_ms)
        assert example.objects[shot.context :] == one.objects
        assert example.duration_s == pytest.approx(seen_by(MODEL, [one])[0].duration_s)


def test_a_picture_is_coded_with_loss_and_more_of_it_at_a_worse_quality() -> None:
    chance = np.random.default_rng(0)
    smooth = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3)
    pictures = np.clip(smooth + chance.normal(0, 20, (3, 64, 64, 3)), 0, 255).astype(np.uint8)
    good, bad = (np.abs(recoded(pictures, quality).astype(int) - pictures).mean() for quality in (20, 40))
    assert 0 < good < bad < 40


@pytest.mark.parametrize("count", [1, 5])
def test_every_picture_comes_back_in_its_place(count: int) -> None:
    pictures = np.stack([np.full((64, 64, 3), 40 * number, np.uint8) for number in range(count)])
    assert np.abs(recoded(pictures, 22).astype(int) - pictures).max() < 12
