"""Decides how a drawing looks in another colour: the hue that fills most of it is replaced, its shading stays.

Skin and hair of drawn people lie within yellow and orange and are spared where asked; what is grey stays grey.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

_BINS = 36  # of ten degrees
_REACH = 4  # bins on each side of the fullest that belong to the same paint
_VIVID = 0.18  # saturation below which a pixel has no hue of its own
_SKIN = (15.0, 62.0)  # degrees


@dataclass(frozen=True, slots=True)
class Paint:
    """A named colour. Saturation and value are means: where the drawing is lighter or darker, so is the paint."""

    hue: float  # degrees
    saturation: float
    value: float


PAINTS = {
    "red": Paint(358, 0.88, 0.80),
    "yellow": Paint(50, 0.90, 0.95),
    "green": Paint(125, 0.75, 0.55),
    "blue": Paint(218, 0.85, 0.80),
    "purple": Paint(283, 0.65, 0.62),
    "white": Paint(0, 0.0, 0.95),
    "black": Paint(0, 0.0, 0.16),
}
COLOURS = tuple(PAINTS)


def repaint(picture: UInt8Array, colour: str, spare_skin: bool) -> UInt8Array:
    """A copy of an RGBA picture [h, w, 4] whose main hue is `colour`, one of COLOURS.

    Raises ValueError where there is nothing to paint: a drawing without any vivid pixel.
    """
    paint = PAINTS[colour]
    hue, saturation, value = to_hsv(picture[..., :3])
    vivid = (saturation > _VIVID) & (value > 0.12) & (picture[..., 3] > 40)
    if spare_skin:
        vivid &= (hue < _SKIN[0]) | (hue > _SKIN[1])
    if not vivid.any():
        raise ValueError("picture: no pixel of it has a hue that could be replaced; give the kind no colours")
    bins = (hue * (_BINS / 360)).astype(np.intp) % _BINS
    filled = np.bincount(bins[vivid], saturation[vivid] * picture[..., 3][vivid], _BINS)
    spread = np.arange(-_REACH, _REACH + 1)
    fullest = int(np.argmax([filled[(place + spread) % _BINS].sum() for place in range(_BINS)]))
    away = np.abs((hue - (fullest + 0.5) * 360 / _BINS + 180) % 360 - 180)
    chosen = vivid & (away <= (_REACH + 0.5) * 360 / _BINS)
    relative = value[chosen] / max(float(value[chosen].mean()), 1e-3)
    spread_s = saturation[chosen] / max(float(saturation[chosen].mean()), 1e-3)
    new = from_hsv(
        np.full(relative.shape, paint.hue, np.float32),
        np.clip(paint.saturation * (0.6 + 0.4 * spread_s), 0, 1).astype(np.float32),
        np.clip(paint.value * relative, 0, 1).astype(np.float32),
    )
    painted = picture.copy()
    painted[..., :3][chosen] = new
    return painted


def to_hsv(rgb: UInt8Array) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Hue in degrees, saturation and value in 0..1, each of the shape of `rgb` without its last axis."""
    parts = rgb.astype(np.float32) / 255
    red, green, blue = parts[..., 0], parts[..., 1], parts[..., 2]
    value = parts.max(-1)
    span = value - parts.min(-1)
    safe = np.where(span > 0, span, 1)
    hue = np.where(
        value == red,
        (green - blue) / safe % 6,
        np.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    saturation = np.where(value > 0, span / np.where(value > 0, value, 1), 0)
    return (hue * 60).astype(np.float32), saturation.astype(np.float32), value.astype(np.float32)


def from_hsv(hue: FloatArray, saturation: FloatArray, value: FloatArray) -> UInt8Array:
    """RGB [..., 3] of hue in degrees, saturation and value in 0..1."""
    turn = np.stack([(hue / 60 + shift) % 6 for shift in (5.0, 3.0, 1.0)], -1)
    mix = np.clip(np.minimum(turn, 4 - turn), 0, 1)
    rgb = value[..., None] * (1 - saturation[..., None] * mix)
    return np.asarray((rgb * 255 + 0.5).astype(np.uint8))
