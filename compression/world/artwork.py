"""Decides what an object looks like at a size: drawings and cut-outs become sprites that can be laid over a picture."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import resvg_py
from PIL import Image

from standwatch.compression.world.kinds import DRAWINGS, Kind, Pose, Role
from standwatch.compression.world.palette import repaint
from standwatch.compression.world.redrawing import redrawn

UInt8Array = npt.NDArray[np.uint8]
UInt16Array = npt.NDArray[np.uint16]
BoolArray = npt.NDArray[np.bool_]

_MASTER_PX = 256  # side of the square a drawing is first drawn on
_POSES = (Pose.STANDING, Pose.WALKING, Pose.RUNNING, Pose.KNEELING)  # in the order of a look's drawings
_LOW = {Pose.KNEELING: 0.76}  # height of a pose, of that of standing


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """An object cut out of a video of a still camera; its border is transparent. Its colours are its own."""

    name: str  # of the kind that it shows
    rgba: UInt8Array  # [h, w, 4]


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """A picture of an object, ready to be laid over: over = colour + under * through / 256."""

    colour: UInt16Array  # [h, w, 3], times its own cover
    through: UInt16Array  # [h, w, 1], 0 where it covers, 256 where nothing is
    solid: BoolArray  # [h, w], where it covers more than half
    solid_px: int

    @property
    def height(self) -> int:
        return int(self.solid.shape[0])

    @property
    def width(self) -> int:
        return int(self.solid.shape[1])


@dataclass(frozen=True, slots=True)
class Appearance:
    """Everything that a sprite depends on. `height_px` is that of the object standing upright."""

    kind: Kind
    look: int
    pose: Pose
    colour: str
    height_px: int
    mirrored: bool
    turned: int  # degrees, clockwise


@dataclass(eq=False)
class Artwork:
    """One style: a set of drawings, with cut-outs and pictures of real places mixed in where they are given.

    Where a kind has cut-outs, every other look is one of them. Raises ValueError where a drawing is missing.
    """

    svgs: Mapping[str, str]  # the name of a drawing -> its SVG text; all of `kinds.DRAWINGS`
    cutouts: Sequence[Cutout] = ()
    places: Mapping[str, UInt8Array] = field(default_factory=dict)  # name -> [h, w, 3]
    hand: str = ""  # that has drawn all of it anew; as the set has it, if empty

    def __post_init__(self) -> None:
        missing = [name for name in DRAWINGS if name not in self.svgs]
        if missing:
            raise ValueError(f"svgs: {len(missing)} drawings are missing, the first is {missing[0]!r}")
        self._cut: dict[str, list[UInt8Array]] = {}
        for cutout in self.cutouts:
            self._cut.setdefault(cutout.name, []).append(cutout.rgba)
        self._rendered = lru_cache(None)(self._render)  # takes longest by far, and there are few
        self._drawn = lru_cache(None)(self._draw)
        self._master = lru_cache(256)(self._paint)
        self.sprite = lru_cache(256)(self._make_sprite)

    def by_hand(self, hand: str) -> "Artwork":
        """The same things, each drawn anew in a way that only this hand draws it."""
        other = replace(self, hand=hand)
        other._rendered = self._rendered
        return other

    def is_painted(self, kind: Kind, look: int) -> bool:
        """Whether this look has the colour that the script gives it; a cut-out has its own."""
        return bool(kind.colours) and not self._is_cut(kind, look)

    def _is_cut(self, kind: Kind, look: int) -> bool:
        return kind.name in self._cut and look % 2 == 1

    def _make_sprite(self, seen: Appearance) -> Sprite:
        kind, look = seen.kind, seen.look
        low = _LOW.get(seen.pose, 1.0)
        if self._is_cut(kind, look):
            pictures = self._cut[kind.name]
            master = pictures[look // 2 % len(pictures)]
            low = 1.0
        else:
            drawings = kind.looks[(look // 2 if kind.name in self._cut else look) % len(kind.looks)]
            place = _POSES.index(seen.pose)
            low = low if place < len(drawings) else 1.0
            drawing = drawings[place] if place < len(drawings) else drawings[0]
            master = self._master(drawing, seen.colour, kind.role is Role.PERSON)
        height = max(2, round(seen.height_px * low))
        width = max(2, round(height * master.shape[1] / master.shape[0]))
        picture = Image.fromarray(master).resize((width, height), Image.Resampling.BOX if height < 24 else _SMOOTH)
        if seen.mirrored:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if seen.turned:
            turned = picture.rotate(-seen.turned, Image.Resampling.BICUBIC, expand=True)
            return to_sprite(_cropped(np.asarray(turned)))
        return to_sprite(np.asarray(picture))

    def _paint(self, drawing: str, colour: str, person: bool) -> UInt8Array:
        picture = self._drawn(drawing)
        return repaint(picture, colour, person) if colour else picture

    def _draw(self, drawing: str) -> UInt8Array:
        picture = self._rendered(drawing)
        return _cropped(redrawn(picture, f"{self.hand} {drawing}")) if self.hand else picture

    def _render(self, drawing: str) -> UInt8Array:
        png = resvg_py.svg_to_bytes(
            svg_string=self.svgs[drawing], width=_MASTER_PX, height=_MASTER_PX, skip_system_fonts=True
        )
        picture = np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))
        if picture[..., 3].max() < _FAINT:
            raise ValueError(f"svgs: {drawing!r} draws nothing that can be seen")
        return _cropped(picture)


_SMOOTH = Image.Resampling.LANCZOS
_FAINT = 24  # of an alpha; less is a shadow or a soft edge
_VISIBLE = [0] * _FAINT + [255] * (256 - _FAINT)


def _cropped(rgba: UInt8Array) -> UInt8Array:
    """To what of it can be seen, if anything."""
    box = Image.fromarray(rgba).getchannel("A").point(_VISIBLE).getbbox()
    return rgba[box[1] : box[3], box[0] : box[2]] if box else rgba


def to_sprite(rgba: UInt8Array) -> Sprite:
    """A sprite of RGBA pixels as they are."""
    alpha = rgba[..., 3:].astype(np.uint16)
    alpha += alpha >> 7  # 0..256
    colour = (rgba[..., :3] * alpha + 128) >> 8
    solid = alpha[..., 0] > 128
    return Sprite(colour.astype(np.uint16), 256 - alpha, solid, int(solid.sum()))
