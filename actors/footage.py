"""Cuts objects and places out of camera footage, so that real pixels are in rendered worlds too.

The bundled videos are named here with what they show. Of each only a part is used (the first half, unless told
otherwise): the rest is left to tests on pixels that nothing was trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from standwatch.compression.world.artwork import Cutout
from standwatch.compression.world.cutouts import bright_background, cut_out, returning_background
from standwatch.configs.schema import DecodeConfig
from standwatch.pipeline.cutting import cut
from standwatch.pipeline.decode import ChunkDecoder, Decoded
from standwatch.pipeline.errors import BadInput

UInt8Array = npt.NDArray[np.uint8]

TRAINED_PART = (0.0, 0.5)
_SIDE_PX = 512


@dataclass(frozen=True, slots=True)
class Footage:
    """A video of a still camera. `empty` is the part of its width in which nothing stands in the background."""

    path: Path
    name: str  # of the kind that moves in it
    always_there: bool = False  # the objects stand there more often than not, before a bright wall
    place: str = ""  # what its background is called; empty where it is not to be a place
    empty: tuple[float, float] = (0.0, 1.0)
    fps: float = 2.0

    def background(self, frames: Sequence[UInt8Array]) -> UInt8Array:
        """What stands behind its objects, from frames [H, W, 3], of which there must be some."""
        return bright_background(frames) if self.always_there else returning_background(frames)

    def empty_part(self, picture: UInt8Array) -> UInt8Array:
        """The columns of a picture [H, W, 3] in which nothing stands in the background."""
        low, high = (int(edge * picture.shape[1]) for edge in self.empty)
        return picture[:, low:high]


def bundled() -> tuple[Footage, ...]:
    """The videos that come with Standwatch."""
    folder = Path(str(files("standwatch") / "footage"))
    return (
        Footage(folder / "one-by-one-person-detection.mp4", "person", place="room"),
        Footage(folder / "bottle-detection.mp4", "bottle", always_there=True, place="table", empty=(0.02, 0.72)),
    )


def cut_footage(
    footage: Sequence[Footage], part: tuple[float, float] = TRAINED_PART
) -> tuple[list[Cutout], dict[str, UInt8Array]]:
    """Cut-outs and pictures of places from this part, 0..1, of each video. Raises `BadInput` for what is no video."""
    cutouts: list[Cutout] = []
    places: dict[str, UInt8Array] = {}
    for video in footage:
        frames = frames_of(video.path, video.fps, part)
        background = video.background(frames)
        cutouts += cut_out(frames, background, video.name)
        if video.place:
            places[video.place] = video.empty_part(background)
    return cutouts, places


def frames_of(video: Path, fps: float, part: tuple[float, float] = (0.0, 1.0)) -> list[UInt8Array]:
    """Frames [H, W, 3] of a part, 0..1 by time, of a video, longest side 512; at most `fps` for each second of it."""
    if not 0 <= part[0] < part[1] <= 1:
        raise BadInput(f"part: {part} is no part of a video; give two numbers within 0..1, the lower one first")
    chunks = list(cut(str(video), "footage", 0))
    decoder = ChunkDecoder(DecodeConfig(sample_fps=fps, max_side_px=_SIDE_PX, thumbnail_side_px=0))
    try:
        (outcomes,) = decoder.decode([chunks])
    finally:
        decoder.close()
    length_ms = chunks[-1].start_ms + chunks[-1].duration_ms
    first_ms, last_ms = (length_ms * edge for edge in part)
    found = []
    for outcome in outcomes:
        if not isinstance(outcome, Decoded):
            raise BadInput(f"{video.name}: {outcome.reason}")
        slots: set[int] = set()
        for at_ms, frame in zip(outcome.frame_ms.tolist(), outcome.frames, strict=True):
            slot = int(at_ms * fps // 1000)
            if first_ms <= at_ms < last_ms and slot not in slots:
                slots.add(slot)
                found.append(frame)
    return found
