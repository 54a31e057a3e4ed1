"""A style for tests that needs no network: plain shapes in vivid colours, one for every drawing that is used."""

import zlib
from collections.abc import Sequence
from dataclasses import replace

from standwatch.compression.world.artwork import Artwork
from standwatch.compression.world.director import FPS
from standwatch.compression.world.kinds import DRAWINGS, KINDS
from standwatch.compression.world.moves import Path
from standwatch.compression.world.script import Actor, Daylight, Doing, Leg, Scene
from standwatch.compression.world.sites import Place, Stage, build_stage

NOON = Daylight(first_hour=12, hours_per_minute=0, drift=0, flickers=False)
MIDNIGHT = replace(NOON, first_hour=0)


def plain_svgs() -> dict[str, str]:
    """Full rectangles, half as wide as high; all but a vehicle's, which are twice as wide."""
    return {name: _svg(name) for name in DRAWINGS}


def _svg(name: str) -> str:
    red, green, blue = (60 + zlib.crc32(f"{name} {part}".encode()) % 180 for part in range(3))
    wide = any(name in look for kind in KINDS.values() if kind.role == "vehicle" for look in kind.looks)
    width, height = (200, 100) if wide else (50, 100)
    body = f'<rect width="{width}" height="{height}" fill="rgb({red},{green // 3},{blue})"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 200">{body}</svg>'


PLAIN = Artwork(plain_svgs())


def bare(site: str = "yard", seed: int = 1, side: int = 224) -> Stage:
    """A place without zones and fixtures."""
    return replace(build_stage(site, seed, side, side), zones=(), fixtures=())


def scene(stage: Stage, actors: Sequence[Actor] = (), minutes: float = 1.0, light: Daylight = NOON) -> Scene:
    """With these actors, numbered anew."""
    numbered = tuple(replace(actor, number=number) for number, actor in enumerate(actors))
    return Scene(stage, FPS, minutes, light, numbered)


def actor(name: str, *legs: Leg, look: int = 0, colour: str = "", carrier: int | None = None) -> Actor:
    return Actor(0, KINDS[name], look, colour, 1.0, legs, carrier)


def standing(name: str, x: float, z: float, doing: Doing = Doing.STANDING, until_ms: int = 60_000) -> Actor:
    """Somebody or something that stays at one place."""
    return actor(name, *Path(0, Place(x, z)).stay(until_ms, doing).legs)


def walking(name: str, *places: Place, doing: Doing = Doing.WALKING, speed_m_s: float = 1.0) -> Actor:
    """Straight from each place to the next."""
    path = Path(0, places[0])
    for place in places[1:]:
        path.go(place, speed_m_s, doing)
    return actor(name, *path.legs)
