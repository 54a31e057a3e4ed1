"""Decides what real footage teaches: crops of a still camera's frames, in which whatever differs from the empty place
is of the one kind that is known to move there.

What is filmed in drawn worlds alone is learnt as being drawn. Only the part of a video that training may use is seen
here, and only what its pixels can tell is asked: what is there, how many and where.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from standwatch.actors.footage import TRAINED_PART, Footage, frames_of
from standwatch.compression.tuning.quiz_claims import Topic
from standwatch.compression.tuning.shown import Shown, role_words
from standwatch.compression.world.cutouts import Difference, differing
from standwatch.compression.world.kinds import KINDS
from standwatch.compression.world.script import Doing
from standwatch.compression.world.seeing import Box, Heading, Seen

UInt8Array = npt.NDArray[np.uint8]

TOPICS: Mapping[Topic, float] = {Topic.PRESENCE: 6, Topic.COUNT: 2, Topic.SIDE: 2, Topic.LIST: 1}
_SOMETHING, _NOTHING = 0.03, 0.002  # of the frame differs: surely something, surely nothing
_WHOLE, _GONE = 0.6, 0.02  # part of it inside a crop: enough to tell what it is, and as good as nothing
_LEAST_CROP = 0.6  # of the frame's sides
_LEAST_WIDTH = 0.3  # where several things stand side by side
_AREA = (0.04, 0.09)  # of the frame, of one of those,
_UPRIGHT = (2.0, 4.5)  # and its height for its width: what has another shape is held by a hand
_SPECK = 0.006  # of the frame: nothing
_BRIGHTNESS = (0.6, 1.2)
_TRIES = 50


@dataclass(frozen=True, eq=False)
class RealFrame:
    """A frame [H, W, 3] of a video, its things, all of one kind, and the least part of its width to be shown."""

    picture: UInt8Array
    name: str
    things: tuple[Difference, ...]
    least_width: float = _LEAST_CROP


def real_frames(videos: Sequence[Footage]) -> list[RealFrame]:
    """Frames of the trained part of the videos, where they are not doubtful.

    Things either come and go one by one, or stand side by side most of the time. Raises `BadInput` for what is no
    video.
    """
    found = []
    for video in videos:
        frames = [video.empty_part(frame) for frame in frames_of(video.path, video.fps, TRAINED_PART)]
        for frame, other in zip(frames, differing(frames, video.background(frames)), strict=True):
            things = _side_by_side(other) if video.always_there else _one_by_one(other)
            if things is not None:
                width = _LEAST_WIDTH if video.always_there else _LEAST_CROP
                found.append(RealFrame(frame, video.name, things, width))
    return found


def real_take(frames: Sequence[RealFrame], seed: int, side_px: int) -> tuple[UInt8Array, Shown]:
    """A crop of one of them [side_px, side_px, 3] and what is true of it; every second one is empty.

    Each kind of thing has its turn equally often. Raises ValueError where there are no such frames.
    """
    chance = random.Random(f"real {seed}")
    empty = seed % 2 == 0
    by_name: dict[str, list[RealFrame]] = {}
    for frame in frames:
        by_name.setdefault(frame.name, []).append(frame)
    for _ in range(_TRIES):
        frame = chance.choice(by_name[chance.choice(list(by_name))])
        height, width = frame.picture.shape[:2]
        crop_height = round(height * chance.uniform(_LEAST_CROP, 1))
        crop_width = round(width * chance.uniform(frame.least_width, 1))
        top, left = chance.randint(0, height - crop_height), chance.randint(0, width - crop_width)
        crop = Box(left, top, left + crop_width, top + crop_height)
        inside = [thing.inside(crop) for thing in frame.things]
        whole = [box for part, box in inside if part >= _WHOLE]
        if len(whole) + sum(part <= _GONE for part, _ in inside) == len(inside) and empty is not bool(whole):
            return _picture(frame.picture, crop, side_px, chance, whole, frame.name)
    raise ValueError(f"frames: none of {_TRIES} crops is {'empty' if empty else 'of something whole'}; give others")


def _one_by_one(other: Difference) -> tuple[Difference, ...] | None:
    """All that differs is one thing, or there is none; None where it is doubtful."""
    if other.area <= _NOTHING:
        return ()
    return (other,) if other.area >= _SOMETHING else None


def _side_by_side(other: Difference) -> tuple[Difference, ...] | None:
    """Each connected part is a thing, specks are none; None where a part has another shape than things have."""
    found = tuple(part for part in other.parts() if part.area > _SPECK)
    return found if all(_is_upright(part) for part in found) else None


def _is_upright(part: Difference) -> bool:
    height, width = part.cover.shape
    _, box = part.inside(Box(0, 0, width, height))
    upright = (box.bottom - box.top) / (box.right - box.left)
    return _AREA[0] <= part.area <= _AREA[1] and _UPRIGHT[0] <= upright <= _UPRIGHT[1]


def _picture(
    picture: UInt8Array, crop: Box, side_px: int, chance: random.Random, things: Sequence[Box], name: str
) -> tuple[UInt8Array, Shown]:
    cut = Image.fromarray(picture[crop.top : crop.bottom, crop.left : crop.right])
    scaled = np.asarray(cut.resize((side_px, side_px), Image.Resampling.BICUBIC), np.float32)
    bright = np.clip(scaled * chance.uniform(*_BRIGHTNESS), 0, 255).astype(np.uint8)
    mirrored = chance.random() < 0.5
    across, down = side_px / (crop.right - crop.left), side_px / (crop.bottom - crop.top)
    seen = []
    for number, thing in enumerate(things):
        left, right = (round((edge - crop.left) * across) for edge in (thing.left, thing.right))
        top, bottom = (round((edge - crop.top) * down) for edge in (thing.top, thing.bottom))
        if mirrored:
            left, right = side_px - right, side_px - left
        seen.append(_seen(number, name, Box(left, top, right, bottom)))
    shown = Shown(width=side_px, zones=(), fixtures=(), times_ms=(500,), seen=(tuple(seen),), events=())
    return (bright[:, ::-1] if mirrored else bright), shown


def _seen(number: int, name: str, box: Box) -> Seen:
    return Seen(
        actor=number,
        name=name,
        also=(*KINDS[name].also, *role_words(name)),
        colour="",
        box=box,
        size_px=max(box.right - box.left, box.bottom - box.top),
        visible=1.0,
        light=1.0,
        zones=(),
        doing=Doing.STANDING,
        heading=Heading.NOWHERE,
    )
