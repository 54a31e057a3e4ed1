"""Makes training examples: scenes are drawn, coded as cameras code, seen by the vision tower and stored with the truth.

What is made of a seed does not depend on any other, so shards can be made in any order and by many processes: drawing
takes longest and needs no model.
"""

import random
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from standwatch.actors.drawings import load_drawings
from standwatch.actors.footage import bundled, cut_footage
from standwatch.actors.real_lessons import TOPICS, RealFrame, real_take
from standwatch.compression.tuning.examples import Example, Object
from standwatch.compression.tuning.eyesight import look_at
from standwatch.compression.tuning.quiz import IN_TIME, WEIGHTS, Asked, quiz
from standwatch.compression.tuning.quiz_claims import Phrasing, Topic
from standwatch.compression.tuning.shown import shown
from standwatch.compression.tuning.takes import ORDER, SIDE_PX, TEST_SEEDS, Take, draw_take, with_context
from standwatch.compression.world.artwork import Artwork
from standwatch.compression.world.camera import Camera, UInt8Array
from standwatch.compression.world.seeing import Seen
from standwatch.compression.world.truth import is_clear
from standwatch.compression.xcomp import XComp
from standwatch.pipeline.errors import Unavailable
from standwatch.pipeline.ffmpeg import excerpt, find_ffmpeg

_QUESTIONS = {True: 16, False: 24}  # of a single frame, of a window
_TOGETHER = 32  # frames through the vision tower
_CODING = (22, 34)  # x264's constant rate factor, best and worst


def load_artwork(style: str) -> Artwork:
    """A set of drawings, mixed with cut-outs and places of the bundled videos. Raises Unavailable without drawings."""
    cutouts, places = cut_footage(bundled())
    return Artwork(load_drawings(style), cutouts, places)


@dataclass(frozen=True, eq=False)
class Shot:
    """An example before the vision tower has seen it: its frames [F, H, W, 3] as coded, and all the rest of it."""

    pictures: UInt8Array
    times_ms: tuple[int, ...]
    objects: tuple[tuple[Object, ...], ...]
    asked: tuple[Asked, ...]
    source: str
    context: int = 0


class Film:
    """Turns takes into shots. `frames` are the real ones, where there are any."""

    def __init__(
        self, artwork: Artwork, phrasing: Phrasing = Phrasing.TRAINING, frames: Sequence[RealFrame] = ()
    ) -> None:
        self._artwork, self._phrasing, self._frames = artwork, phrasing, frames
        self._places = tuple(sorted(artwork.places))

    def shots(
        self, takes: Sequence[Take], seed: int, *, topics: Mapping[Topic, float] = WEIGHTS, varied: bool = False
    ) -> list[Shot]:
        """All frames are coded together; `seed` decides how well they are coded, what is asked, and who has drawn."""
        chance = random.Random(f"lessons {seed}")
        artwork = self._artwork.by_hand(str(seed)) if varied else self._artwork
        cameras = [Camera(take.scene, artwork) for take in takes]
        drawn = [camera.frame(t) for camera, take in zip(cameras, takes, strict=True) for t in take.times_ms]
        pictures = recoded(np.stack(drawn), chance.randint(*_CODING))
        found, first = [], 0
        for camera, take in zip(cameras, takes, strict=True):
            lens = take.scene.stage.lens
            objects = tuple(
                tuple(_object(one, lens.width, lens.height) for one in camera.seen(t) if is_clear(one))
                for t in take.times_ms
            )
            window = shown(camera, take.times_ms[take.context :])
            asked = quiz(window, chance, _QUESTIONS[len(take.times_ms) == 1], topics, self._phrasing)
            own = pictures[first : first + len(take.times_ms)]
            found.append(Shot(own, take.times_ms, objects, tuple(asked), take.source, take.context))
            first += len(own)
        return found

    def shard(
        self,
        number: int,
        takes: int,
        for_tests: bool,
        *,
        stills: bool = False,
        windows: bool = False,
        of: str = "",
        context: bool = False,
        varied: bool = False,
    ) -> list[Shot]:
        """The shots of the takes that belong to a shard's number; windows behind some `context` if that is wanted.

        Of windows of ORDER is asked what happened, and when; `varied` ones are drawn by a hand of their own.
        """
        first = number * takes + (TEST_SEEDS if for_tests else 0)
        numbers = range(first, first + takes)
        drawn = [draw_take(one, self._places, stills=stills, windows=windows, of=of) for one in numbers]
        filmed = [with_context(take) for take in drawn] if context else drawn
        return self.shots(filmed, first, topics=IN_TIME if of == ORDER else WEIGHTS, varied=varied)

    def real(self, number: int, takes: int) -> list[Shot]:
        """The shots of a shard's number that real frames make."""
        first = number * takes
        chance = random.Random(f"real lessons {first}")
        drawn = [real_take(self._frames, first + take, SIDE_PX) for take in range(takes)]
        pictures = recoded(np.stack([picture for picture, _ in drawn]), chance.randint(*_CODING))
        found = []
        for take, ((_, film), own) in enumerate(zip(drawn, pictures, strict=True)):
            objects = tuple(_object(one, SIDE_PX, SIDE_PX) for one in film.now)
            asked = quiz(film, chance, _QUESTIONS[True], TOPICS, self._phrasing)
            found.append(Shot(own[None], film.times_ms, (objects,), tuple(asked), f"real {first + take}"))
        return found


@torch.inference_mode()
def seen_by(model: XComp, shots: Sequence[Shot]) -> list[Example]:
    """What a model's vision tower makes of the frames of some shots, [F, n, W] of each."""
    pictures = torch.from_numpy(np.concatenate([shot.pictures for shot in shots]))
    features = torch.cat([look_at(model, part) for part in torch.split(pictures, _TOGETHER)]).cpu()
    return _examples(shots, torch.split(features, [len(shot.pictures) for shot in shots]))


def unseen(shots: Sequence[Shot]) -> list[Example]:
    """Some shots with their pictures as they are, uint8 [F, H, W, 3] of each."""
    return _examples(shots, [torch.from_numpy(shot.pictures) for shot in shots])


def _examples(shots: Sequence[Shot], features: Sequence[torch.Tensor]) -> list[Example]:
    return [
        Example(own, shot.times_ms, shot.objects, shot.asked, shot.source, shot.context)
        for own, shot in zip(features, shots, strict=True)
    ]


def recoded(pictures: UInt8Array, quality: int) -> UInt8Array:
    """Pictures [N, H, W, 3] as H.264 leaves them, each on its own. Raises Unavailable if ffmpeg cannot do it."""
    count, height, width, _ = pictures.shape
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    coding = ["-c:v", "libx264", "-preset", "veryfast", "-crf", str(quality), "-g", "1", "-pix_fmt", "yuv420p"]
    coded = _run([*raw, "-i", "pipe:0", *coding, "-f", "h264", "pipe:1"], pictures.tobytes())
    plain = _run(["-f", "h264", "-i", "pipe:0", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"], coded)
    return np.frombuffer(plain, np.uint8).reshape(count, height, width, 3)


def _run(arguments: Sequence[str], data: bytes) -> bytes:
    command = [find_ffmpeg(), "-hide_banner", "-v", "error", *arguments]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    if done.returncode:
        raise Unavailable(f"ffmpeg: cannot code frames: {excerpt(done.stderr.decode('utf-8', 'replace'))}")
    return done.stdout


def _object(one: Seen, width: int, height: int) -> Object:
    box = one.box.left / width, one.box.top / height, one.box.right / width, one.box.bottom / height
    return Object(one.name, one.colour, box, one.doing.value)
