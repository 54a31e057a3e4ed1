"""The pixels of a rendered world, and the truth about them."""

import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from standwatch.compression.world.artwork import Artwork, Cutout
from standwatch.compression.world.camera import Camera
from standwatch.compression.world.director import direct, still
from standwatch.compression.world.kinds import Role
from standwatch.compression.world.script import Daylight, Doing, Scene
from standwatch.compression.world.seeing import Heading, Seen
from standwatch.compression.world.sites import SITES, Fixture, Place, Stage, Zone
from tests.drawn_world import MIDNIGHT, NOON, PLAIN, bare, plain_svgs, scene, standing, walking

UInt8Array = npt.NDArray[np.uint8]
TIMES = (0, 100, 7_300, 30_000, 30_100, 59_900)


def only(seen: tuple[Seen, ...]) -> Seen:
    (one,) = seen
    return one


def differing(one: UInt8Array, other: UInt8Array) -> npt.NDArray[np.bool_]:
    return np.asarray((one != other).any(-1))


def busy(site: str, seed: int = 5) -> Scene:
    return direct(seed, site, 1, 20)


def test_a_moment_looks_the_same_whatever_was_asked_for_before() -> None:
    forth, back = Camera(busy("dock"), PLAIN), Camera(busy("dock"), PLAIN)
    frames = {time: forth.frame(time) for time in TIMES}
    assert all(np.array_equal(back.frame(time), frames[time]) for time in reversed(TIMES))
    assert [forth.seen(time) for time in TIMES] == [back.seen(time) for time in TIMES]
    assert len({frame.tobytes() for frame in frames.values()}) == len(TIMES)


def test_another_process_draws_the_same_picture() -> None:
    program = (
        "import zlib\n"
        "from tests.test_world_camera import busy, Camera, PLAIN\n"
        "print(zlib.crc32(Camera(busy('street'), PLAIN).frame(12_345).tobytes()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100)
    assert int(done.stdout) == zlib.crc32(Camera(busy("street"), PLAIN).frame(12_345).tobytes())


def test_frames_come_at_the_scenes_rate_and_are_those_of_their_times() -> None:
    camera = Camera(busy("shop"), PLAIN)
    frames = list(camera.frames(29_950, 30_450))
    assert [time for time, _ in frames] == [30_000, 30_100, 30_200, 30_300, 30_400]
    assert all(np.array_equal(frame, camera.frame(time)) for time, frame in frames)
    assert frames[0][1].shape == (224, 224, 3)
    assert frames[0][1].dtype == np.uint8


@pytest.mark.parametrize("site", SITES)
def test_without_an_object_only_its_box_and_the_shadow_below_it_are_different(site: str) -> None:
    whole = still(3, site, 6)
    camera, checked = Camera(whole, PLAIN), 0
    for seen in camera.seen(500):
        others = [actor for actor in whole.actors if actor.number != seen.actor]
        without = Camera(replace(scene(whole.stage, others), light=whole.light), PLAIN).frame(500)
        changed = differing(camera.frame(500), without)
        box, shadow = seen.box, 3 + (seen.box.right - seen.box.left) // 5
        assert changed.sum() > 20 or seen.visible < 0.2 or seen.light < 0.2
        changed[box.top : box.bottom + shadow, box.left : box.right] = False
        assert not changed.any(), seen
        checked += 1
    assert checked >= 4


def visible_px(scene_: Scene, number: int) -> int:
    """Pixels that change when an actor is taken out of a scene."""
    others = [actor for actor in scene_.actors if actor.number != number]
    without = replace(scene(scene_.stage, others), light=scene_.light)
    return int(differing(Camera(scene_, PLAIN).frame(500), Camera(without, PLAIN).frame(500)).sum())


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.45, 1.2])
def test_what_is_hidden_is_not_counted_as_visible(shift: float) -> None:
    stage = bare()
    z = stage.lens.near_m * 1.3
    hidden, cover = standing("plant", 0, z), standing("plant", shift, z - 0.01)
    both, alone = scene(stage, [hidden, cover]), scene(stage, [hidden])
    part = visible_px(both, 0) / visible_px(alone, 0)
    seen = {one.actor: one for one in Camera(both, PLAIN).seen(500)}
    assert seen[1].visible == 1.0
    assert seen[0].visible == pytest.approx(part, abs=0.12)  # the shadow changes pixels too
    assert seen[0].visible == pytest.approx(min(1, shift / (1.15 / 2)), abs=0.06)


def test_a_fixture_hides_what_is_behind_it_and_nothing_before_it() -> None:
    stage = bare("dock")
    z = stage.lens.near_m * 1.3
    pillar = Fixture("pillar", 0.0, z, 2.0, 3.0, 0.3)
    scene_ = scene(replace(stage, fixtures=(pillar,)), [standing("person", 0, z + 1), standing("person", 0, z - 0.5)])
    behind, before = Camera(scene_, PLAIN).seen(500)
    assert (behind.actor, behind.visible) == (0, 0.0)
    assert (before.actor, before.visible) == (1, 1.0)


@pytest.mark.parametrize("side", [-1, 1])
def test_half_outside_the_picture_is_half_visible_and_its_box_ends_at_the_border(side: int) -> None:
    stage = bare()
    z = stage.lens.near_m * 1.2
    seen = only(Camera(scene(stage, [standing("person", side * stage.lens.half_width_m(z), z)]), PLAIN).seen(0))
    assert seen.visible == pytest.approx(0.5, abs=0.05)
    assert (seen.box.left, seen.box.right)[side > 0] == (0, 224)[side > 0]
    assert seen.size_px == pytest.approx(1.75 * stage.lens.scale(z), abs=1)


def test_what_is_beside_the_picture_is_not_seen() -> None:
    stage = bare()
    z = stage.lens.near_m * 1.2
    away = stage.lens.half_width_m(z) + 2
    assert Camera(scene(stage, [standing("person", away, z), standing("person", -away, z)]), PLAIN).seen(0) == ()


def test_farther_is_smaller_and_higher_in_the_picture() -> None:
    stage = bare()
    near, far = stage.lens.near_m, stage.lens.near_m * 2
    first, second = Camera(scene(stage, [standing("box", 0, near), standing("box", 0, far)]), PLAIN).seen(0)
    assert (first.actor, second.actor) == (1, 0), "the farthest comes first"
    assert second.size_px == pytest.approx(2 * first.size_px, abs=2)
    assert first.box.bottom < second.box.bottom <= 224


@pytest.mark.parametrize(
    ("along", "into", "heading"),
    [(2, 0, Heading.RIGHT), (-2, 0.5, Heading.LEFT), (0.2, 2, Heading.AWAY), (0, -2, Heading.CLOSER)],
)
def test_heading_is_told_from_the_path(along: float, into: float, heading: Heading) -> None:
    stage = bare()
    middle = stage.lens.near_m * 1.6
    start, end = Place(-along / 2, middle - into / 2), Place(along / 2, middle + into / 2)
    seen = only(Camera(scene(stage, [walking("person", start, end)]), PLAIN).seen(900))
    assert (seen.doing, seen.heading) == (Doing.WALKING, heading)


def test_who_stands_has_no_heading_and_who_lies_is_wider_than_high() -> None:
    stage = bare()
    upright, lying = standing("person", -1, 5), standing("person", 1, 5, Doing.LYING)
    first, second = Camera(scene(stage, [upright, lying]), PLAIN).seen(0)
    assert first.heading is second.heading is Heading.NOWHERE
    assert (second.actor, second.doing) == (1, Doing.LYING)
    width, height = second.box.right - second.box.left, second.box.bottom - second.box.top
    assert width > 1.5 * height
    assert first.box.bottom - first.box.top > 1.5 * (first.box.right - first.box.left)


def test_drawings_are_mirrored_for_who_goes_to_the_right() -> None:
    svgs = plain_svgs()
    sides = '<rect width="10" height="100" fill="red"/><rect x="10" width="40" height="100" fill="blue"/>'
    svgs["man-walking"] = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100">{sides}</svg>'
    stage, art = bare(), Artwork(svgs)
    to_right = walking("person", Place(-1, 5), Place(1, 5))
    to_left = walking("person", Place(1, 5), Place(-1, 5))
    reds = []
    for one in (to_left, to_right):
        camera = Camera(scene(stage, [one]), art)
        box, frame = only(camera.seen(1_000)).box, camera.frame(1_000).astype(int)
        columns = np.flatnonzero((frame[box.top + 10 : box.bottom - 10, box.left : box.right, 0] > 120).all(0))
        reds.append(columns.mean() / (box.right - box.left))
    assert reds[0] < 0.25
    assert reds[1] > 0.75


def test_what_stands_in_a_zone_is_in_it_and_what_is_carried_over_it_is_not() -> None:
    zone = Zone("red zone", "red", -1, 1, 4, 6)
    stage = replace(bare(), zones=(zone,))
    inside, outside = standing("person", 0, 5), standing("person", 0, 6.5)
    carried = walking("box", Place(0, 4.9, 0.5), Place(0.5, 4.9, 0.5), doing=Doing.CARRIED)
    seen = Camera(scene(stage, [inside, outside, carried]), PLAIN).seen(0)
    assert {one.actor: one.zones for one in seen} == {0: ("red zone",), 1: (), 2: ()}


def test_zones_are_painted_where_they_are() -> None:
    plain = bare("corridor")
    zone = Zone("yellow zone", "yellow", -1, 1, plain.lens.near_m * 1.1, plain.lens.near_m * 1.4)
    before = Camera(scene(plain), PLAIN).frame(0).astype(int)
    after = Camera(scene(replace(plain, zones=(zone,))), PLAIN).frame(0).astype(int)
    rows, columns = np.nonzero(np.abs(after - before).max(-1) > 40)
    lens = plain.lens
    assert rows.min() == pytest.approx(lens.row(zone.z1), abs=2)
    assert rows.max() == pytest.approx(lens.row(zone.z0), abs=2)
    assert columns.min() == pytest.approx(lens.column(zone.x0, zone.z0), abs=2)
    middle = after[int(lens.row(plain.lens.near_m * 1.25)), 112]
    assert middle[0] > middle[2] + 60, "yellow has little blue"


def test_night_is_dark_outdoors_and_the_truth_says_how_dark() -> None:
    stage = bare()
    day = Camera(scene(stage, [standing("car", 0, 8)]), PLAIN)
    night = Camera(scene(stage, [standing("car", 0, 8)], light=MIDNIGHT), PLAIN)
    assert night.frame(0).mean() < 0.5 * day.frame(0).mean()
    assert night.level(0) < 0.3
    assert day.level(0) > 0.9
    assert only(night.seen(0)).light < only(day.seen(0)).light


def test_a_day_passes_where_the_scene_says_so() -> None:
    light = Daylight(first_hour=12, hours_per_minute=12, drift=0, flickers=False)
    camera = Camera(scene(bare(), light=light), PLAIN)
    assert camera.level(59_900) < 0.5 * camera.level(0)


def test_indoors_lamps_flicker_only_where_they_do() -> None:
    steady, bad = (scene(bare("shop"), minutes=10, light=replace(NOON, flickers=one)) for one in (False, True))
    cameras = [Camera(one, PLAIN) for one in (steady, bad)]
    levels = [{camera.level(time) for time in range(0, 600_000, 100)} for camera in cameras]
    assert len(levels[0]) == 1
    assert len(levels[1]) == 2


def test_a_sensor_adds_noise_and_more_in_the_dark() -> None:
    def noise(camera: Camera) -> float:
        frames = [camera.frame(time).astype(float) for time in range(0, 1_000, 100)]
        return float(np.std(frames, axis=0).mean())

    day, night = (noise(Camera(scene(bare(), light=light), PLAIN)) for light in (NOON, MIDNIGHT))
    assert 0.5 < day < 4
    assert night > 1.5 * day


def test_a_fire_lights_what_is_around_it_at_night() -> None:
    stage = bare()
    barrel, fire = standing("barrel", 1.5, 5), standing("fire", 1.5, 4.9, Doing.BURNING)  # far from the lamp
    dark = Camera(scene(stage, [barrel], light=MIDNIGHT), PLAIN)
    lit = Camera(scene(stage, [barrel, fire], light=MIDNIGHT), PLAIN)
    seen = {one.name: one for one in lit.seen(10_000)}
    assert seen["barrel"].light > 2 * only(dark.seen(10_000)).light
    assert seen["fire"].light > 0.8


@pytest.mark.parametrize("hour", [0, 5, 6.5, 12])
def test_what_is_white_stays_white_in_full_light_and_in_the_light_of_a_fire(hour: float) -> None:
    svgs = plain_svgs()
    svgs["fire"] = svgs["wastebasket"] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><rect width="9" height="9" fill="white"/></svg>'
    )
    actors = [standing("trash bin", 0, 6), standing("fire", 0, 5.9, Doing.BURNING)]
    camera = Camera(scene(bare(), actors, light=replace(NOON, first_hour=hour)), Artwork(svgs))
    box = camera.seen(20_000)[-1].box
    column, row = (int(place) for place in box.middle)
    white = camera.frame(20_000)[row - 4 : row + 4, column - 4 : column + 4].astype(int)
    assert white.min() > 150
    assert np.abs(white[..., 0] - white[..., 1]).mean() < 30, "no colour has run over"


def test_colours_are_told_only_where_they_were_painted() -> None:
    rng = np.random.default_rng(0)
    real = Cutout("car", np.dstack((rng.integers(0, 255, (40, 80, 3)), np.full((40, 80), 255))).astype(np.uint8))
    mixed = Artwork(plain_svgs(), [real])
    stage = bare()
    car = standing("car", 0, 8)
    drawn, cut = (replace(car, look=look, colour="red") for look in (0, 1))
    assert only(Camera(scene(stage, [drawn]), mixed).seen(0)).colour == "red"
    assert only(Camera(scene(stage, [cut]), mixed).seen(0)).colour == ""
    assert only(Camera(scene(stage, [cut]), PLAIN).seen(0)).colour == "red"


def test_a_real_place_is_shown_as_it_is() -> None:
    picture = np.zeros((90, 160, 3), np.uint8)
    picture[:, 60:] = (200, 40, 40)
    art = Artwork(plain_svgs(), places={"hall": picture})
    frame = Camera(still(1, "real hall", 0), art).frame(0)
    assert frame[:, 120:].astype(int)[..., 0].mean() > 2 * frame[:, 120:, 1].mean()
    with pytest.raises(ValueError, match="site: there is no picture of the place 'hall'"):
        Camera(still(1, "real hall", 0), PLAIN)


@pytest.mark.parametrize("site", SITES)
def test_people_are_large_enough_to_be_recognised(site: str) -> None:
    def heights() -> Iterator[int]:
        for seed in range(12):
            whole = still(seed, site, 3, ("person",) * 3)
            upright = {one.number for one in whole.actors if one.legs[0].doing is Doing.STANDING}
            yield from (one.size_px for one in Camera(whole, PLAIN).seen(0) if one.actor in upright)

    found = sorted(heights())
    assert 55 < found[len(found) // 2] < 110
    assert found[0] >= 28


def test_a_stage_of_another_shape_is_filled() -> None:
    wide = Camera(direct(2, "yard", 1, 5, width=320, height=180), PLAIN).frame(1_000)
    assert wide.shape == (180, 320, 3)
    assert min(wide[:, :20].std(), wide[:, -20:].std()) > 5


def test_roles_of_the_table_are_all_drawn() -> None:
    names = ("person", "cyclist", "dog", "bus", "ladder", "fire")
    stage: Stage = bare()
    actors = [standing(name, place - 2.5, 8) for place, name in enumerate(names)]
    seen = Camera(scene(stage, actors), PLAIN).seen(0)
    assert {one.name for one in seen} == set(names)
    assert {actor.kind.role for actor in actors} == set(Role)
