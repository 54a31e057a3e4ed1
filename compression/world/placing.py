"""Decides where in the picture every object of a moment is, which sprite shows it, and what lies before what."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from standwatch.compression.world.artwork import Appearance, Artwork, Sprite
from standwatch.compression.world.kinds import Pose, Role
from standwatch.compression.world.perspective import Lens
from standwatch.compression.world.script import MOVING, Actor, Doing, Leg, Scene
from standwatch.compression.world.sites import Place

_POSE = {
    Doing.WALKING: Pose.WALKING,
    Doing.RUNNING: Pose.RUNNING,
    Doing.KNEELING: Pose.KNEELING,
}
_STEPS_PER_S = {Doing.WALKING: 1.9, Doing.RUNNING: 2.8}
_KINDLING_MS = 3_000  # a fire grows for so long


@dataclass(frozen=True, slots=True)
class Placed:
    """One object of a moment: its sprite with the upper left corner at (left, top), which may be outside the view."""

    actor: Actor
    leg: Leg
    place: Place
    sprite: Sprite
    left: int
    top: int
    base_row: int  # of the floor below it

    @property
    def depth_m(self) -> float:
        """What is carried, or burns, is before the one that carries it or burns."""
        return self.place.z - (0.02 if self.actor.carrier is not None or self.actor.burning is not None else 0.0)


@dataclass(frozen=True, slots=True)
class Standing:
    """A fixture in the picture."""

    sprite: Sprite
    left: int
    top: int
    depth_m: float


def place_actors(scene: Scene, artwork: Artwork, t_ms: float) -> list[Placed]:
    """All objects that touch the view, the farthest first."""
    lens = scene.stage.lens
    found = []
    for actor in scene.present(t_ms):
        placed = _place(actor, lens, artwork, t_ms)
        if (
            placed.left < lens.width
            and placed.left + placed.sprite.width > 0
            and placed.top < lens.height
            and placed.top + placed.sprite.height > 0
        ):
            found.append(placed)
    return sorted(found, key=lambda placed: (-placed.depth_m, placed.actor.number))


def far_to_near(placed: Sequence[Placed], fixtures: Sequence[Standing]) -> list[Placed | Standing]:
    """Everything in the order in which it is drawn."""
    things: list[Placed | Standing] = [*placed, *fixtures]
    return sorted(things, key=lambda thing: -thing.depth_m)


def _place(actor: Actor, lens: Lens, artwork: Artwork, t_ms: float) -> Placed:
    leg = actor.leg_at(t_ms)
    assert leg is not None, "only those that are present are placed"
    place = leg.at(t_ms)
    age_ms = t_ms - leg.start_ms
    height_m = actor.kind.height_m * actor.size
    lift_m = place.above_m
    if actor.kind.role is Role.FIRE:
        height_m *= min(1.0, 0.4 + 0.6 * age_ms / _KINDLING_MS)
        height_m *= 1 + 0.07 * math.sin(t_ms / 61) * math.sin(t_ms / 173)
    if leg.doing in _STEPS_PER_S and actor.kind.role is Role.PERSON:
        lift_m += 0.05 * abs(math.sin(math.pi * _STEPS_PER_S[leg.doing] * age_ms / 1000))
    looks_right = faces_right(actor, leg, lens)
    sprite = artwork.sprite(
        Appearance(
            kind=actor.kind,
            look=actor.look,
            pose=_POSE.get(leg.doing, Pose.STANDING),
            colour=actor.colour if artwork.is_painted(actor.kind, actor.look) else "",
            height_px=max(2, round(height_m * lens.scale(place.z))),
            mirrored=looks_right,
            turned=_turned(leg, age_ms) * (1 if looks_right else -1) % 360,
        )
    )
    left = round(lens.column(place.x, place.z) - sprite.width / 2)
    top = round(lens.row(place.z, lift_m)) - sprite.height
    return Placed(actor, leg, place, sprite, left, top, round(lens.row(place.z)))


def faces_right(actor: Actor, leg: Leg, lens: Lens) -> bool:
    """Drawings look to the left; they are mirrored for who goes to the right, or went there last."""
    if leg.doing is Doing.CARRIED:
        return actor.look % 2 == 1
    for one in actor.legs[actor.legs.index(leg) :: -1]:
        shift = lens.column(one.end.x, one.end.z) - lens.column(one.start.x, one.start.z)
        if one.doing in MOVING and abs(shift) > 1:
            return shift > 0
    return actor.look // 2 % 2 == 1


def _turned(leg: Leg, age_ms: float) -> int:
    """Degrees from upright, in few steps so that few sprites are made."""
    if leg.doing is Doing.LYING:
        return 90
    part = age_ms / (leg.end_ms - leg.start_ms)
    if leg.doing is Doing.FALLING:
        return round(part * part * 3) * 30
    if leg.doing is Doing.RISING:
        return round((1 - part) * 3) * 30
    return 0
