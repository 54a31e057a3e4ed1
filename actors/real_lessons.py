"""Decides what real footage teaches: crops of a still camera's frames, in which whatever differs from the empty place
is the one kind of thing that is known to move there.

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
from standwatch.compression.world.cutouts import Difference, differing, returning_background
from standwatch.compression.world.kinds import KINDS
from standwatch.compression.world.script import Doing
from standwatch.compression.world.seeing import Box, Heading, Seen

UInt8Array = npt.NDArray[np.uint8]

TOPICS: Mapping[Topic, float] = {Topic.PRESENCE: 6, Topic.COUNT: 2, Topic.SIDE: 2, Topic.LIST: 1}
_SOMETHING, _NOTHING = 0.03, 0.002  # of the frame differs: surely something, surely nothing
_WHOLE, _GONE = 0.6, 0.02  # part of it inside a crop: enough to tell what it is, and as good as nothing
_LEAST_CROP = 0.6  # of the frame's sides
_BRIGHTNESS = (0.6, 1.2)
_TRIES = 50


@dataclass(frozen=True, eq=False)
class RealFrame:
    """A frame [H, W, 3] of a video, and which part of it is the one thing that is there, if there is one."""

    picture: UInt8Array
    name: str
    thing: Difference | None


def real_frames(videos: Sequence[Footage]) -> list[RealFrame]:
    """Frames of the trained part of those videos in which things come and go one by one, doubtful ones left out.

    Raises `BadInput` for what is no video.
    """
    found = []
    for video in videos:
        if not video.always_there:
            frames = frames_of(video.path, video.fps, TRAINED_PART)
            for frame, other in zip(frames, differing(frames, returning_background(frames)), strict=True):
                if other.area >= _SOMETHING or other.area <= _NOTHING:
                    found.append(RealFrame(frame, video.name, other if other.area >= _SOMETHING else None))
    return found


def real_take(frames: Sequence[RealFrame], seed: int, side_px: int) -> tuple[UInt8Array, Shown]:
    """A crop of one of them [side_px, side_px, 3] and what is true of it; every second one is empty.

    Raises ValueError where there are no such frames.
    """
    chance = random.Random(f"real {seed}")
    empty = seed % 2 == 0
    for _ in range(_TRIES):
        frame = chance.choice(frames)
        height, width = frame.picture.shape[:2]
        crop_height, crop_width = (round(side * chance.uniform(_LEAST_CROP, 1)) for side in (height, width))
        top, left = chance.randint(0, height - crop_height), chance.randint(0, width - crop_width)
        crop = Box(left, top, left + crop_width, top + crop_height)
        part, box = frame.thing.inside(crop) if frame.thing else (0.0, crop)
        if part <= _GONE if empty else part >= _WHOLE:
            return _picture(frame.picture, crop, side_px, chance, None if empty else box, frame.name)
    raise ValueError(f"frames: none of {_TRIES} crops is {'empty' if empty else 'of something whole'}; give others")


def _picture(
    picture: UInt8Array, crop: Box, side_px: int, chance: random.Random, thing: Box | None, name: str
) -> tuple[UInt8Array, Shown]:
    cut = Image.fromarray(picture[crop.top : crop.bottom, crop.left : crop.right])
    scaled = np.asarray(cut.resize((side_px, side_px), Image.Resampling.BICUBIC), np.float32)
    bright = np.clip(scaled * chance.uniform(*_BRIGHTNESS), 0, 255).astype(np.uint8)
    mirrored = chance.random() < 0.5
    across, down = side_px / (crop.right - crop.left), side_px / (crop.bottom - crop.top)
    seen: tuple[Seen, ...] = ()
    if thing:
        left, right = (round((edge - crop.left) * across) for edge in (thing.left, thing.right))
        top, bottom = (round((edge - crop.top) * down) for edge in (thing.top, thing.bottom))
        if mirrored:
            left, right = side_px - right, side_px - left
        seen = (_seen(name, Box(left, top, right, bottom)),)
    shown = Shown(width=side_px, zones=(), fixtures=(), times_ms=(500,), seen=(seen,), events=())
    return (bright[:, ::-1] if mirrored else bright), shown


def _seen(name: str, box: Box) -> Seen:
    return Seen(
        actor=0,
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
