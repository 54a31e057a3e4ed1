"""Decides what fixtures look like: solid things with a front, a top and a side, drawn once for a stage."""

import random
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from standwatch.compression.world.perspective import Lens
from standwatch.compression.world.sites import Fixture, Stage

UInt8Array = npt.NDArray[np.uint8]
Point = tuple[float, float]
Colour = tuple[int, int, int]

_FINE = 3
_GOODS: tuple[Colour, ...] = ((150, 84, 72), (170, 148, 92), (92, 118, 140), (108, 130, 96), (182, 176, 164))


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A fixture in the picture: RGBA [h, w, 4], whose first pixel lies at (left, top) of the view."""

    rgba: UInt8Array
    left: int
    top: int
    z: float


def draw_fixtures(stage: Stage) -> tuple[Drawn, ...]:
    """All fixtures of a stage, in full light, the farther ones first."""
    chance = random.Random(f"fixtures {stage.site} {stage.seed}")
    return tuple(_draw(fixture, stage.lens, chance) for fixture in stage.fixtures)


class _Brush:
    """Draws in floor coordinates on a sheet as large as the view, finer than it."""

    def __init__(self, lens: Lens, chance: random.Random) -> None:
        self._lens = lens
        self.chance = chance
        self._sheet = Image.new("RGBA", (lens.width * _FINE, lens.height * _FINE), (0, 0, 0, 0))
        self._pen = ImageDraw.Draw(self._sheet)

    def polygon(self, corners: list[tuple[float, float, float]], colour: Colour) -> None:
        """Corners are (x, z, metres above the floor)."""
        self._pen.polygon([self._at(*corner) for corner in corners], fill=(*colour, 255))

    def front(self, x0: float, x1: float, low_m: float, high_m: float, z: float, colour: Colour) -> None:
        self.polygon([(x0, z, low_m), (x1, z, low_m), (x1, z, high_m), (x0, z, high_m)], colour)

    def blob(self, x: float, above_m: float, z: float, radius_m: float, colour: Colour) -> None:
        column, row = self._at(x, z, above_m)
        radius = radius_m * self._lens.scale(z) * _FINE
        self._pen.ellipse((column - radius, row - radius, column + radius, row + radius), fill=(*colour, 255))

    def block(self, fixture: Fixture, colour: Colour) -> None:
        """Front, top and whichever side is seen."""
        x0, x1 = fixture.x - fixture.width_m / 2, fixture.x + fixture.width_m / 2
        z, back, high = fixture.z, fixture.z + fixture.depth_m, fixture.height_m
        x = x1 if x1 < 0 else x0
        if x0 > 0 or x1 < 0:
            self.polygon([(x, z, 0), (x, back, 0), (x, back, high), (x, z, high)], _darker(colour, 0.6))
        if high < self._lens.camera_m:
            self.polygon([(x0, z, high), (x1, z, high), (x1, back, high), (x0, back, high)], _darker(colour, 1.18))
        self.front(x0, x1, 0, high, z, colour)

    def lift(self, z: float) -> Drawn:
        """What was drawn, in the view's pixels, cut to where there is something."""
        lens = self._lens
        box = self._sheet.getbbox() or (0, 0, _FINE, _FINE)
        left, top = box[0] // _FINE, box[1] // _FINE
        right, bottom = -(-box[2] // _FINE), -(-box[3] // _FINE)
        part = self._sheet.crop((left * _FINE, top * _FINE, right * _FINE, bottom * _FINE))
        small = part.resize((right - left, bottom - top), Image.Resampling.BOX)
        assert right <= lens.width and bottom <= lens.height
        return Drawn(np.asarray(small), left, top, z)

    def _at(self, x: float, z: float, above_m: float) -> Point:
        return self._lens.column(x, z) * _FINE, self._lens.row(z, above_m) * _FINE


def _draw(fixture: Fixture, lens: Lens, chance: random.Random) -> Drawn:
    brush = _Brush(lens, chance)
    x0, x1 = fixture.x - fixture.width_m / 2, fixture.x + fixture.width_m / 2
    z, high = fixture.z, fixture.height_m
    if fixture.what == "lamp post":
        brush.front(x0, x1, 0, high, z, (70, 74, 78))
        brush.front(x0 - 0.06, x1 + 0.06, 0, 0.35, z, (56, 60, 64))
    elif fixture.what == "tree":
        brush.front(fixture.x - 0.12, fixture.x + 0.12, 0, high, z, (82, 62, 46))
        for _ in range(60):
            green = chance.randrange(70, 120)
            place = fixture.x + chance.uniform(-0.6, 0.6), high - chance.uniform(-0.6, 0.8)
            brush.blob(*place, z, chance.uniform(0.12, 0.3), (green - 40, green, green - 50))
    elif fixture.what == "hedge":
        brush.block(fixture, (52, 84, 46))
        for _ in range(160):
            green = chance.randrange(60, 112)
            place = chance.uniform(x0, x1), chance.uniform(0.05, high + 0.06)
            brush.blob(*place, z, chance.uniform(0.03, 0.09), (green - 32, green, green - 40))
    elif fixture.what == "machine":
        grey = chance.randrange(96, 132)
        brush.block(fixture, (grey - 8, grey + 4, grey))
        for slot in range(6):
            low = high * (0.45 + slot * 0.07)
            brush.front(x0 + 0.1, x1 - 0.25, low, low + 0.025, z, (52, 56, 56))
        brush.front(x1 - 0.18, x1 - 0.06, high * 0.7, high * 0.85, z, (60, 64, 66))
    elif fixture.what == "container":
        steel = chance.choice(((96, 108, 118), (128, 92, 78), (92, 104, 88)))
        brush.block(fixture, steel)
        ribs = 14
        for rib in range(ribs):
            left = x0 + (x1 - x0) * rib / ribs
            brush.front(left, left + (x1 - x0) / ribs / 2, 0.06, high - 0.06, z, _darker(steel, 0.82))
    elif fixture.what == "pillar":
        pale = chance.randrange(136, 176)
        brush.block(fixture, (pale, pale, pale - 6))
        brush.front(x0, x0 + (x1 - x0) * 0.3, 0, high, z, (pale - 22, pale - 22, pale - 26))
    elif fixture.what == "cabinet":
        grey = chance.randrange(110, 150)
        brush.block(fixture, (grey, grey + 2, grey + 6))
        for drawer in range(3):
            brush.front(x0 + 0.04, x1 - 0.04, high * drawer / 3 + 0.04, high * drawer / 3 + 0.07, z, (60, 62, 66))
    elif fixture.what == "counter":
        brush.block(fixture, (chance.randrange(120, 156), 104, 84))
        brush.front(x0, x1, high - 0.07, high, z, (206, 202, 194))
    elif fixture.what == "shelf":
        brush.block(fixture, (112, 112, 116))
        _fill_shelf(brush, fixture, x0, x1)
    else:
        raise ValueError(f"what: {fixture.what!r} is no fixture that can be drawn")
    return brush.lift(z)


def _fill_shelf(brush: _Brush, fixture: Fixture, x0: float, x1: float) -> None:
    boards = 3
    step = fixture.height_m / boards
    for board in range(boards):
        low = board * step
        brush.front(x0 + 0.04, x1 - 0.04, low + 0.05, low + step, fixture.z, (58, 56, 56))
        left = x0 + 0.06
        while left < x1 - 0.2:
            wide = brush.chance.uniform(0.1, 0.2)
            high = low + step * brush.chance.uniform(0.5, 0.9)
            brush.front(left, left + wide, low + 0.05, high, fixture.z, brush.chance.choice(_GOODS))
            left += wide + 0.01
    brush.front(x0, x1, 0, 0.05, fixture.z, (90, 90, 94))


def _darker(colour: Colour, part: float) -> Colour:
    red, green, blue = (min(255, int(one * part)) for one in colour)
    return red, green, blue
