"""Whether a look back finds the one event in half an hour: how many of its frames are among the 32 selected.

Each scene is rendered at a place and from a seed that nothing was trained on. In it a fall, a fire or a kind of object
occurs exactly once, among some ninety other comings and goings. It is filmed, coded as H.264 and compressed to float16
tokens; then the question comes, in words that training never used. Recall is the share of the frames that show the
event clearly, or of 32 if there are more, among the 32 selected. Scenes that never show it clearly are passed over.

`needle_recall` is how `standwatch ask` selects: it reads the span in segments of 64 frames that do not see each other.
`needle_gain` is by how much it is above global scores (`default`: a clip against all of its pass), the published passes
(spec §9), wrapped, each frame in two, only shorter, because this model was made for 8,192 positions and the published
576 frames take 9,216. `windows`, for comparison, are the published segment-local scores over the same passes
(`segments_8_4`: a clip against the seven clips around it), whose frames have all seen each other.

A frame is taken every 2.16 s (0.46 a second), 832 of 30 minutes: two passes go over them once, without a rest.

    python -m benchmarks.needle_quality [--needles 8] [--minutes 30]
"""

import argparse
import random
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice

import numpy as np
import torch

from benchmarks.models import verdict
from standwatch.actors.drawings import TRAINING
from standwatch.actors.lesson_footage import load_artwork, recoded
from standwatch.actors.tuned_weights import quick_dtype, tuned_folder
from standwatch.compression.asking import Inquiry, ask
from standwatch.compression.checkpoint import load_model
from standwatch.compression.compressor import Compressor, FeedClip, Float16Array
from standwatch.compression.frame_sampling import GROUP
from standwatch.compression.frame_selection import (
    Float64Array,
    Int64Array,
    best_frames,
    pass_frames,
    pass_length,
    pass_starts,
    relevant_layers,
    sum_passes,
)
from standwatch.compression.prompt import build_prompt, prefix_ids
from standwatch.compression.qcomp import ScoreType
from standwatch.compression.questions import Questions
from standwatch.compression.reader import DUPLICATE, SEGMENTS, WHOLE, Reader
from standwatch.compression.segmentcache import SegmentCache, Wanted
from standwatch.compression.segments import OpenSegments, SegmentBuilder
from standwatch.compression.tuning.phrases import templates
from standwatch.compression.tuning.phrases_events import verbs
from standwatch.compression.tuning.quiz_claims import Phrasing
from standwatch.compression.tuning.quiz_subjects import PEOPLE, Subject
from standwatch.compression.tuning.quiz_words import noun
from standwatch.compression.tuning.takes import TEST_SEEDS, draw_take
from standwatch.compression.world.acts import Act
from standwatch.compression.world.artwork import Artwork
from standwatch.compression.world.camera import Camera, UInt8Array
from standwatch.compression.world.director import direct
from standwatch.compression.world.kinds import Role, of_role
from standwatch.compression.world.script import DOWN, What
from standwatch.compression.world.seeing import Seen
from standwatch.compression.world.truth import is_clear, named
from standwatch.configs.schema import ModelConfig
from standwatch.pipeline.segmentgrid import SegmentGrid
from standwatch.pipeline.types import Window

KEEP = 32
GAP_MS = 2_160
PASS_FRAMES = 416  # that a pass scores; with half a window at either end the most that fit into the positions
HALF_WINDOW = SEGMENTS.stride * GROUP
_PER_MINUTE = 3.0  # other acts
_QUALITY = 28  # x264's constant rate factor, the middle of those of training
_SEED = TEST_SEEDS + (1 << 20)  # benchmarks.quality takes those before
_FALL, _FIRE = "fall", "fire"
_KINDS = tuple(kind.name for kind in of_role(Role.RIDER, Role.ANIMAL, Role.VEHICLE, Role.THING))


@dataclass(frozen=True, eq=False)
class Needle:
    """A scene in which something happens once, the times it is filmed at, and in which of these frames it is clear."""

    what: str
    camera: Camera
    times_ms: tuple[int, ...]
    shown: tuple[int, ...]

    @property
    def question(self) -> str:
        if self.what == _FALL:
            template = templates(f"event {What.FALLS.name}", Phrasing.HELD_OUT)[1]
            return template.format(it=PEOPLE[0].noun, verb=verbs(What.FALLS)[0])
        return templates("past presence", Phrasing.HELD_OUT)[1].format(it=noun(self.what))

    @property
    def duration_s(self) -> float:
        return len(self.times_ms) * GAP_MS / 1000


def frame_count(minutes: float) -> int:
    """Frames of so many minutes, as many as windows cover to the end. Raises ValueError for less than one window."""
    frames = int(minutes * 60_000 / GAP_MS) // HALF_WINDOW * HALF_WINDOW
    if frames < SEGMENTS.window * GROUP:
        raise ValueError(f"minutes: {minutes:g} are less than a window of {SEGMENTS.window * GROUP} frames; take 3")
    return frames


def needles(artwork: Artwork, frames: int) -> Iterator[Needle]:
    """One after the other, for ever: two of a kind of object, a fall, a fire, and so on."""
    for number in count():
        tries = (_needle(_SEED + (number << 10) + n, number % 4, artwork, frames) for n in count())
        yield next(found for found in tries if found is not None)


def _needle(seed: int, turn: int, artwork: Artwork, frames: int) -> Needle | None:
    """None where it has no room, could be mistaken for something else there, or is never clear."""
    place = draw_take(seed, tuple(sorted(artwork.places))).scene.stage
    kind = random.Random(f"needle {seed}").choice(_KINDS)
    once = (kind, kind, Act.FALL.value, Act.FIRE.value)[turn]
    what = (kind, kind, _FALL, _FIRE)[turn]
    minutes, width, height = frames * GAP_MS / 60_000, place.lens.width, place.lens.height
    try:
        scene = direct(
            seed, place.site, minutes, _PER_MINUTE, once=once, place_seed=place.seed, width=width, height=height
        )
    except ValueError:
        return None
    there = {actor.kind.name for actor in scene.actors} | {fixture.what for fixture in place.fixtures}
    if what != _FALL and Subject(what, noun(what)).may_be_called(there):
        return None
    camera, times_ms = Camera(scene, artwork), tuple(range(0, frames * GAP_MS, GAP_MS))
    shown = tuple(frame for frame, t_ms in enumerate(times_ms) if _shows(camera.seen(t_ms), what))
    return Needle(what, camera, times_ms, shown) if shown else None


def _shows(seen: Sequence[Seen], what: str) -> bool:
    found = [one for one in seen if one.doing in DOWN] if what == _FALL else named(seen, what)
    return any(is_clear(one) for one in found)


def recall(selected: Collection[int], shown: Collection[int], keep: int) -> float:
    """The share of the frames to be found, at most `keep`, that were. Raises ValueError where there are none."""
    if not shown:
        raise ValueError("shown: no frame shows it, so none can be found; leave the scene out")
    return len(set(shown) & set(selected)) / min(keep, len(shown))


def passes(frames: int, score_type: ScoreType) -> list[Int64Array]:
    """Frame numbers of the published passes with another stride, or with the whole video's length if that is less."""
    stride = min(PASS_FRAMES, frames)
    length = pass_length(score_type, stride)
    return [pass_frames(start, length, frames) for start in pass_starts(frames, DUPLICATE, stride)]


class Seeker:
    """Selects frames of a finished video in each of the ways that are compared."""

    def __init__(self, config: ModelConfig) -> None:
        loaded = load_model(config)
        self._model, self._tokenizer = loaded.model, loaded.tokenizer
        self._reader = Reader(loaded.model, loaded.tokenizer, loaded.generation.eos_ids)

    def tokens(self, pictures: UInt8Array) -> Float16Array:
        """What memory holds of frames [F, H, W, 3]."""
        size = self._model.config.vision.frames_per_clip
        compressor, found = Compressor(self._model, segments=None), []
        for first in range(0, len(pictures), size):
            clip = FeedClip(pictures[first : first + size], np.arange(first, min(first + size, len(pictures))))
            found.append(compressor.step(compressor.start(), clip)[1])
        return np.concatenate(found)

    @torch.inference_mode()
    def in_passes(self, score_type: ScoreType, tokens: Float16Array, question: str, duration_s: float) -> Int64Array:
        """As `Reader.select` does from 1,024 frames on."""
        decoder, video = self._model.decoder, self._reader.video(tokens)
        prompt = build_prompt(self._tokenizer, question, duration_s, len(video))
        prefix, text = decoder.embed(prompt.prefix_ids), decoder.embed(prompt.text_ids)
        start, layers = prompt.rows.start, relevant_layers(self._model.config.language.layers)

        def score(numbers: Int64Array) -> Float64Array:
            cache = decoder.prefill(self._model.reading_schedule, prefix, video[torch.from_numpy(numbers)])
            inquiry = Inquiry(cache, text[:start], (text[start:],), (prompt.rows,))
            (heard,) = ask(decoder, [inquiry], layers, score_type, only_scores=True)
            return heard.scores[:, 0].double().cpu().numpy()

        ours = passes(len(video), score_type)
        return best_frames(sum_passes(ours, [score(numbers) for numbers in ours], len(video)), KEEP)

    @torch.inference_mode()
    def as_asked(self, tokens: Float16Array, question: str, duration_s: float) -> Int64Array:
        """Slots of a grid of one frame a second stand for the frames: how far apart they were does not matter here."""
        prefix = self._model.decoder.embed(prefix_ids(self._tokenizer))
        length = self._model.config.segment_frames
        builder = SegmentBuilder(self._model.decoder, self._model.reading_schedule, prefix, length)
        segments = SegmentGrid(1.0, length).cover(Window(0, len(tokens) * 1000))
        wanted = Wanted("needle", tokens, np.arange(len(tokens)), 0, segments, OpenSegments())
        (views,) = SegmentCache(builder, self._reader.video, 0).views([wanted])
        return best_frames(self._reader.read([Questions(views, (question,), duration_s)])[0][0].relevance, KEEP)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a mean over scenes: a bootstrap of 10,000, always the same."""
    drawn = np.random.default_rng(0).choice(np.asarray(values, float), (10_000, len(values)))
    low, high = np.percentile(drawn.mean(1), (2.5, 97.5))
    return float(low), float(high)


def main(arguments: list[str] | None = None) -> int:
    """Print what was measured; 1 when a figure is short of its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--needles", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--checkpoint", default="")
    chosen = parser.parse_args(arguments)
    seeker = Seeker(ModelConfig(checkpoint=chosen.checkpoint or str(tuned_folder()), dtype=quick_dtype()))
    ways: dict[str, Callable[[Float16Array, str, float], Int64Array]] = {
        "global": partial(seeker.in_passes, WHOLE),
        "windows": partial(seeker.in_passes, SEGMENTS),
        "asked": seeker.as_asked,
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for needle in islice(needles(load_artwork(TRAINING), frame_count(chosen.minutes)), chosen.needles):
        pictures = np.stack([needle.camera.frame(t_ms) for t_ms in needle.times_ms])
        tokens = seeker.tokens(recoded(pictures, _QUALITY))
        for name, select in ways.items():
            selected = select(tokens, needle.question, needle.duration_s).tolist()
            found[name].append(recall(selected, needle.shown, KEEP))
        said = ", ".join(f"{name} {values[-1]:.2f}" for name, values in found.items())
        print(f"{needle.question} {len(needle.shown)} of {len(needle.times_ms)} frames; recall {said}", flush=True)
    gain = [local - whole for local, whole in zip(found["asked"], found["global"], strict=True)]
    for name, values in (*found.items(), ("gain", gain)):
        low, high = interval(values)
        print(f"{name}: mean of {len(values)} scenes {np.mean(values):.3f}, 95 % interval {low:.3f} .. {high:.3f}")
    good = [
        verdict("needle_recall", float(np.mean(found["asked"])), 0.9, at_least=True, digits=3),
        verdict("needle_gain", float(np.mean(gain)), 0.1, at_least=True, digits=3),
    ]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
