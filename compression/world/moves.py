"""Decides how a path is walked, leg by leg with exact times, and where there is room to stand."""

import math
import random
from dataclasses import dataclass, field, replace

from standwatch.compression.world.kinds import Kind, Role
from standwatch.compression.world.script import Actor, Doing, Leg
from standwatch.compression.world.sites import Place, Stage

Way = tuple[float, float]  # depths of a walkway
Gait = tuple[float, Doing]  # metres per second, and how

_LIFT_MS, _LOW_HAND = 300, 0.3
_ROOM_M = 0.75  # between two that stand at the same time
_OVERHEAD = {"umbrella": 1.25, "balloon": 1.15}  # how far above the floor they are carried


class Path:
    """Builds the legs of one actor, one after another."""

    def __init__(self, start_ms: int, place: Place) -> None:
        self.legs: list[Leg] = []
        self.now_ms = start_ms
        self.place = place

    def go(self, place: Place, speed_m_s: float, doing: Doing) -> "Path":
        """Straight to a place."""
        away = ((place.x - self.place.x) ** 2 + (place.z - self.place.z) ** 2) ** 0.5
        return self._add(place, max(1, round(away / speed_m_s * 1000)), doing)

    def at(self, t_ms: int) -> Place:
        """Where the path is at a time of it."""
        leg = next(one for one in self.legs if t_ms <= one.end_ms)
        return leg.at(t_ms)

    def stay(self, length_ms: int, doing: Doing) -> "Path":
        return self._add(self.place, max(1, length_ms), doing)

    def lower(self, place: Place, length_ms: int) -> "Path":
        """What is carried goes to a place, or up from the floor, or down to it."""
        return self._add(place, length_ms, Doing.CARRIED)

    def _add(self, place: Place, length_ms: int, doing: Doing) -> "Path":
        self.legs.append(Leg(self.now_ms, self.now_ms + length_ms, self.place, place, doing))
        self.now_ms += length_ms
        self.place = place
        return self


@dataclass
class Cast:
    """The actors so far, and where there is still room."""

    stage: Stage
    chance: random.Random
    actors: list[Actor] = field(default_factory=list)
    _taken: list[tuple[int, int, Place]] = field(default_factory=list)
    _lanes_until: dict[int, int] = field(default_factory=dict)

    def add(self, kind: Kind, path: Path, carrier: int | None = None, burning: int | None = None) -> Actor:
        """A new actor of any look, size and colour."""
        chance = self.chance
        colour = chance.choice(kind.colours) if kind.colours else ""
        size = chance.uniform(0.92, 1.18 if kind.role is Role.THING else 1.06)
        number = len(self.actors)
        actor = Actor(number, kind, chance.randrange(256), colour, size, tuple(path.legs), carrier, burning)
        self.actors.append(actor)
        return actor

    def add_again(self, actor: Actor, path: Path) -> Actor:
        """The same person, who comes back."""
        again = replace(actor, number=len(self.actors), legs=tuple(path.legs))
        self.actors.append(again)
        return again

    def take_lane(self, lane: int, start_ms: int, end_ms: int) -> bool:
        """Whether a lane is free from `start_ms` on; if so it is taken until `end_ms`."""
        if self._lanes_until.get(lane, start_ms) > start_ms:
            return False
        self._lanes_until[lane] = end_ms
        return True

    def spot(self, way: Way, start_ms: int, end_ms: int) -> Place | None:
        """A free place of a walkway to stand at in this time, rather near than far; None where none was found."""
        for _ in range(40):
            z = way[0] + (way[1] - way[0]) * math.pow(self.chance.random(), 1.5)
            reach = min(self.stage.lens.half_width_m(z) * 0.8, self.stage.half_m - 0.5)
            place = Place(self.chance.uniform(-reach, reach), z)
            if self.reserve(place, start_ms, end_ms):
                return place
        return None

    def spot_in_zone(self, start_ms: int, end_ms: int) -> Place | None:
        """A free place inside a zone."""
        for _ in range(40):
            if not self.stage.zones:
                return None
            zone = self.chance.choice(self.stage.zones)
            place = Place(
                self.chance.uniform(zone.x0 + 0.25, zone.x1 - 0.25), self.chance.uniform(zone.z0 + 0.2, zone.z1 - 0.2)
            )
            if self.reserve(place, start_ms, end_ms):
                return place
        return None

    def reserve(self, place: Place, start_ms: int, end_ms: int) -> bool:
        """Keep a place for this time, if it is free and in the picture."""
        lens = self.stage.lens
        if abs(place.x) > lens.half_width_m(place.z) * 0.92 or not self.stage.is_free(place):
            return False
        for one_start, one_end, other in self._taken:
            near = abs(other.x - place.x) < _ROOM_M and abs(other.z - place.z) < _ROOM_M
            if near and one_start < end_ms and start_ms < one_end:
                return False
        self._taken = [one for one in self._taken if one[1] > start_ms - 600_000]
        self._taken.append((start_ms, end_ms, place))
        return True

    def outside(self, kind: Kind, side: int, z: float) -> Place:
        """A place beside the picture, far enough for the whole object to be hidden; `side` is -1 or +1."""
        return Place(side * (self.stage.lens.half_width_m(z) + 0.75 * kind.height_m + 0.3), z)

    def way(self) -> Way:
        """One of the walkways, most often the nearest."""
        return self.chance.choices(self.stage.walkways, [3, 1][: len(self.stage.walkways)])[0]

    def come(self, kind: Kind, side: int, way: Way, start_ms: int, place: Place, gait: Gait) -> Path:
        """From outside the picture to a place of a walkway."""
        z = self.entry(way)
        path = Path(start_ms, self.outside(kind, side, z))
        if math.isfinite(self.stage.half_m):
            path.go(self._door(side, z), *gait)
        return path.go(place, *gait)

    def leave(self, path: Path, kind: Kind, side: int, way: Way, gait: Gait) -> Path:
        """From where a path is to outside the picture."""
        z = self.entry(way)
        if math.isfinite(self.stage.half_m):
            path.go(self._door(side, z), *gait)
        return path.go(self.outside(kind, side, z), *gait)

    def _door(self, side: int, z: float) -> Place:
        """Between walls one comes and goes where the floor is wider than the picture, and not through the wall."""
        return Place(side * self.stage.lens.half_width_m(z) * 0.8, z)

    def entry(self, way: Way) -> float:
        """The depth at which somebody comes into a walkway."""
        low, high = self.stage.entries if way == self.stage.walkways[0] else way
        return low + (high - low) * math.pow(self.chance.random(), 1.5)

    def side(self) -> int:
        return self.chance.choice((-1, 1))


def carry_on(thing: Path, carrier: Path, side: int) -> None:
    """From its place a thing is lifted, and goes on in the hand of whom it is beside now, to the end of that path."""
    lifted_ms = thing.now_ms + _LIFT_MS
    thing.lower(held(carrier.at(lifted_ms), side, _LOW_HAND), _LIFT_MS)
    for leg in carrier.legs:
        if leg.end_ms > lifted_ms:
            thing.lower(held(leg.end, side, _LOW_HAND), leg.end_ms - thing.now_ms)


def in_hand(path: Path, thing: Kind, side: int) -> Path:
    """The path of what is carried along a path, on that side of who carries it."""
    above = _OVERHEAD.get(thing.name, max(0.12, 0.72 - thing.height_m / 2))
    carried = Path(path.legs[0].start_ms, held(path.legs[0].start, side, above))
    for leg in path.legs:
        carried.legs.append(Leg(leg.start_ms, leg.end_ms, carried.place, held(leg.end, side, above), Doing.CARRIED))
        carried.place, carried.now_ms = held(leg.end, side, above), leg.end_ms
    return carried


def held(place: Place, side: int, above_m: float) -> Place:
    return Place(place.x + 0.34 * side, place.z, above_m)
