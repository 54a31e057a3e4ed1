"""Decides what a stage looks like when nobody is there: a ray for each point of the picture, to floor, wall or sky."""

import math
import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from standwatch.compression.world.perspective import Lens
from standwatch.compression.world.sites import Stage
from standwatch.compression.world.surfaces import (
    Colour,
    FloatArray,
    Grain,
    Surface,
    facade,
    gates,
    goods,
    lights,
    plain,
    ribs,
    sky,
    slabs,
)

UInt8Array = npt.NDArray[np.uint8]

_FINE = 2  # rays per pixel and direction
_PAINT = {"yellow": (214, 178, 38), "red": (176, 52, 46), "blue": (48, 92, 172), "green": (54, 136, 76)}
_GOODS: tuple[Colour, ...] = (
    (150, 84, 72),
    (170, 148, 92),
    (92, 118, 140),
    (108, 130, 96),
    (182, 176, 164),
    (120, 96, 116),
    (84, 84, 88),
)


@dataclass(frozen=True, slots=True)
class _Surfaces:
    floor: Surface
    wall: Surface
    side: Surface
    ceiling: Surface
    above: Surface
    wall_m: float  # height of the wall at the back; above it there is sky


@lru_cache(2500)  # training comes back to its 2,000 places again and again
def draw_backdrop(stage: Stage) -> UInt8Array:
    """The empty place in full light, without its fixtures, [H, W, 3]. Not to be written to."""
    lens = stage.lens
    chance = random.Random(f"backdrop {stage.site} {stage.seed}")
    grain = Grain(chance)
    made = _surfaces(stage, chance, grain)
    columns = ((np.arange(lens.width * _FINE) + 0.5) / _FINE - lens.width / 2) / (lens.focal * lens.height)
    rows = ((np.arange(lens.height * _FINE) + 0.5) / _FINE - lens.horizon_row) / (lens.focal * lens.height)
    right, down = (axis.astype(np.float32).ravel() for axis in np.meshgrid(columns, rows))
    with np.errstate(divide="ignore"):
        to_floor = np.where(down > 0, lens.camera_m / down, np.inf)
        to_ceiling = np.where(down < 0, (stage.ceiling_m - lens.camera_m) / -down, np.inf)
        to_side = stage.half_m / np.abs(right)
    depth = np.minimum.reduce([to_floor, to_ceiling, to_side, np.full_like(to_floor, stage.far_m)]).astype(np.float32)
    x, height = right * depth, lens.camera_m - down * depth
    found = np.empty((len(depth), 3), np.float32)
    floor, ceiling = depth == to_floor.astype(np.float32), depth == to_ceiling.astype(np.float32)
    side = (depth == to_side.astype(np.float32)) & ~floor & ~ceiling
    open_sky = ~floor & ~ceiling & ~side & (height > made.wall_m)
    wall = ~(floor | ceiling | side | open_sky)
    found[floor] = _painted(stage, made.floor(x[floor], depth[floor]), x[floor], depth[floor], grain)
    found[ceiling] = made.ceiling(x[ceiling], depth[ceiling])
    found[side] = made.side(depth[side] + np.where(right[side] > 0, 40, 0).astype(np.float32), height[side]) * 0.9
    found[wall] = made.wall(x[wall], height[wall])
    found[open_sky] = made.above(right[open_sky], -down[open_sky])
    solid = ~open_sky
    found[solid] *= _shade(stage, x[solid], height[solid], depth[solid])[:, None]
    picture = found.reshape(lens.height, _FINE, lens.width, _FINE, 3).mean((1, 3))
    return np.asarray(np.clip(picture, 0, 255).astype(np.uint8))


def _surfaces(stage: Stage, chance: random.Random, grain: Grain) -> _Surfaces:
    grey = chance.uniform(96, 150)
    warm = chance.uniform(-8, 12)
    tone: Colour = (grey + warm, grey + warm * 0.4, grey - warm)
    pale = chance.uniform(168, 212)
    wall_tone: Colour = (pale + chance.uniform(-6, 10), pale, pale + chance.uniform(-24, 6))
    concrete, plaster = plain(tone, grain), plain(wall_tone, grain, 2.5, 5.0)
    brick = slabs((chance.uniform(120, 160), chance.uniform(84, 104), chance.uniform(66, 92)), grain, 0.36, 0.14, 22.0)
    open_air = sky((206, 214, 220), (126, 164, 206), grain)
    panels = lights((188, 190, 188), grain, 2.4)
    if stage.site == "street":
        house = facade(chance.choice((brick, plaster)), (72, 88, 104), grain, chance.uniform(2.2, 3.2), 0.9, 1.1)
        return _Surfaces(_road(stage, tone, grain), house, plaster, panels, open_air, chance.uniform(4.5, 9))
    if stage.site == "yard":
        fence = chance.choice((ribs(tone, grain, 0.3), brick, slabs((118, 96, 72), grain, 0.2, 2.4)))
        ground = chance.choice((concrete, slabs(tone, grain, 0.9, 0.9, 16.0)))
        return _Surfaces(ground, fence, fence, panels, open_air, chance.uniform(1.8, 3.2))
    if stage.site == "dock":
        step = chance.uniform(3.6, 4.6)
        gate: Colour = chance.choice(((126, 134, 140), (96, 112, 128), (140, 128, 106)))
        hall = gates(plain(wall_tone, grain), gate, step, step * 0.68, 3.1)
        return _Surfaces(concrete, hall, plaster, panels, open_air, math.inf)
    if stage.site == "corridor":
        size = chance.uniform(0.4, 0.8)
        bright: Colour = (grey + 50, grey + 48, grey + 42)
        ground = chance.choice((slabs(bright, grain, size, size, 14.0), slabs((132, 92, 60), grain, 0.16, 1.4, 14.0)))
        doors = gates(plaster, (116, 88, 66), chance.uniform(2.6, 3.4), 1.0, 2.15)
        return _Surfaces(ground, doors, doors, panels, open_air, math.inf)
    if stage.site == "shop":
        size = chance.uniform(0.35, 0.7)
        pale_floor: Colour = (wall_tone[0] - 24, wall_tone[1] - 24, wall_tone[2] - 24)
        ground = chance.choice((slabs(pale_floor, grain, size, size, 14.0), slabs((150, 112, 78), grain, 0.18, 1.6)))
        return _Surfaces(ground, _to_height(goods(grain, _GOODS), plaster, 2.3), plaster, panels, open_air, math.inf)
    raise ValueError(f"site: {stage.site!r} has no backdrop of its own; give its picture")


def _to_height(lower: Surface, upper: Surface, height_m: float) -> Surface:
    def paint(u: FloatArray, v: FloatArray) -> FloatArray:
        return np.where((v < height_m)[:, None], lower(u, v), upper(u, v))

    return paint


def _road(stage: Stage, tone: Colour, grain: Grain) -> Surface:
    """Pavement, kerb, road with a broken line between the lanes, pavement."""
    pavement = slabs((tone[0] + 30, tone[1] + 30, tone[2] + 28), grain, 0.7, 0.7, 18.0)
    asphalt = plain((tone[0] * 0.62, tone[1] * 0.62, tone[2] * 0.64), grain, 8.0, 5.0)
    begin, end = stage.walkways[0][1] + 0.12, stage.walkways[1][0] - 0.12
    middle = sum(lane.z for lane in stage.lanes) / len(stage.lanes)

    def paint(u: FloatArray, v: FloatArray) -> FloatArray:
        road = (v > begin) & (v < end)
        found = np.where(road[:, None], asphalt(u, v), pavement(u, v))
        found[(np.abs(v - begin) < 0.1) | (np.abs(v - end) < 0.1)] = (176, 174, 168)
        found[(np.abs(v - middle) < 0.09) & (u % 2.4 < 1.3)] = (206, 204, 196)
        return found

    return paint


def _painted(stage: Stage, ground: FloatArray, x: FloatArray, z: FloatArray, grain: Grain) -> FloatArray:
    """The floor with its zones: worn paint, a stripe around it."""
    for zone in stage.zones:
        inside = (x > zone.x0) & (x < zone.x1) & (z > zone.z0) & (z < zone.z1)
        edge = np.minimum.reduce([x - zone.x0, zone.x1 - x, z - zone.z0, zone.z1 - z])
        cover = np.clip(0.82 + 0.2 * grain.at(x, z, 0.3), 0, 0.95)[:, None]
        paint = np.array(_PAINT[zone.colour], np.float32) * np.where(edge < 0.1, 0.55, 1.0).astype(np.float32)[:, None]
        ground = np.where(inside[:, None], ground * (1 - cover) + paint * cover, ground)
    return ground


def _shade(stage: Stage, x: FloatArray, height: FloatArray, depth: FloatArray) -> FloatArray:
    """Light falls off with distance, in the corners between floor and walls, and around what stands there."""
    to_wall = np.minimum(stage.far_m - depth, stage.half_m - np.abs(x))
    corner = np.exp(-np.maximum(to_wall, np.abs(height)) / 0.35) * (np.minimum(to_wall, np.abs(height)) < 0.02)
    light = (1.06 - 0.22 * depth / stage.far_m) * (1 - 0.3 * corner)
    for fixture in stage.fixtures:
        aside = np.maximum(np.abs(x - fixture.x) - fixture.width_m / 2, 0)
        before = np.maximum(np.abs(depth - fixture.z - fixture.depth_m / 2) - fixture.depth_m / 2, 0)
        light *= 1 - 0.5 * np.exp(-(aside + before) / 0.12) * (np.abs(height) < 0.02)
    return np.asarray(light, np.float32)


def real_backdrop(picture: UInt8Array, lens: Lens) -> UInt8Array:
    """A picture of a real place, cut to the shape of the view and scaled to it."""
    from PIL import Image

    high, wide = picture.shape[:2]
    part = min(wide / lens.width, high / lens.height)
    left, top = (wide - part * lens.width) / 2, (high - part * lens.height) / 2
    box = (left, top, left + part * lens.width, top + part * lens.height)
    scaled = Image.fromarray(picture).resize((lens.width, lens.height), Image.Resampling.BICUBIC, box=box)
    return np.asarray(scaled)
