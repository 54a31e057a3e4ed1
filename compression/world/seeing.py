"""Decides what is true about a frame: for each object its box, how much of it is visible, and what it is doing."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from standwatch.compression.world.artwork import Artwork
from standwatch.compression.world.perspective import Lens
from standwatch.compression.world.placing import Placed, Standing, far_to_near
from standwatch.compression.world.script import MOVING, Doing, Leg, Scene

UInt16Array = npt.NDArray[np.uint16]


class Heading(str, Enum):
    """Where something goes, as the camera sees it."""

    LEFT = "left"
    RIGHT = "right"
    CLOSER = "towards the camera"
    AWAY = "away from the camera"
    NOWHERE = ""


@dataclass(frozen=True, slots=True)
class Box:
    """Pixels [left, right) by [top, bottom) of the picture."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def middle(self) -> tuple[float, float]:
        """Column and row."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


@dataclass(frozen=True, slots=True)
class Seen:
    """One object in one frame. Whether that is enough to tell what it is, the asker decides: see `truth.is_clear`."""

    actor: int
    name: str
    also: tuple[str, ...]  # other names that are true of it
    colour: str  # empty where none is to be asked for
    box: Box  # of the object as far as it is inside the picture, hidden or not
    size_px: int  # longer side of the whole object
    visible: float  # part of the object's pixels that are in the picture and not hidden
    light: float  # 0 dark .. 1 full, where it is
    zones: tuple[str, ...]  # that it stands in
    doing: Doing
    heading: Heading


def look(
    scene: Scene, artwork: Artwork, placed: Sequence[Placed], fixtures: Sequence[Standing], light: UInt16Array
) -> tuple[Seen, ...]:
    """The truth about what was placed; `light` is the map of the moment [H, W, 3]."""
    lens = scene.stage.lens
    visible_px = _visible_px(lens, placed, fixtures)
    found = []
    for place, count in zip(placed, visible_px, strict=True):
        actor, sprite = place.actor, place.sprite
        box = Box(
            max(0, place.left),
            max(0, place.top),
            min(lens.width, place.left + sprite.width),
            min(lens.height, place.top + sprite.height),
        )
        column, row = box.middle
        on_floor = place.place.above_m == 0
        found.append(
            Seen(
                actor=actor.number,
                name=actor.kind.name,
                also=actor.kind.also,
                colour=actor.colour if artwork.is_painted(actor.kind, actor.look) else "",
                box=box,
                size_px=max(sprite.height, sprite.width),
                visible=count / max(1, sprite.solid_px),
                light=float(light[int(row), int(column)].mean()) / 256,
                zones=scene.stage.zones_at(place.place) if on_floor else (),
                doing=place.leg.doing,
                heading=heading(place.leg, lens),
            )
        )
    return tuple(found)


def heading(leg: Leg, lens: Lens) -> Heading:
    """Left or right where the way across the picture is longer than the way into it."""
    if leg.doing not in MOVING:
        return Heading.NOWHERE
    along, into = leg.end.x - leg.start.x, leg.end.z - leg.start.z
    if abs(along) >= abs(into):
        across = lens.column(leg.end.x, leg.end.z) - lens.column(leg.start.x, leg.start.z)
        return Heading.NOWHERE if across == 0 else Heading.RIGHT if across > 0 else Heading.LEFT
    return Heading.AWAY if into > 0 else Heading.CLOSER


def _visible_px(lens: Lens, placed: Sequence[Placed], fixtures: Sequence[Standing]) -> list[int]:
    """Solid pixels of each object that nothing nearer covers."""
    owner = np.zeros((lens.height, lens.width), np.uint16)
    numbers = {id(thing): number for number, thing in enumerate(placed, 1)}
    for thing in far_to_near(placed, fixtures):
        sprite = thing.sprite
        first_row, first_column = max(0, -thing.top), max(0, -thing.left)
        solid = sprite.solid[first_row : lens.height - thing.top, first_column : lens.width - thing.left]
        row, column = max(0, thing.top), max(0, thing.left)
        owner[row : row + solid.shape[0], column : column + solid.shape[1]][solid] = numbers.get(id(thing), 0)
    return [int(count) for count in np.bincount(owner.ravel(), minlength=len(placed) + 1)[1:]]
