"""Decides how bright a scene is at a moment, and where in the picture; and how much the sensor adds of its own.

Light is one level, 0 dark to 1 full, in steps; for each step a map says what is left of every pixel. Outdoors the
level follows the hour, with clouds; indoors it is that of the lamps. Lamps outdoors light pools of the floor at night.
"""

import math
import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from standwatch.compression.world.script import Scene
from standwatch.compression.world.sites import Stage

UInt8Array = npt.NDArray[np.uint8]
UInt16Array = npt.NDArray[np.uint16]
Int16Array = npt.NDArray[np.int16]
FloatArray = npt.NDArray[np.float32]

_STEPS = 40
_GRAINS = 6  # strengths of noise
_SLACK = 61  # how far the sheet of noise can be shifted
_FLICKER_MS = 130


class Light:
    """The light of one scene. Keeps maps and noise that it has made; the same moment always gives the same."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        stage = scene.stage
        chance = random.Random(f"light {stage.site} {stage.seed}")
        self._key = stage.seed * 2654435761 % 2**32
        self._phases = [chance.uniform(0, 2 * math.pi) for _ in range(3)]
        self._fixed = _fixed(stage)
        self._map = lru_cache(12)(self._make_map)
        self._grain = lru_cache(_GRAINS)(self._make_grain)

    def level(self, t_ms: float) -> float:
        """0 dark .. 1 full light."""
        daylight, minutes = self._scene.light, t_ms / 60_000
        waves = zip(self._phases, (0.9, 2.3, 7.1), strict=True)
        drift = sum(math.sin(minutes * 2 * math.pi / period + phase) for phase, period in waves) / 3
        level = 1 - daylight.drift * (0.5 + 0.5 * drift)
        if self._scene.stage.indoors:
            return level * (0.62 if daylight.flickers and self._is_out(t_ms) else 1.0)
        hour = (daylight.first_hour + daylight.hours_per_minute * minutes) % 24
        sun = min(1.0, max(0.0, 0.5 + 1.9 * math.sin((hour - 6) / 12 * math.pi)))
        return level * (0.24 + 0.76 * sun * sun * (3 - 2 * sun))

    def map(self, t_ms: float) -> UInt16Array:
        """What each pixel is multiplied with, [H, W, 3]; 256 is full light, and the most. Not to be written to."""
        return self._map(round(self.level(t_ms) * _STEPS))

    def noise(self, t_ms: float) -> Int16Array:
        """What the sensor adds to each pixel, [H, W, 3]; more in the dark. Not to be written to."""
        lens = self._scene.stage.lens
        dark = 1 - self.level(t_ms)
        grain = self._grain(min(_GRAINS - 1, int(dark * _GRAINS)))
        mixed = (int(t_ms * self._scene.fps / 1000 + 0.5) + 1) * 2246822519 + self._key
        down, right = (mixed >> 7) % _SLACK, (mixed >> 15) % _SLACK
        return grain[down : down + lens.height, right : right + lens.width]

    def _is_out(self, t_ms: float) -> bool:
        """A lamp that flickers goes out for moments, in some half minutes more than in others."""
        slot = int(t_ms) // _FLICKER_MS
        bad = random.Random(self._key + int(t_ms) // 30_000).random()
        return random.Random(self._key * 31 + slot).random() < 0.3 * bad**3

    def _make_map(self, step: int) -> UInt16Array:
        level = step / _STEPS
        night = max(0.0, 0.75 - level) if not self._scene.stage.indoors else 0.0
        tint = np.array((1 - 0.25 * night, 1 - 0.08 * night, 1 + 0.22 * night), np.float32)
        light = level * self._fixed.shape[..., None] * tint + night * self._fixed.pools
        return np.asarray(np.minimum(light * 256, 256).astype(np.uint16))

    def _make_grain(self, strength: int) -> Int16Array:
        return np.asarray(np.round(self._fixed.noise * (1.4 + 1.1 * strength)).astype(np.int16))


@dataclass(frozen=True, slots=True, eq=False)
class _Fixed:
    """What the light of all scenes of one stage has in common."""

    shape: FloatArray  # [H, W]
    pools: FloatArray  # [H, W, 3]
    noise: FloatArray  # [H + slack, W + slack, 3]


@lru_cache(16)
def _fixed(stage: Stage) -> _Fixed:
    chance = random.Random(f"lamps {stage.site} {stage.seed}")
    noise = np.random.default_rng(chance.getrandbits(32))
    sheet = (stage.lens.height + _SLACK, stage.lens.width + _SLACK)
    grey, colour = (noise.standard_normal((*sheet, count), np.float32) for count in (1, 3))
    return _Fixed(_shape(stage), _pools(stage, chance), grey + np.float32(0.4) * colour)


def _shape(stage: Stage) -> FloatArray:
    """A lens lets less light through at its border, [H, W]."""
    rows, columns = np.ogrid[-1 : 1 : stage.lens.height * 1j, -1 : 1 : stage.lens.width * 1j]
    return np.asarray(1.02 - 0.1 * (rows**2 + columns**2), np.float32)


def _pools(stage: Stage, chance: random.Random) -> FloatArray:
    """Where lamps shine at night, [H, W, 3]."""
    lens = stage.lens
    rows, columns = np.mgrid[: lens.height, : lens.width].astype(np.float32)
    found = np.zeros((lens.height, lens.width, 3), np.float32)
    for _ in range(chance.choice((0, 1, 1, 2))):
        z = lens.near_m * chance.uniform(1.1, 2.0)
        x = chance.uniform(-0.8, 0.8) * lens.half_width_m(z)
        wide, high = 1.5 * lens.scale(z), 1.2 * lens.scale(z)
        away = ((columns - lens.column(x, z)) / wide) ** 2 + ((rows - lens.row(z, 0.6)) / high) ** 2
        warm = np.array((1.0, 0.86, 0.62), np.float32) * chance.uniform(0.6, 1.3)
        found += np.exp(-away)[..., None] * warm
    return found
