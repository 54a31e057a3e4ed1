"""The records of a rendered world: who is where and does what, at every moment.

Scene        a fixed camera's view and everything that will happen in it
Actor, Leg   one object; one straight piece of its path
Event        something that happened, with exact times
Daylight     how the light changes

Times are whole milliseconds since the scene's beginning. A scene is a pure description: the same scene is drawn in
any style, and every time of it can be asked for in any order.
"""

from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from standwatch.compression.world.kinds import KINDS, Kind
from standwatch.compression.world.sites import Place, Stage


class Doing(str, Enum):
    """What an object does; the values are the words for it."""

    STANDING = "standing"
    WALKING = "walking"
    RUNNING = "running"
    MOVING = "moving"  # on wheels or four legs
    KNEELING = "kneeling"
    FALLING = "falling"
    LYING = "lying"
    RISING = "getting up"
    CARRIED = "carried"
    BURNING = "burning"


POSES = (Doing.STANDING, Doing.WALKING, Doing.RUNNING, Doing.KNEELING, Doing.LYING)  # a picture of a person shows them
MOVING = frozenset({Doing.WALKING, Doing.RUNNING, Doing.MOVING, Doing.CARRIED})
STILL = frozenset({Doing.STANDING, Doing.KNEELING})
DOWN = frozenset({Doing.FALLING, Doing.LYING, Doing.RISING})  # from the beginning of a fall to its end


@dataclass(frozen=True, slots=True)
class Leg:
    """A straight piece of a path, for times in [start_ms, end_ms); `start` and `end` are equal where nothing moves."""

    start_ms: int
    end_ms: int
    start: Place
    end: Place
    doing: Doing

    def at(self, t_ms: float) -> Place:
        part = (t_ms - self.start_ms) / (self.end_ms - self.start_ms)
        one, other = self.start, self.end
        return Place(
            one.x + (other.x - one.x) * part,
            one.z + (other.z - one.z) * part,
            one.above_m + (other.above_m - one.above_m) * part,
        )


@dataclass(frozen=True)
class Actor:
    """One object of a scene. Its legs follow each other without gaps; before and after them it does not exist.

    `look` chooses among the drawings of its kind. `colour` is empty where the kind has none. `carrier` is the number
    of the actor that carries it while a leg says so; `burning` that of the actor whose fire it is.
    """

    number: int
    kind: Kind
    look: int
    colour: str
    size: float  # 1 is the kind's own height
    legs: tuple[Leg, ...]
    carrier: int | None = None
    burning: int | None = None

    def __post_init__(self) -> None:
        if not self.legs or any(leg.end_ms <= leg.start_ms for leg in self.legs):
            raise ValueError("legs: at least one is needed, and each must last; leave empty ones out")
        if any(one.end_ms != other.start_ms for one, other in zip(self.legs, self.legs[1:], strict=False)):
            raise ValueError("legs: each must start when the one before it ends")

    @property
    def start_ms(self) -> int:
        return self.legs[0].start_ms

    @property
    def end_ms(self) -> int:
        return self.legs[-1].end_ms

    def leg_at(self, t_ms: float) -> Leg | None:
        """The leg of this time; None before the first and after the last."""
        if not self.start_ms <= t_ms < self.end_ms:
            return None
        return self.legs[bisect_right(self._starts, t_ms) - 1]

    @cached_property
    def _starts(self) -> list[int]:
        return [leg.start_ms for leg in self.legs]


class What(str, Enum):
    """What an event is. The first four and the zones are moments: they end when they start."""

    ENTERS = "enters"
    LEAVES = "leaves"
    STOPS = "stops"
    IS_TAKEN = "is taken away"
    ENTERS_ZONE = "enters a zone"
    LEAVES_ZONE = "leaves a zone"
    CROSSES = "crosses"  # from one side to the other
    WAITS = "waits"
    FALLS = "falls"  # until it is up again
    IS_LEFT_BEHIND = "is left behind"  # from when it was put down until it is taken away
    BURNS = "burns"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to one actor in [start_ms, end_ms], as far as that is within the scene."""

    what: What
    actor: int
    name: str  # of the actor's kind
    start_ms: int
    end_ms: int
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Daylight:
    """How light changes: the hour at the beginning, how fast the day passes, drift and flicker."""

    first_hour: float
    hours_per_minute: float
    drift: float  # 0..1, how much clouds or dimming take at most
    flickers: bool


@dataclass(frozen=True)
class Scene:
    """All of a rendered world: a place, its light and who comes."""

    stage: Stage
    fps: float
    minutes: float
    light: Daylight
    actors: tuple[Actor, ...]  # numbered as they lie here

    def __post_init__(self) -> None:
        if not 0 < self.fps <= 60:
            raise ValueError(f"fps: {self.fps} is not within 0..60")
        if not 0 < self.minutes <= 14 * 24 * 60:
            raise ValueError(f"minutes: {self.minutes} is not within 0..20160 (two weeks)")
        if [actor.number for actor in self.actors] != list(range(len(self.actors))):
            raise ValueError("actors: each must have its place as its number")

    @property
    def length_ms(self) -> int:
        return round(self.minutes * 60_000)

    def present(self, t_ms: float) -> list[Actor]:
        """The actors that exist at this time, in the order of their numbers; most of the others are never looked at."""
        slot = int(t_ms) // _SLOT_MS
        return [self.actors[number] for number in self._slots.get(slot, ()) if self.actors[number].leg_at(t_ms)]

    @cached_property
    def _slots(self) -> dict[int, tuple[int, ...]]:
        """The actors of each minute, so that a moment of a long scene is found as fast as one of a short one."""
        found: dict[int, list[int]] = {}
        for actor in self.actors:
            for slot in range(actor.start_ms // _SLOT_MS, (actor.end_ms - 1) // _SLOT_MS + 1):
                found.setdefault(slot, []).append(actor.number)
        return {slot: tuple(numbers) for slot, numbers in found.items()}


_SLOT_MS = 60_000


def kind(name: str) -> Kind:
    """The kind of this name. Raises ValueError that shows all names."""
    if name not in KINDS:
        raise ValueError(f"kind: {name!r} is none; choose one of {', '.join(KINDS)}")
    return KINDS[name]
