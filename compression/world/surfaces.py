"""Decides what walls, floors and skies are made of: colours as functions of where a point lies on the surface.

Every function takes metres along the surface, u and v as arrays [n], and returns RGB 0..255 as float32 [n, 3].
"""

import random
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Colour = tuple[float, float, float]
Surface = Callable[[FloatArray, FloatArray], FloatArray]

_LATTICE = 64


class Grain:
    """Smooth noise in -1..1 without a visible period; a seed's own."""

    def __init__(self, chance: random.Random) -> None:
        noise = np.random.default_rng(chance.getrandbits(32))
        self._lattice = noise.uniform(-1, 1, (_LATTICE, _LATTICE)).astype(np.float32)
        self._wrapped = np.pad(self._lattice, ((0, 1), (0, 1)), mode="wrap").ravel()

    def at(self, u: FloatArray, v: FloatArray, size_m: float) -> FloatArray:
        """Spots of about `size_m`."""
        column, row = u * np.float32(1 / size_m) + np.float32(17.3), v * np.float32(1 / size_m) + np.float32(5.1)
        left, top = np.floor(column), np.floor(row)
        x, y = column - left, row - top
        x, y = x * x * (3 - 2 * x), y * y * (3 - 2 * y)
        corner = (top.astype(np.int32) % _LATTICE) * (_LATTICE + 1) + left.astype(np.int32) % _LATTICE
        lattice = self._wrapped
        one, two = lattice[corner], lattice[corner + 1]
        three, four = lattice[corner + _LATTICE + 1], lattice[corner + _LATTICE + 2]
        upper, lower = one + (two - one) * x, three + (four - three) * x
        return np.asarray(upper + (lower - upper) * y, np.float32)

    def each(self, column: FloatArray, row: FloatArray) -> FloatArray:
        """One value for each cell of a grid; columns and rows are whole numbers."""
        return self._lattice[row.astype(np.intp) * 7 % _LATTICE, column.astype(np.intp) * 13 % _LATTICE]


def plain(colour: Colour, grain: Grain, rough: float = 6.0, stains: float = 7.0) -> Surface:
    """Asphalt, concrete or plaster: fine grain and large stains."""

    def paint(u: FloatArray, v: FloatArray) -> FloatArray:
        tone = rough * grain.at(u, v, 0.05) + stains * grain.at(u, v, 1.7) + stains * 0.5 * grain.at(u, v, 0.45)
        return _toned(colour, tone)

    return paint


def slabs(colour: Colour, grain: Grain, width_m: float, length_m: float, joint: float = 28.0) -> Surface:
    """Tiles, flagstones, bricks or planks: each of its own tone, with darker joints; rows are shifted by half."""

    def paint(u: FloatArray, v: FloatArray) -> FloatArray:
        row = np.floor(v / length_m)
        along = u / width_m + 0.5 * (row % 2)
        column = np.floor(along)
        tone = 7 * grain.each(column, row) + 4 * grain.at(u, v, 0.06) + 5 * grain.at(u, v, 1.5)
        edge_u = np.minimum(along - column, 1 - along + column) * width_m
        edge_v = np.minimum(v / length_m - row, 1 - v / length_m + row) * length_m
        return _toned(colour, tone - joint * (np.minimum(edge_u, edge_v) < 0.012 + 0.01 * width_m))

    return paint


def facade(wall: Surface, glass: Colour, grain: Grain, step_m: float, sill_m: float, size_m: float) -> Surface:
    """A house: windows in a grid over a wall, a door here and there on the ground floor."""

    def paint(u: FloatArray, v: FloatArray) -> FloatArray:
        found = wall(u, v)
        column, floor = np.floor(u / step_m), np.floor(v / 3.0)
        x, y = (u / step_m - column) * step_m - step_m / 2, v - floor * 3.0
        door = (floor == 0) & (grain.each(column, floor) > 0.45)
        window = (np.abs(x) < size_m / 2) & (y > sill_m) & (y < sill_m + size_m * 1.2) & ~door
        frame = (np.abs(x) < size_m / 2 + 0.08) & (y > sill_m - 0.08) & (y < sill_m + size_m * 1.2 + 0.08) & ~door
        found[frame] = found[frame] * 0.4 + 120
        found[window] = _toned(glass, 14 * grain.each(column, floor + 3) + 20 * (y - x * 0.3 - sill_m))[window]
        leaf = door & (np.abs(x) < 0.5) & (y < 2.2)
        found[leaf] = _toned((78, 62, 54), 20 * grain.each(column, floor + 9))[leaf]
        return found

    return paint


def gates(wall: Surface, gate: Colour, step_m: float, width_m: float, height_m: float) -> Surface:
    """Roller gates in a wall: slats, a dark frame."""

    def paint(u: FloatArray, v: FloatArray) -> FloatArray:
        found = wall(u, v)
        x = np.abs((u / step_m - np.floor(u / step_m)) - 0.5) * step_m
        frame = (x < width_m / 2 + 0.12) & (v < height_m + 0.12)
        found[frame] = found[frame] * 0.25 + 20
        leaf = (x < width_m / 2) & (v < height_m)
        found[leaf] = _toned(gate, 9 * np.sign(np.sin(v * 2 * np.pi / 0.3)) - 14 * (v < 0.15))[leaf]
        return found

    return paint


def ribs(colour: Colour, grain: Grain, step_m: float) -> Surface:
    """Corrugated metal or a fence of boards: upright ribs."""

    def paint(u: FloatArray, v: FloatArray) -> FloatArray:
        return _toned(colour, 11 * np.sin(u * 2 * np.pi / step_m) + 8 * grain.at(u, v, 0.8))

    return paint


def goods(grain: Grain, colours: Sequence[Colour], board_m: float = 0.55) -> Surface:
    """Shelves: boards with goods of muted colours between them."""
    palette = np.array(colours, np.float32)

    def paint(u: FloatArray, v: FloatArray) -> FloatArray:
        board = np.floor(v / board_m)
        y = v - board * board_m
        slot = np.floor(u / 0.23 + 5 * grain.each(board * 0, board))
        pick = grain.each(slot, board + 11)
        found = palette[((pick + 1) * 0.5 * len(palette)).astype(np.intp) % len(palette)].copy()
        top = board_m * (0.55 + 0.3 * grain.each(slot, board + 29))
        edge = np.abs((u / 0.23 + 5 * grain.each(board * 0, board)) - slot - 0.5) > 0.45
        found[(y > top) | edge] *= 0.35
        found[y < 0.07] = (128, 122, 112)
        return np.asarray(found + (8 * grain.at(u, v, 0.05))[:, None], np.float32)

    return paint


def sky(low: Colour, high: Colour, grain: Grain) -> Surface:
    """Haze at the horizon, clouds above; v is the height over the horizon in units of the picture's."""

    def paint(u: FloatArray, v: FloatArray) -> FloatArray:
        part = np.clip(v * 4, 0, 1)[:, None]
        cloud = np.clip(grain.at(u, v * 3, 0.22) + 0.5 * grain.at(u, v * 3, 0.08) - 0.1, 0, 1)[:, None]
        found = np.array(low, np.float32) * (1 - part) + np.array(high, np.float32) * part
        return np.asarray(found * (1 - 0.6 * cloud) + 235 * 0.6 * cloud, np.float32)

    return paint


def lights(colour: Colour, grain: Grain, step_m: float) -> Surface:
    """A ceiling with glowing panels."""

    def paint(u: FloatArray, v: FloatArray) -> FloatArray:
        found = _toned(colour, 4 * grain.at(u, v, 0.3))
        x, z = u - np.round(u / step_m) * step_m, v - np.round(v / step_m) * step_m
        found[(np.abs(x) < 0.3) & (np.abs(z) < 0.6)] = (250, 250, 244)
        return found

    return paint


def _toned(colour: Colour, tone: FloatArray) -> FloatArray:
    return np.asarray(np.array(colour, np.float32) + tone[:, None], np.float32)
