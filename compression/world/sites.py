"""Decides what places there are and how a seed varies them: camera, walls, ways, painted zones and fixed things.

A stage is a description only; `backdrop` draws it. Every place is seen by a camera of its own: the same site with
another seed has another height, angle, paint and furniture.
"""

import math
import random
from dataclasses import dataclass

from standwatch.compression.world.perspective import Lens


@dataclass(frozen=True, slots=True)
class Place:
    """A point of the floor in metres (see `perspective`), and how far above it."""

    x: float
    z: float
    above_m: float = 0.0


@dataclass(frozen=True, slots=True)
class Zone:
    """A painted rectangle of the floor, [x0, x1] by [z0, z1] metres; its name says its colour."""

    name: str
    colour: str
    x0: float
    x1: float
    z0: float
    z1: float

    def holds(self, place: Place) -> bool:
        return self.x0 <= place.x <= self.x1 and self.z0 <= place.z <= self.z1


@dataclass(frozen=True, slots=True)
class Fixture:
    """A thing that belongs to the place and hides what is behind it: its front is at z, its middle at x."""

    what: str  # one of `scenery`'s
    x: float
    z: float
    width_m: float
    height_m: float
    depth_m: float


@dataclass(frozen=True, slots=True)
class Lane:
    """Where vehicles drive: a depth and a direction, +1 to the right."""

    z: float
    direction: int


@dataclass(frozen=True)
class Stage:
    """One place as one camera sees it. `half_m` and `ceiling_m` are infinite where there are no walls or no roof."""

    site: str
    seed: int
    lens: Lens
    far_m: float  # depth of the wall at the back
    half_m: float  # from the camera's axis to the walls at the sides
    ceiling_m: float
    walkways: tuple[tuple[float, float], ...]  # depths at which people and animals are
    entries: tuple[float, float]  # depths at which they come in from a side
    lanes: tuple[Lane, ...]
    zones: tuple[Zone, ...]
    fixtures: tuple[Fixture, ...]

    @property
    def indoors(self) -> bool:
        return math.isfinite(self.ceiling_m)

    def zones_at(self, place: Place) -> tuple[str, ...]:
        """Names of the zones that hold a point of the floor."""
        return tuple(zone.name for zone in self.zones if zone.holds(place))

    def is_free(self, place: Place, margin_m: float = 0.3) -> bool:
        """Whether somebody can stand there: within the walls, not inside a fixture nor mostly hidden behind one."""
        if abs(place.x) > self.half_m - margin_m:
            return False
        column = self.lens.column(place.x, place.z)
        for fixture in self.fixtures:
            left = self.lens.column(fixture.x - fixture.width_m / 2, fixture.z)
            right = self.lens.column(fixture.x + fixture.width_m / 2, fixture.z)
            if place.z > fixture.z - margin_m and left <= column <= right:
                return False
        return True


@dataclass(frozen=True, slots=True)
class _Site:
    """What the stages of a site have in common. Depths in units of the nearest visible floor."""

    far: float
    walkways: tuple[tuple[float, float], ...]
    lanes: tuple[float, ...] = ()
    ceiling_m: float = math.inf
    walls: bool = False
    fixtures: tuple[tuple[str, float, float, float], ...] = ()  # what, width, height, depth in metres
    at: tuple[float, float] = (1.3, 1.5)  # depths of fixtures
    horizon: tuple[float, float] = (0.18, 0.28)
    camera_m: tuple[float, float] = (1.9, 2.6)


_SITES = {
    "street": _Site(
        far=3.2,
        walkways=((1.0, 1.36), (2.5, 2.8)),
        lanes=(1.72, 2.15),
        fixtures=(("lamp post", 0.16, 4.2, 0.1), ("hedge", 1.5, 0.75, 0.4), ("tree", 1.3, 3.4, 0.4)),
        at=(1.4, 1.46),
    ),
    "yard": _Site(
        far=3.0,
        walkways=((1.0, 2.2),),
        lanes=(1.95,),
        fixtures=(("machine", 1.1, 1.0, 0.7), ("container", 2.0, 1.5, 0.9), ("tree", 1.4, 3.4, 0.4)),
    ),
    "dock": _Site(
        far=2.9,
        walkways=((1.0, 2.0),),
        lanes=(2.15,),
        ceiling_m=5.2,
        fixtures=(("pillar", 0.4, 5.2, 0.4), ("machine", 1.2, 1.1, 0.7), ("machine", 0.8, 1.4, 0.6)),
    ),
    "corridor": _Site(
        far=4.0,
        walkways=((1.0, 2.2),),
        ceiling_m=3.4,
        walls=True,
        fixtures=(("pillar", 0.35, 3.4, 0.35), ("cabinet", 0.8, 1.2, 0.5)),
        at=(1.5, 1.9),
    ),
    "shop": _Site(
        far=2.6,
        walkways=((1.0, 2.0),),
        ceiling_m=4.0,
        fixtures=(("counter", 1.7, 0.95, 0.6), ("shelf", 1.2, 1.25, 0.5), ("shelf", 0.9, 1.4, 0.5)),
    ),
}
SITES = tuple(_SITES)
ZONE_COLOURS = ("yellow", "red", "blue", "green")
# Before a picture of a real place; such cameras often hang lower and see people large.
_REAL = _Site(far=3.0, walkways=((1.0, 2.0),), horizon=(0.22, 0.4), camera_m=(1.1, 2.6))


def build_stage(site: str, seed: int, width: int, height: int) -> Stage:
    """The stage of this site and seed. Raises ValueError for a site that is none, and for a size that is too odd.

    `site` is one of SITES, or 'real NAME' for a picture of a real place: a floor in front of it and nothing else.
    """
    if min(width, height) < 64 or width % 2 or height % 2:
        raise ValueError(f"size: {width}x{height} cannot be filmed; both must be even and at least 64")
    real = site.startswith("real ")
    if site not in _SITES and not real:
        raise ValueError(f"site: {site!r} is none; choose one of {', '.join(SITES)}")
    chance = random.Random(f"stage {site} {seed}")
    plan = _REAL if real else _SITES[site]
    lens = Lens(width, height, chance.uniform(*plan.horizon), chance.uniform(1.05, 1.2), chance.uniform(*plan.camera_m))
    near = lens.near_m
    walkways = tuple((one * near, other * near) for one, other in plan.walkways)
    half = lens.half_width_m(near) * chance.uniform(1.06, 1.25) if plan.walls else math.inf
    direction = chance.choice((-1, 1))
    lanes = tuple(Lane(depth * near, direction * (-1) ** place) for place, depth in enumerate(plan.lanes))
    return Stage(
        site=site,
        seed=seed,
        lens=lens,
        far_m=plan.far * near,
        half_m=half,
        ceiling_m=plan.ceiling_m + (chance.uniform(-0.2, 0.4) if math.isfinite(plan.ceiling_m) else 0),
        walkways=walkways,
        entries=(near, near * 1.05) if plan.walls else walkways[0],
        lanes=lanes,
        zones=() if real else tuple(_zones(chance, lens, walkways[0], half)),
        fixtures=() if real else tuple(_fixtures(chance, plan, lens, half)),
    )


def _zones(chance: random.Random, lens: Lens, walkway: tuple[float, float], half_m: float) -> list[Zone]:
    """None to two, one beside the other."""
    count = chance.choice((0, 1, 1, 1, 2, 2))
    found = []
    for place, colour in enumerate(chance.sample(ZONE_COLOURS, count)):
        z0 = walkway[0] + chance.uniform(0.05, 0.35)
        z1 = min(z0 + chance.uniform(1.1, 2.2), walkway[1] + 0.3)
        reach = min(lens.half_width_m(z0), half_m) * 0.92
        width = chance.uniform(0.9, 1.3) * reach * (1.0 if count == 1 else 0.7)
        low, high = (-reach, reach - width) if count == 1 else ((-reach, -width - 0.1), (0.1, reach - width))[place]
        x0 = chance.uniform(low, max(low, high))
        found.append(Zone(f"{colour} zone", colour, x0, x0 + width, z0, z1))
    return found


def _fixtures(chance: random.Random, plan: _Site, lens: Lens, half_m: float) -> list[Fixture]:
    """None to two, away from the middle so that most of the floor is seen, the farther one first."""
    found = []
    count = chance.choice((0, 1, 1, 2))
    side = chance.choice((-1, 1))
    for what, width, height, depth in chance.sample(plan.fixtures, min(count, len(plan.fixtures))):
        z = lens.near_m * chance.uniform(*plan.at)
        reach = min(lens.half_width_m(z) * 0.95, half_m - width / 2)
        x = side * chance.uniform(0.45, 1.0) * reach
        size = chance.uniform(0.85, 1.15)
        found.append(Fixture(what, x, z, width * size, height * size, depth))
        side = -side
    return sorted(found, key=lambda fixture: -fixture.z)
