"""Decides the pixels of a rendered world: what a fixed camera would deliver at any moment, before it is compressed."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from standwatch.compression.world.artwork import Artwork, Sprite, to_sprite
from standwatch.compression.world.backdrop import draw_backdrop, real_backdrop
from standwatch.compression.world.kinds import Role
from standwatch.compression.world.light import Light
from standwatch.compression.world.placing import Placed, Standing, far_to_near, place_actors
from standwatch.compression.world.scenery import draw_fixtures
from standwatch.compression.world.script import Scene
from standwatch.compression.world.seeing import Seen, look

UInt8Array = npt.NDArray[np.uint8]
UInt16Array = npt.NDArray[np.uint16]
Region = tuple[slice, slice, slice, slice]

_FULL = 256  # of a light map; more, times a pixel, would not fit into 16 bits


class Camera:
    """Renders one scene in one style. Any moment can be asked for, in any order; what is kept only saves time."""

    def __init__(self, scene: Scene, artwork: Artwork) -> None:
        """Raises ValueError for a real place of which `artwork` has no picture."""
        self.scene = scene
        self._artwork = artwork
        self._light = Light(scene)
        self._backdrop = _backdrop(scene, artwork)
        self._fixtures = [
            Standing(to_sprite(drawn.rgba), drawn.left, drawn.top, drawn.z) for drawn in draw_fixtures(scene.stage)
        ]

    def frame(self, t_ms: float) -> UInt8Array:
        """The picture at a time of the scene, RGB [H, W, 3]."""
        placed = place_actors(self.scene, self._artwork, t_ms)
        picture = self._backdrop.copy()
        for thing in far_to_near(placed, self._fixtures):
            if isinstance(thing, Placed):
                _shade_floor(picture, thing)
            _lay(picture, thing.sprite, thing.left, thing.top)
        light = _with_fires(self._light.map(t_ms), placed)
        lit = ((picture * light) >> 8).astype(np.int16)
        lit += self._light.noise(t_ms)
        return np.clip(lit, 0, 255, out=lit).astype(np.uint8)

    def frames(self, from_ms: float = 0, to_ms: float | None = None) -> Iterator[tuple[int, UInt8Array]]:
        """Time and picture of every frame in [from_ms, to_ms), at the scene's rate; `to_ms` None is its end."""
        fps, end_ms = self.scene.fps, self.scene.length_ms if to_ms is None else to_ms
        number = -int(-from_ms * fps // 1000)
        while (t_ms := round(number * 1000 / fps)) < end_ms:
            yield t_ms, self.frame(t_ms)
            number += 1

    def seen(self, t_ms: float) -> tuple[Seen, ...]:
        """The truth about the frame of this time: every object that touches the view, the farthest first."""
        placed = place_actors(self.scene, self._artwork, t_ms)
        light = _with_fires(self._light.map(t_ms), placed)
        return look(self.scene, self._artwork, placed, self._fixtures, light)

    def level(self, t_ms: float) -> float:
        """How bright the scene is, 0 dark .. 1 full light."""
        return self._light.level(t_ms)


def _backdrop(scene: Scene, artwork: Artwork) -> UInt8Array:
    stage = scene.stage
    if not stage.site.startswith("real "):
        return draw_backdrop(stage)
    name = stage.site.removeprefix("real ")
    if name not in artwork.places:
        raise ValueError(f"site: there is no picture of the place {name!r}; there are {', '.join(artwork.places)}")
    return real_backdrop(artwork.places[name], stage.lens)


def _lay(picture: UInt8Array, sprite: Sprite, left: int, top: int) -> None:
    """Lay a sprite over a picture in place, as far as it is inside."""
    region = _overlap(picture, sprite.height, sprite.width, left, top)
    if region is None:
        return
    rows, columns, inner_rows, inner_columns = region
    under = picture[rows, columns] * sprite.through[inner_rows, inner_columns]
    picture[rows, columns] = sprite.colour[inner_rows, inner_columns] + (under >> 8)


def _shade_floor(picture: UInt8Array, thing: Placed) -> None:
    """The shadow right below an object."""
    width = thing.sprite.width
    shadow = _shadow(max(4, width))
    height = shadow.shape[0]
    region = _overlap(picture, height, shadow.shape[1], thing.left, thing.base_row - height // 2)
    if region is None:
        return
    rows, columns, inner_rows, inner_columns = region
    picture[rows, columns] = (picture[rows, columns] * shadow[inner_rows, inner_columns]) >> 8


def _with_fires(light: UInt16Array, placed: list[Placed]) -> UInt16Array:
    """Fires light themselves and what is around them."""
    fires = [thing for thing in placed if thing.actor.kind.role is Role.FIRE]
    if not fires:
        return light
    light = light.copy()
    for thing in fires:
        glow = _glow(2 * max(thing.sprite.height, thing.sprite.width))
        left = thing.left + (thing.sprite.width - glow.shape[1]) // 2
        top = thing.top + (thing.sprite.height - glow.shape[0]) // 2
        region = _overlap(light, glow.shape[0], glow.shape[1], left, top)
        if region is not None:
            rows, columns, inner_rows, inner_columns = region
            part = light[rows, columns]
            part += ((_FULL - part.astype(np.int32)) * glow[inner_rows, inner_columns] >> 8).astype(np.uint16)
    return light


def _overlap(picture: UInt8Array | UInt16Array, height: int, width: int, left: int, top: int) -> Region | None:
    """Where a patch lies inside a picture: its rows and columns there, and which of the patch they are."""
    first_row, last_row = max(0, top), min(picture.shape[0], top + height)
    first_column, last_column = max(0, left), min(picture.shape[1], left + width)
    if first_row >= last_row or first_column >= last_column:
        return None
    return (
        slice(first_row, last_row),
        slice(first_column, last_column),
        slice(first_row - top, last_row - top),
        slice(first_column - left, last_column - left),
    )


@lru_cache(512)
def _shadow(width: int) -> UInt16Array:
    """What is left of the floor's light below an object of this width, [h, w, 1] of 256."""
    height = max(3, round(width * 0.2))
    rows, columns = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    dark = np.clip(1.15 - (rows**2 + columns**2), 0, 1) * 0.5
    return np.asarray(((1 - dark) * 256).astype(np.uint16)[..., None])


@lru_cache(64)
def _glow(side: int) -> npt.NDArray[np.int32]:
    """How much of a fire's light arrives around it, [side, side, 3] of 256."""
    rows, columns = np.ogrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    part = np.clip(1.2 - 1.3 * np.hypot(rows, columns), 0, 1)[..., None]
    return np.asarray((part * np.array((256, 220, 160))).astype(np.int32))
