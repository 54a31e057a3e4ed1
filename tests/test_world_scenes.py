"""What happens in rendered worlds: the director's scenes, and the events that are read off them."""

import math
from collections import Counter

import pytest

from standwatch.compression.world.acts import Act
from standwatch.compression.world.director import direct, still
from standwatch.compression.world.happenings import events_of, in_view
from standwatch.compression.world.kinds import KINDS, Role
from standwatch.compression.world.moves import Path
from standwatch.compression.world.script import MOVING, Actor, Doing, Event, Leg, Scene, What, kind
from standwatch.compression.world.sites import SITES, Place, Zone, build_stage
from tests.drawn_world import actor, bare, scene, standing, walking

STEP_MS = 20


def inside(scene_: Scene, one: Actor, t_ms: float) -> bool:
    """Whether the middle of somebody's foot is in the picture, looked up and not computed."""
    leg = one.leg_at(t_ms)
    return leg is not None and 0 <= scene_.stage.lens.column(leg.at(t_ms).x, leg.at(t_ms).z) < scene_.stage.lens.width


def zones(scene_: Scene, one: Actor, t_ms: float) -> frozenset[str]:
    leg = one.leg_at(t_ms)
    if leg is None or not inside(scene_, one, t_ms) or leg.start.above_m or leg.end.above_m:
        return frozenset()
    return frozenset(scene_.stage.zones_at(leg.at(t_ms)))


def named(events: tuple[Event, ...], *whats: What) -> list[Event]:
    return [event for event in events if event.what in whats]


def test_a_seed_always_gives_the_same_scene_and_another_seed_another() -> None:
    assert direct(7, "yard", 30, 3) == direct(7, "yard", 30, 3)
    assert direct(7, "yard", 30, 3) != direct(8, "yard", 30, 3)
    assert still(7, "shop", 3) == still(7, "shop", 3)


def test_scenes_of_one_place_share_its_stage() -> None:
    one, other = direct(1, "dock", 5, 3, place_seed=9), still(2, "dock", 3, place_seed=9)
    assert one.stage == other.stage == build_stage("dock", 9, 224, 224)
    assert one.actors != direct(2, "dock", 5, 3, place_seed=9).actors


@pytest.mark.parametrize("site", SITES)
def test_paths_have_no_jumps_and_no_gaps(site: str) -> None:
    for seed in range(4):
        for one in direct(seed, site, 20, 4).actors:
            for before, after in zip(one.legs, one.legs[1:], strict=False):
                assert before.end_ms == after.start_ms
                gap = math.dist((before.end.x, before.end.z), (after.start.x, after.start.z))
                assert gap < 1e-9, (one.kind.name, before, after)


@pytest.mark.parametrize("site", SITES)
def test_nobody_walks_through_a_wall_or_stays_for_ever(site: str) -> None:
    whole = direct(2, site, 30, 4)
    furniture = {one.number for one in whole.actors if one.end_ms - one.start_ms == whole.length_ms}
    for one in whole.actors:
        if one.number in furniture or one.burning is not None:
            continue
        first, last = one.legs[0].start, one.legs[-1].end
        for place in (first, last):
            assert abs(place.x) > whole.stage.lens.half_width_m(place.z), (one.kind.name, place)
        for leg in one.legs:
            for t_ms in range(leg.start_ms, leg.end_ms, 100):
                place = leg.at(t_ms)
                assert abs(place.x) < whole.stage.half_m or not inside(whole, one, t_ms)


@pytest.mark.parametrize("site", SITES)
def test_comings_and_goings_are_where_the_path_crosses_the_border(site: str) -> None:
    whole = direct(11, site, 4, 8)
    expected = []
    for one in whole.actors:
        was = inside(whole, one, 0)
        for t_ms in (*range(STEP_MS, whole.length_ms, STEP_MS), whole.length_ms - 1):
            now = inside(whole, one, t_ms)
            if now != was and one.burning is None:
                expected.append((t_ms, one.number, What.ENTERS if now else What.LEAVES))
            was = now
    found = named(events_of(whole), What.ENTERS, What.LEAVES)
    assert len(expected) > 20
    assert sorted((event.actor, event.what) for event in found) == sorted(row[1:] for row in expected)
    for event in found:
        assert any(
            row[1:] == (event.actor, event.what) and row[0] - STEP_MS - 1 <= event.start_ms <= row[0] + 1
            for row in expected
        )


@pytest.mark.parametrize("site", SITES)
def test_zone_events_are_where_the_path_crosses_its_border(site: str) -> None:
    whole = next(one for one in (direct(seed, site, 4, 8) for seed in range(50)) if one.stage.zones)
    expected: Counter[tuple[int, What, str]] = Counter()
    for one in whole.actors:
        first_ms = max(0, one.start_ms)
        was = zones(whole, one, first_ms) if first_ms < whole.length_ms else frozenset()
        for t_ms in range(first_ms, min(whole.length_ms, one.end_ms), 10):
            now = zones(whole, one, t_ms)
            expected.update((one.number, What.ENTERS_ZONE, name) for name in now - was)
            expected.update((one.number, What.LEAVES_ZONE, name) for name in was - now)
            was = now
    found = named(events_of(whole), What.ENTERS_ZONE, What.LEAVES_ZONE)
    assert sum(expected.values()) > 4
    assert Counter((event.actor, event.what, event.zone) for event in found) == expected


def test_crossing_is_from_one_side_to_the_other_and_back_is_none() -> None:
    stage = bare()
    out = stage.lens.half_width_m(5) + 1
    across = walking("dog", Place(-out, 5), Place(out, 5), doing=Doing.MOVING)
    back = walking("cat", Place(-out, 5), Place(0, 5), Place(-out, 5), doing=Doing.MOVING)
    events = events_of(scene(stage, [across, back]))
    (crossing,) = named(events, What.CROSSES)
    entering, leaving = (next(e for e in events if e.what is what and e.actor == 0) for what in crossing_ends())
    assert (crossing.name, crossing.start_ms, crossing.end_ms) == ("dog", entering.start_ms, leaving.start_ms)
    assert entering.start_ms == 1_000, "one metre at one metre a second"


def crossing_ends() -> tuple[What, What]:
    return What.ENTERS, What.LEAVES


@pytest.mark.parametrize(("stay_ms", "waits"), [(4_900, 0), (5_000, 1), (30_000, 1)])
def test_standing_for_five_seconds_is_waiting(stay_ms: int, waits: int) -> None:
    path = Path(0, Place(-9, 5)).go(Place(0, 5), 1.0, Doing.WALKING)
    path.stay(stay_ms - 1_000, Doing.STANDING).stay(1_000, Doing.KNEELING).go(Place(9, 5), 1.0, Doing.WALKING)
    events = events_of(scene(bare(), [actor("person", *path.legs)]))
    (stop,) = named(events, What.STOPS)
    assert stop.start_ms == stop.end_ms == 9_000
    assert [(e.start_ms, e.end_ms) for e in named(events, What.WAITS)] == [(9_000, 9_000 + stay_ms)] * waits


def test_a_fall_lasts_until_somebody_is_up_again() -> None:
    path = Path(0, Place(0, 5)).stay(1_000, Doing.STANDING).stay(700, Doing.FALLING).stay(9_000, Doing.LYING)
    path.stay(1_200, Doing.RISING).stay(500, Doing.STANDING)
    (fall,) = events_of(scene(bare(), [actor("person", *path.legs)]))
    assert (fall.what, fall.start_ms, fall.end_ms) == (What.FALLS, 1_000, 11_900)


@pytest.mark.parametrize("goes", [True, False])
def test_a_thing_is_left_behind_when_its_bringer_goes(goes: bool) -> None:
    stage = bare()
    out = stage.lens.half_width_m(5) + 1
    owner = walking("person", Place(-out, 5), Place(0, 5), Place(out if goes else 0.5, 5))
    thing = Path(0, Place(-out, 5, 0.5)).go(Place(0, 5, 0.5), 1.0, Doing.CARRIED)
    put_ms = thing.lower(Place(0, 5), 400).now_ms
    thing.stay(20_000, Doing.STANDING).go(Place(-out, 5, 0.5), 1.0, Doing.CARRIED)
    bag = actor("backpack", *thing.legs, carrier=0)
    events = events_of(scene(stage, [owner, bag]))
    left = [(e.actor, e.start_ms, e.end_ms) for e in named(events, What.IS_LEFT_BEHIND)]
    assert left == ([(1, put_ms, put_ms + 20_000)] if goes else [])
    assert [e.start_ms for e in named(events, What.IS_TAKEN)] == [put_ms + 20_000]


def test_a_scene_begins_in_the_midst_of_things_and_what_lasts_begins_with_it() -> None:
    scenes = [direct(seed, "yard", 2, 10) for seed in range(12)]
    assert sum(one.start_ms < 0 < one.end_ms for whole in scenes for one in whole.actors) > 40
    events = [event for whole in scenes for event in events_of(whole)]
    assert all(0 <= event.start_ms <= event.end_ms <= 120_000 for event in events)
    assert {event.what for event in events if event.start_ms == 0} >= {What.WAITS, What.IS_LEFT_BEHIND}
    assert all(event.start_ms > 0 for event in events if event.what in (What.ENTERS, What.STOPS))


def test_what_is_there_from_the_beginning_has_not_entered() -> None:
    assert events_of(scene(bare(), [standing("chair", 0, 5)])) == ()


def test_events_after_the_end_are_none_and_those_that_go_on_end_with_the_scene() -> None:
    stage = bare()
    path = Path(0, Place(-9, 5)).go(Place(0, 5), 1.0, Doing.WALKING).stay(90_000, Doing.STANDING)
    late = actor("person", Leg(70_000, 80_000, Place(-9, 5), Place(9, 5), Doing.WALKING))
    events = events_of(scene(stage, [actor("person", *path.legs), late]))
    assert {event.actor for event in events} == {0}
    assert [(e.start_ms, e.end_ms) for e in named(events, What.WAITS)] == [(9_000, 60_000)]


@pytest.mark.parametrize("site", SITES)
def test_what_is_left_behind_is_taken_and_fires_burn_out(site: str) -> None:
    events = events_of(direct(1, site, 240, 3))
    left, taken = (named(events, what) for what in (What.IS_LEFT_BEHIND, What.IS_TAKEN))
    assert len(left) > 20
    assert {e.actor for e in left if e.end_ms < 240 * 60_000} <= {e.actor for e in taken}
    burning = named(events, What.BURNS)
    assert len(burning) > 5
    assert all(8_000 < e.end_ms - e.start_ms < 90_000 for e in burning if e.end_ms < 240 * 60_000)
    assert len(named(events, What.FALLS)) > 5


def test_a_quiet_place_is_empty_and_a_dense_one_is_not() -> None:
    assert events_of(direct(4, "yard", 60, 0)) == ()
    few, many = (len(direct(4, "yard", 60, rate).actors) for rate in (0.2, 6))
    assert few < 45
    assert many > 200


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize(
    ("once", "what"), [(Act.FALL, What.FALLS), (Act.FIRE, What.BURNS), (Act.LEFT_BEHIND, What.IS_LEFT_BEHIND)]
)
def test_what_is_to_happen_once_happens_once(site: str, once: Act, what: What) -> None:
    for seed in range(5):
        whole = direct(seed, site, 30, 2, once=once.value)
        (event,) = named(events_of(whole), what)
        assert 0.1 * whole.length_ms <= event.start_ms < 0.97 * whole.length_ms
        assert len(whole.actors) > 30


@pytest.mark.parametrize("name", ["dog", "cyclist", "ladder", "umbrella", "box"])
def test_a_kind_that_comes_once_comes_once_and_nothing_like_it(name: str) -> None:
    for seed in range(5):
        whole = direct(seed, "street", 30, 3, once=name)
        alike = {KINDS[name].name, *KINDS[name].also}
        if name != "cyclist":
            assert sum(one.kind.name == name for one in whole.actors) == 1
        else:
            found = [one for one in whole.actors if alike & {one.kind.name, *one.kind.also}]
            assert [one.kind.name for one in found] == ["cyclist"]


def test_what_cannot_happen_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="once: 'bus' cannot happen at a corridor"):
        direct(1, "corridor", 5, 1, once="bus")
    with pytest.raises(ValueError, match="once: 'dance' is neither an act"):
        direct(1, "corridor", 5, 1, once="dance")
    with pytest.raises(ValueError, match="site: 'moon' is none; choose one of street, yard"):
        direct(1, "moon", 5, 1)
    with pytest.raises(ValueError, match="size: 63x64"):
        direct(1, "yard", 5, 1, width=63, height=64)
    with pytest.raises(ValueError, match="minutes: 0 is not within"):
        direct(1, "yard", 0, 1)
    with pytest.raises(ValueError, match="kind: 'dragon' is none; choose one of person"):
        still(1, "yard", 1, ["dragon"])


def test_a_moment_of_a_day_is_found_as_if_all_had_been_looked_through() -> None:
    whole = direct(3, "street", 600, 3)
    for t_ms in range(0, whole.length_ms, 61_777):
        expected = [one for one in whole.actors if one.start_ms <= t_ms < one.end_ms]
        assert whole.present(t_ms) == expected
    assert any(whole.present(t_ms) for t_ms in range(0, whole.length_ms, 61_777))


def test_stills_show_the_kinds_that_were_asked_for() -> None:
    whole = still(5, "corridor", 3, ["bus", "fire", "person"])
    assert [one.kind.name for one in whole.actors] == ["bus", "fire", "person"]
    assert all(in_view(one, whole.stage.lens) == [(0, 1_000)] for one in whole.actors)


def test_every_kind_comes_up_in_stills_of_the_sites_where_it_can_be() -> None:
    seen = {one.kind.name for seed in range(400) for one in still(seed, SITES[seed % 5], 3).actors}
    assert seen == {name for name, one in KINDS.items() if one.role is not Role.FIRE}


def test_nobody_stands_inside_a_fixture_or_hidden_behind_one() -> None:
    for seed in range(60):
        whole = still(seed, "shop", 4)
        assert all(whole.stage.is_free(one.legs[0].start) for one in whole.actors)


def test_legs_must_follow_each_other() -> None:
    place, far = Place(0, 5), Place(1, 5)
    with pytest.raises(ValueError, match="legs: each must start when"):
        actor("dog", Leg(0, 10, place, far, Doing.MOVING), Leg(11, 20, far, place, Doing.MOVING))
    with pytest.raises(ValueError, match="legs: at least one"):
        actor("dog")


def test_plurals_are_english() -> None:
    found = {name: kind(name).plural for name in ("person", "person with a cane", "box", "sheep", "fire engine", "bus")}
    assert list(found.values()) == ["people", "people with a cane", "boxes", "sheep", "fire engines", "buses"]


def test_zones_lie_on_the_floor_that_is_seen() -> None:
    count = 0
    for seed in range(200):
        stage = build_stage(SITES[seed % 5], seed, 224, 224)
        for zone in stage.zones:
            assert_inside(stage.lens.row(zone.z0), stage.lens.height)
            middle = stage.lens.column((zone.x0 + zone.x1) / 2, zone.z1)
            assert_inside(middle, stage.lens.width)
            count += 1
        assert all(not overlap(one, other) for one in stage.zones for other in stage.zones if one is not other)
    assert count > 150


def assert_inside(pixel: float, size: int) -> None:
    assert 0 < pixel < size


def overlap(one: Zone, other: Zone) -> bool:
    return one.x0 < other.x1 and other.x0 < one.x1 and one.z0 < other.z1 and other.z0 < one.z1


def test_moving_is_what_has_a_direction() -> None:
    assert {Doing.WALKING, Doing.RUNNING, Doing.MOVING, Doing.CARRIED} == MOVING
