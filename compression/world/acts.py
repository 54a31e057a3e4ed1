"""Decides the small stories of a rendered world: who comes, what happens to them, and how they go.

Every act begins and ends with nobody left over: who falls gets up, what is left behind is taken away, fires burn out.
"""

from collections.abc import Callable
from enum import Enum

from standwatch.compression.world.kinds import KINDS, Kind, Role, of_role
from standwatch.compression.world.moves import Cast, Gait, Path, Way, carry_on, in_hand
from standwatch.compression.world.script import Doing
from standwatch.compression.world.sites import Place


class Act(str, Enum):
    """What can be staged."""

    CROSSING = "crossing"
    CARRYING = "carrying"
    VISIT = "visit"
    APPROACH = "approach"
    ZONE_VISIT = "zone visit"
    DRIVE = "drive"
    WANDER = "wander"
    FALL = "fall"
    LEFT_BEHIND = "left behind"
    FIRE = "fire"


def stage_act(act: Act, cast: Cast, kind: Kind, start_ms: int) -> bool:
    """Add the actors of one act of this kind, from `start_ms` on; False where there is no room for it then.

    `kind` must be one of `kinds_for(act)`.
    """
    return _STAGED[act](cast, kind, start_ms)


def kinds_for(act: Act, has_lanes: bool, indoors: bool) -> tuple[Kind, ...]:
    """Who can play an act's main part at such a place."""
    walkers = of_role(Role.PERSON, Role.RIDER)
    animals = tuple(kind for kind in of_role(Role.ANIMAL) if not indoors or kind.height_m < 1)
    vehicles = of_role(Role.VEHICLE) if has_lanes else ()
    if act in (Act.CROSSING, Act.VISIT, Act.APPROACH, Act.ZONE_VISIT):
        return (*walkers, KINDS["person"], KINDS["person"], *animals)
    if act is Act.DRIVE:
        return vehicles
    if act is Act.WANDER:
        return animals
    if act is Act.FALL:
        return (KINDS["person"],)
    if act is Act.CARRYING:
        return tuple(kind for kind in of_role(Role.THING) if kind.carried)
    if act is Act.LEFT_BEHIND:
        return tuple(kind for kind in of_role(Role.THING) if kind.carried and kind.name not in ("balloon", "umbrella"))
    return tuple(kind for kind in (*vehicles, *of_role(Role.THING)) if kind.burns)


def _crossing(cast: Cast, kind: Kind, start_ms: int) -> bool:
    side = cast.side()
    z = cast.entry(cast.way())
    speed, doing = _gait(cast, kind)
    path = Path(start_ms, cast.outside(kind, side, z)).go(cast.outside(kind, -side, z), speed, doing)
    cast.add(kind, path)
    return True


def _carrying(cast: Cast, kind: Kind, start_ms: int) -> bool:
    """Somebody carries a thing from one side to the other."""
    person, side = KINDS["person"], cast.side()
    z = cast.entry(cast.way())
    path = Path(start_ms, cast.outside(person, side, z))
    path.go(cast.outside(person, -side, z), cast.chance.uniform(0.8, 1.3), Doing.WALKING)
    carrier = cast.add(person, path)
    cast.add(kind, in_hand(path, kind, -side), carrier=carrier.number)
    return True


def _visit(cast: Cast, kind: Kind, start_ms: int) -> bool:
    way = cast.way()
    place = cast.spot(way, start_ms, start_ms + 60_000)
    return place is not None and _call_at(cast, kind, start_ms, way, place)


def _zone_visit(cast: Cast, kind: Kind, start_ms: int) -> bool:
    place = cast.spot_in_zone(start_ms, start_ms + 60_000)
    return place is not None and _call_at(cast, kind, start_ms, cast.stage.walkways[0], place)


def _call_at(cast: Cast, kind: Kind, start_ms: int, way: Way, place: Place) -> bool:
    """Come to a place, stay there, go."""
    chance, side = cast.chance, cast.side()
    path = cast.come(kind, side, way, start_ms, place, _gait(cast, kind))
    length_ms = round(chance.uniform(3_000, 35_000))
    if kind.role is Role.PERSON and chance.random() < 0.3:
        path.stay(1_000, Doing.STANDING).stay(length_ms, Doing.KNEELING).stay(1_000, Doing.STANDING)
    else:
        path.stay(length_ms, Doing.STANDING)
    cast.add(kind, cast.leave(path, kind, cast.side(), way, _gait(cast, kind)))
    return True


def _approach(cast: Cast, kind: Kind, start_ms: int) -> bool:
    """Towards the camera or away from it; needs a deep walkway."""
    chance, side, way = cast.chance, cast.side(), cast.stage.walkways[0]
    deep = way[1] - way[0]
    far_z = way[0] + deep * chance.uniform(0.75, 1.0)
    x = chance.uniform(-0.5, 0.5) * min(cast.stage.lens.half_width_m(way[0]), cast.stage.half_m)
    far, near = Place(x, far_z), Place(x * chance.uniform(0.6, 1.0), way[0] + deep * chance.uniform(0.0, 0.15))
    if deep < 1.5 or not (cast.stage.is_free(far) and cast.stage.is_free(near)):
        return False
    gait = _gait(cast, kind)
    first, second = (far, near) if chance.random() < 0.5 else (near, far)
    path = cast.come(kind, side, way, start_ms, first, gait).go(second, *gait)
    cast.add(kind, cast.leave(path, kind, cast.side(), way, gait))
    return True


def _drive(cast: Cast, kind: Kind, start_ms: int, burns: bool = False) -> bool:
    chance, lanes = cast.chance, cast.stage.lanes
    number = chance.randrange(len(lanes))
    lane, speed = lanes[number], chance.uniform(1.6, 4.0)
    path = Path(start_ms, cast.outside(kind, -lane.direction, lane.z))
    if burns or chance.random() < 0.4:
        reach = cast.stage.lens.half_width_m(lane.z) * 0.6
        path.go(Place(chance.uniform(-reach, reach), lane.z), speed, Doing.MOVING)
        if burns:
            path.stay(round(chance.uniform(2_000, 6_000)), Doing.STANDING)
            path.stay(round(chance.uniform(10_000, 40_000)), Doing.BURNING)
        path.stay(round(chance.uniform(4_000, 30_000)), Doing.STANDING)
    path.go(cast.outside(kind, lane.direction, lane.z), speed, Doing.MOVING)
    if not cast.take_lane(number, start_ms, path.now_ms):
        return False
    _kindle(cast, cast.add(kind, path).number)
    return True


def _wander(cast: Cast, kind: Kind, start_ms: int) -> bool:
    chance, way, side = cast.chance, cast.way(), cast.side()
    path: Path | None = None
    for _ in range(chance.randint(1, 3)):
        now_ms = start_ms if path is None else path.now_ms
        place = cast.spot(way, now_ms, now_ms + 15_000)
        if place is None:
            return False
        gait = chance.uniform(0.7, 1.5), Doing.MOVING
        path = cast.come(kind, side, way, start_ms, place, gait) if path is None else path.go(place, *gait)
        path.stay(round(chance.uniform(2_000, 9_000)), Doing.STANDING)
    assert path is not None, "it goes somewhere at least once"
    cast.add(kind, cast.leave(path, kind, cast.side(), way, (1.2, Doing.MOVING)))
    return True


def _fall(cast: Cast, kind: Kind, start_ms: int) -> bool:
    chance, way = cast.chance, cast.way()
    place = cast.spot(way, start_ms, start_ms + 60_000)
    if place is None:
        return False
    path = cast.come(kind, cast.side(), way, start_ms, place, _gait(cast, kind))
    path.stay(700, Doing.FALLING).stay(round(chance.uniform(6_000, 40_000)), Doing.LYING).stay(1_200, Doing.RISING)
    path.stay(1_500, Doing.STANDING)
    cast.add(kind, cast.leave(path, kind, cast.side(), way, (0.9, Doing.WALKING)))
    return True


def _left_behind(cast: Cast, kind: Kind, start_ms: int, burns: bool = False) -> bool:
    """Somebody brings a thing and goes; after a while the same person comes back and takes it away."""
    chance, side, way = cast.chance, cast.side(), cast.way()
    away_ms = round(chance.uniform(15_000, 120_000))
    spot = cast.spot(way, start_ms, start_ms + away_ms + 60_000)
    if spot is None:
        return False
    person, gait = KINDS["person"], (1.2, Doing.WALKING)
    coming = cast.come(person, side, way, start_ms, spot, gait)
    thing = in_hand(coming, kind, side)
    thing.lower(Place(spot.x + 0.4 * side, spot.z - 0.04), 500)
    cast.leave(coming.stay(1_500, Doing.STANDING), person, -side, way, gait)
    again = cast.come(person, -side, way, coming.now_ms + away_ms, spot, gait).stay(1_000, Doing.STANDING)
    if burns:
        thing.stay(coming.now_ms + round(away_ms * 0.2) - thing.now_ms, Doing.STANDING)
        thing.stay(round(away_ms * 0.6), Doing.BURNING)
    thing.stay(again.now_ms - thing.now_ms, Doing.STANDING)
    carry_on(thing, cast.leave(again, person, side, way, gait), side)
    owner = cast.add(person, coming)
    left = cast.add(kind, thing, carrier=owner.number)
    cast.add_again(owner, again)
    _kindle(cast, left.number)
    return True


def _fire(cast: Cast, kind: Kind, start_ms: int) -> bool:
    if kind.role is Role.VEHICLE:
        return _drive(cast, kind, start_ms, burns=True)
    return _left_behind(cast, kind, start_ms, burns=True)


def _kindle(cast: Cast, number: int) -> None:
    """A fire for as long as an actor burns, before it and on its lower half."""
    burning = cast.actors[number]
    for leg in burning.legs:
        if leg.doing is Doing.BURNING:
            at = Place(leg.start.x, leg.start.z, 0.25 * burning.kind.height_m)
            path = Path(leg.start_ms, at).stay(leg.end_ms - leg.start_ms, Doing.BURNING)
            cast.add(KINDS["fire"], path, burning=number)


def _gait(cast: Cast, kind: Kind) -> Gait:
    """Metres per second, and how."""
    chance = cast.chance
    if kind.role is not Role.PERSON:
        return chance.uniform(0.8, 1.8 if kind.name != "cyclist" else 2.6), Doing.MOVING
    if chance.random() < 0.2:
        return chance.uniform(2.0, 2.8), Doing.RUNNING
    return chance.uniform(0.8, 1.4), Doing.WALKING


_STAGED: dict[Act, Callable[[Cast, Kind, int], bool]] = {
    Act.CROSSING: _crossing,
    Act.CARRYING: _carrying,
    Act.VISIT: _visit,
    Act.ZONE_VISIT: _zone_visit,
    Act.APPROACH: _approach,
    Act.DRIVE: _drive,
    Act.WANDER: _wander,
    Act.FALL: _fall,
    Act.LEFT_BEHIND: _left_behind,
    Act.FIRE: _fire,
}
