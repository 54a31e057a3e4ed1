"""Decides how a drawing could also have been drawn: the same thing, by another hand.

A few sets of drawings are few styles, and what is learnt from them alone is learnt by heart. Bent, outlined, lit and
coloured otherwise each is a style more, in which the thing and its colour are still told by their names.
"""

import random

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]

_MARGIN_PX = 24  # room to bend and outline into
_BENT = 0.28  # furthest, of the shorter side, at the corners of a mesh of one square; less the finer the mesh
_LINES = ((20, 20, 25), (60, 40, 30), (245, 245, 245))
_SHADES = (32, 48, 64)  # distance of two shades of a flat colour


def redrawn(picture: UInt8Array, seed: str) -> UInt8Array:
    """RGBA [h, w, 4] in a way of its own for each seed, with a margin around it."""
    chance = random.Random(seed)
    bent = Image.fromarray(_bent(_with_margin(picture), chance))
    if chance.random() < 0.35:
        bent = _outlined(bent, chance)
    lit = np.asarray(bent).astype(np.float32)
    lit[..., :3] = _lit(lit[..., :3], chance)
    again = Image.fromarray(lit.clip(0, 255).astype(np.uint8))
    if chance.random() < 0.5:
        again = again.resize((max(8, round(again.width * chance.uniform(0.82, 1.2))), again.height))
    return np.asarray(again)


def _with_margin(picture: UInt8Array) -> UInt8Array:
    """What is transparent has the mean colour, so that no other one leaks in at the edges."""
    wide = np.pad(picture, ((_MARGIN_PX, _MARGIN_PX), (_MARGIN_PX, _MARGIN_PX), (0, 0)))
    wide[wide[..., 3] == 0, :3] = np.average(picture[..., :3], (0, 1), weights=np.repeat(picture[..., 3:], 3, -1))
    return wide


def _bent(picture: UInt8Array, chance: random.Random) -> UInt8Array:
    """Moved along a smooth random field."""
    height, width = picture.shape[:2]
    mesh = chance.choice((3, 4, 6))
    far = chance.uniform(0, _BENT) * (min(height, width) - 2 * _MARGIN_PX) / mesh

    def moved(places: Float32Array, last: int) -> npt.NDArray[np.intp]:
        at_mesh = np.array([[chance.gauss(0, far) for _ in range(mesh)] for _ in range(mesh)], np.float32)
        field = Image.fromarray(at_mesh).resize((width, height), Image.Resampling.BICUBIC)
        there: npt.NDArray[np.intp] = (places + np.asarray(field)).clip(0, last).round().astype(np.intp)
        return there

    down, right = np.mgrid[0:height, 0:width].astype(np.float32)
    return picture[moved(down, height - 1), moved(right, width - 1)]


def _outlined(picture: Image.Image, chance: random.Random) -> Image.Image:
    wider = picture.getchannel("A").filter(ImageFilter.MaxFilter(chance.choice((5, 7, 9, 11))))
    line = Image.new("RGBA", picture.size, chance.choice(_LINES))
    line.putalpha(wider)
    return Image.alpha_composite(line, picture)


def _lit(colours: Float32Array, chance: random.Random) -> Float32Array:
    """Colours [h, w, 3] in light from a side, flattened, paler or stronger; each of these or none."""
    height, width = colours.shape[:2]
    if chance.random() < 0.5:
        angle, strength = chance.uniform(0, 2 * np.pi), chance.uniform(0.2, 0.7)
        down, right = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j]
        colours = colours * (1 + strength * (right * np.cos(angle) + down * np.sin(angle)))[..., None]
    if chance.random() < 0.3:
        shade = chance.choice(_SHADES)
        colours = colours // shade * shade + shade / 2
    if chance.random() < 0.5:
        grey = colours.mean(-1, keepdims=True)
        colours = (grey + (colours - grey) * chance.uniform(0.6, 1.3)) * chance.uniform(0.85, 1.15)
    return colours.astype(np.float32)
