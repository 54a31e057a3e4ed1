"""Decides what in a still camera's video is an object: what differs from the still background, whole and by itself."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageFilter

from standwatch.compression.world.artwork import Cutout
from standwatch.compression.world.seeing import Box

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

_STIR, _STIRRED = 10.0, 0.004  # a cell has changed by so much of 255; so many cells make another view
_DISTINCT = 0.7  # mean cover of what is no mere shadow or change of light
_ENOUGH = 24  # frames that a median is taken of
_CELL = 8  # pixels of the side of a cell in which connections are looked for


@dataclass(frozen=True, slots=True)
class Shape:
    """What is taken for one object: how much it differs, how large it is, and how high for its width."""

    difference: float = 26.0  # of 255, in the channel that differs most
    least_area: float = 0.012  # of the picture's
    most_area: float = 0.4
    least_filled: float = 0.44  # of the rectangle around it
    upright: tuple[float, float] = (1.4, 6.0)


def returning_background(frames: Sequence[UInt8Array]) -> UInt8Array:
    """What the camera sees when nobody is there, [H, W, 3]: the median of the view that returns most often.

    People come and go and each stands in a way of their own; only the empty place looks the same again and again.
    """
    if not frames:
        raise ValueError("frames: none was given; a background needs some, the more the better")
    small = np.stack([_coarse(frame) for frame in frames])
    best: tuple[int, int, BoolArray] = (0, 0, np.ones(len(frames), bool))
    for one in small:
        alike = (np.abs(small - one).max(-1) > _STIR).mean((1, 2)) < _STIRRED
        runs = int(alike[0]) + int((alike[1:] & ~alike[:-1]).sum())
        best = max(best, (runs, int(alike.sum()), alike), key=lambda found: found[:2])
    chosen = [frame for frame, alike in zip(frames, best[2], strict=True) if alike]
    return np.asarray(np.median(np.stack(chosen[:: 1 + len(chosen) // _ENOUGH]), axis=0).astype(np.uint8))


def bright_background(frames: Sequence[UInt8Array], percentile: float = 98.0) -> UInt8Array:
    """A bright wall behind darker things that nearly always stand there, [H, W, 3]; each place must be free once.

    Their reflections are brighter than the wall around them, and are taken out.
    """
    if not frames:
        raise ValueError("frames: none was given; a background needs some, the more the better")
    found = Image.fromarray(np.percentile(np.stack(frames), percentile, axis=0).astype(np.uint8))
    small = found.resize((found.width // 4, found.height // 4), Image.Resampling.BOX)
    around = small.filter(ImageFilter.MedianFilter(9)).resize(found.size, Image.Resampling.BICUBIC)
    return np.asarray(ImageChops.darker(found, ImageChops.add(around, Image.new("RGB", found.size, (5, 5, 5)))))


def cut_out(frames: Sequence[UInt8Array], background: UInt8Array, name: str, shape: Shape = Shape()) -> list[Cutout]:
    """The objects of all frames [H, W, 3] that lie wholly inside the picture, each named `name`."""
    still = _blurred(background)
    return [cutout for frame in frames for cutout in _cut_frame(frame, still, name, shape)]


@dataclass(frozen=True, eq=False)
class Difference:
    """Which pixels of a frame are not the background's, [H, W]."""

    cover: BoolArray

    @property
    def area(self) -> float:
        """Of the frame, 0..1."""
        return float(self.cover.mean())

    def parts(self) -> list["Difference"]:
        """Its connected parts, the first found first; pixels are looked at in cells of 8."""
        cells, _ = _cells(self.cover.astype(np.float32))
        found = []
        for part in _parts(cells):
            own = np.zeros_like(self.cover)
            fine = _fine(_grown(part))
            own[: fine.shape[0], : fine.shape[1]] = fine
            found.append(Difference(self.cover & own))
        return found

    def inside(self, crop: Box) -> tuple[float, Box]:
        """How much of it is in a part of the frame, 0..1, and the box around that; an empty one where nothing is."""
        kept = self.cover[crop.top : crop.bottom, crop.left : crop.right]
        rows, columns = np.flatnonzero(kept.any(1)), np.flatnonzero(kept.any(0))
        if not len(rows):
            return 0.0, Box(crop.left, crop.top, crop.left, crop.top)
        left, right = crop.left + int(columns[0]), crop.left + int(columns[-1]) + 1
        top, bottom = crop.top + int(rows[0]), crop.top + int(rows[-1]) + 1
        return float(kept.sum() / self.cover.sum()), Box(left, top, right, bottom)


def differing(frames: Sequence[UInt8Array], background: UInt8Array) -> list[Difference]:
    """Of every frame [H, W, 3] what differs from the background, cut off by the border or not; single pixels do not."""
    still = _blurred(background)
    found = []
    for frame in frames:
        cells, cover = _cells(_cover(frame, still, Shape().difference))
        own = np.zeros(frame.shape[:2], bool)
        own[: cover.shape[0], : cover.shape[1]] = _fine(_grown(cells)) & (cover > 0.5)
        found.append(Difference(own))
    return found


def _cells(cover: FloatArray) -> tuple[BoolArray, FloatArray]:
    """Which cells of a frame are something, and the cover of the pixels that are in whole cells."""
    height, width = cover.shape[0] // _CELL, cover.shape[1] // _CELL
    cover = cover[: height * _CELL, : width * _CELL]
    return cover.reshape(height, _CELL, width, _CELL).mean((1, 3)) > 0.4, cover


def _cut_frame(frame: UInt8Array, background: FloatArray, name: str, shape: Shape) -> list[Cutout]:
    cells, cover = _cells(_cover(frame, background, shape.difference))
    found = []
    for part in _parts(cells):
        rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        upright = (bottom - top) / (right - left)
        if not shape.least_area <= part.sum() / part.size <= shape.most_area:
            continue
        if not shape.upright[0] <= upright <= shape.upright[1]:
            continue
        filled = _without_holes(part)
        if filled.sum() < shape.least_filled * (bottom - top) * (right - left):
            continue
        pixels = (
            slice(max(0, top - 1) * _CELL, (bottom + 1) * _CELL),
            slice(max(0, left - 1) * _CELL, (right + 1) * _CELL),
        )
        if cover[_fine(part)].mean() < _DISTINCT or _is_cut_off(cover * _fine(_grown(filled))):
            continue
        near, inside = _fine(_grown(filled))[pixels], _fine(~_grown(~filled))[pixels]
        alpha = np.where(inside, 1.0, cover[pixels] * near)
        soft = np.asarray(Image.fromarray((alpha * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.2)))
        tight = np.clip((soft.astype(np.float32) - 110) * 2.2, 0, 255).astype(np.uint8)  # no rim of background
        found.append(Cutout(name, np.dstack((frame[pixels], tight))))
    return found


def _is_cut_off(cover: FloatArray) -> bool:
    """Whether something goes on beyond the border of the picture."""
    return bool(max(cover[0].max(), cover[-1].max(), cover[:, 0].max(), cover[:, -1].max()) > 0.5)


def _cover(frame: UInt8Array, background: FloatArray, difference: float) -> FloatArray:
    """0 where a pixel is background, 1 where it is something else; a change of exposure is taken out first."""
    one = _blurred(frame)
    gain = float(np.median(one[::4, ::4] / np.maximum(background[::4, ::4], 8)))
    away = np.maximum.reduce(np.abs(one - background * gain).transpose(2, 0, 1))
    return np.asarray(np.clip((away - difference * 0.6) / (difference * 0.8), 0, 1), np.float32)


def _coarse(frame: UInt8Array) -> FloatArray:
    image = Image.fromarray(frame)
    return np.asarray(image.resize((image.width // 12, image.height // 12), Image.Resampling.BOX), np.float32)


def _blurred(picture: UInt8Array) -> FloatArray:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.BoxBlur(1.5)), np.float32)


def _parts(cells: BoolArray) -> list[BoolArray]:
    """The connected parts of a grid, also across corners, the first found first."""
    left = cells.copy()
    found = []
    for start in zip(*(axis.tolist() for axis in np.nonzero(cells)), strict=True):
        if not left[start]:
            continue
        part, waiting = np.zeros_like(cells), deque([start])
        left[start] = False
        while waiting:
            row, column = waiting.popleft()
            part[row, column] = True
            for near in ((row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)):
                if 0 <= near[0] < cells.shape[0] and 0 <= near[1] < cells.shape[1] and left[near]:
                    left[near] = False
                    waiting.append(near)
        found.append(part)
    return found


def _without_holes(part: BoolArray) -> BoolArray:
    """With everything that cannot be reached from the border."""
    outside = np.pad(~part, 1, constant_values=True)
    return ~next(piece for piece in _parts(outside) if piece[0, 0])[1:-1, 1:-1]


def _grown(part: BoolArray) -> BoolArray:
    """With the cells above, below and beside it."""
    padded = np.pad(part, 1)
    return padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:] | part


def _fine(part: BoolArray) -> BoolArray:
    """The same in pixels."""
    return part.repeat(_CELL, 0).repeat(_CELL, 1)
