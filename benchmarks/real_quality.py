"""How well real camera footage is answered: the bundled videos, on the part of each that nothing was trained on.

Training takes cut-outs and places from `TRAINED_PART` of each video; figures are taken on the frames behind it, two a
second. They show the same camera, the same room and partly the same objects, but no pixel of them was trained on. Each
picture is a window of its own, compressed to float16 tokens and read by the same reader that serves live queries; its
score is the probability of yes. A figure is the area under the ROC curve: how often a picture with it scores higher
than one without it, of all pairs of the two, ties counting half. It needs no threshold.

`real_person` asks about whole frames. In the bottle video a bottle stands in every frame, from the first to the last,
so whole frames cannot tell a model that sees bottles from one that always says yes. But its three bottles stand in one
third of the picture each, and each third is free for a while: `real_bottle` asks about thirds of frames.

    python -m benchmarks.real_quality [--sheet FILE.png]

`--sheet` writes every picture with its probability and its truth.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.models import verdict
from standwatch.actors.footage import TRAINED_PART, Footage, UInt8Array, bundled, frames_of
from standwatch.actors.tuned_weights import quick_dtype, tuned_folder
from standwatch.compression.checkpoint import load_model
from standwatch.compression.compressor import Compressor, FeedClip, Float16Array
from standwatch.compression.questions import Questions
from standwatch.compression.reader import Reader
from standwatch.configs.schema import ModelConfig

Spans = tuple[tuple[float, float], ...]  # [from, to) in seconds of the video

FPS = 2.0
TARGET = 0.95
_DURATION_S = 1.0  # that a single frame stands for, as in training
_TOGETHER = 32  # windows read in one pass
_TILE_PX, _CAPTION_PX, _CAPTION_WIDTH_PX, _SHEET_PX = 72, 26, 50, 1300
_RIGHT, _WRONG, _LEFT_OUT = "lightgreen", "red", "grey"


@dataclass(frozen=True)
class Part:
    """Columns of the picture, 0..1, and when it is there in them and when not; other times are left out."""

    columns: tuple[float, float]
    yes: Spans
    no: Spans

    def truth(self, second: float) -> bool | None:
        """None where it cannot be told."""
        if any(start <= second < end for start, end in self.yes):
            return True
        return False if any(start <= second < end for start, end in self.no) else None


@dataclass(frozen=True)
class Watched:
    """What a figure is taken on: a bundled video, a question, and what is true of it."""

    figure: str
    video: str
    question: str
    parts: tuple[Part, ...]


# Read by eye off sheets of every frame (every half second) of the second half of each video, each doubtful one looked
# at in full size; no model was asked. In no span: a person cut so by the border that head and shoulders are not seen,
# frames with no more of somebody than a foot or a shadow, and bottles that the border cuts.
WATCHED = (
    Watched(
        "real_person",
        "person",
        "Is a person in view?",
        (
            Part(
                (0.0, 1.0),
                yes=((75.0, 86.5), (92.5, 119.5), (124.0, 135.5)),
                no=((70.5, 74.5), (87.5, 92.5), (121.0, 123.5), (137.0, 139.5)),
            ),
        ),
    ),
    Watched(
        "real_bottle",
        "bottle",
        "Is there a bottle?",
        (
            Part((0, 1 / 3), yes=((28.0, 40.0),), no=((20.0, 27.5),)),
            Part((1 / 3, 2 / 3), yes=((22.5, 40.0),), no=((20.0, 22.0),)),
            Part((2 / 3, 1), yes=((20.0, 32.0), (35.5, 40.0)), no=((32.5, 34.5),)),
        ),
    ),
)


@dataclass(frozen=True, eq=False)
class Judged:
    """One picture [H, W, 3], when it was taken, what is true of it, and what the model says."""

    second: float
    picture: UInt8Array
    truth: bool | None
    probability: float


def auc(yes: Sequence[float], no: Sequence[float]) -> float:
    """The share of all pairs in which the score of the yes is above that of the no; equal ones count half.

    Raises ValueError where there is none of either.
    """
    if not yes or not no:
        raise ValueError(f"yes and no: {len(yes)} and {len(no)} scores make no pair; at least one of each is needed")
    above = np.asarray(yes)[:, None] - np.asarray(no)
    return float((above > 0).mean() + (above == 0).mean() / 2)


def held_out(video: Footage) -> list[tuple[float, UInt8Array]]:
    """Second and picture of every frame behind the part of a video that training may use."""
    end = TRAINED_PART[1]
    before = len(frames_of(video.path, FPS, (0.0, end)))
    return [((before + number) / FPS, frame) for number, frame in enumerate(frames_of(video.path, FPS, (end, 1.0)))]


def pictures(watched: Watched, frames: Sequence[tuple[float, UInt8Array]]) -> Iterator[tuple[float, UInt8Array, Part]]:
    """The parts of every frame, part by part."""
    for part in watched.parts:
        for second, frame in frames:
            low, high = (round(edge * frame.shape[1]) for edge in part.columns)
            yield second, frame[:, low:high], part


class Examiner:
    """Asks a model about single pictures the way live queries do."""

    def __init__(self, config: ModelConfig) -> None:
        loaded = load_model(config)
        self._compressor = Compressor(loaded.model, segments=None)
        self._reader = Reader(loaded.model, loaded.tokenizer, loaded.generation.eos_ids)

    def judge(self, watched: Watched, frames: Sequence[tuple[float, UInt8Array]]) -> list[Judged]:
        shown = list(pictures(watched, frames))
        tokens = self._tokens([picture for _, picture, _ in shown])
        said: list[float] = []
        for first in range(0, len(tokens), _TOGETHER):
            views = [self._reader.view(one) for one in tokens[first : first + _TOGETHER]]
            read = self._reader.read([Questions((view,), (watched.question,), _DURATION_S) for view in views])
            said += [one.probability for (one,) in read]
        return [
            Judged(second, picture, part.truth(second), probability)
            for (second, picture, part), probability in zip(shown, said, strict=True)
        ]

    def _tokens(self, frames: Sequence[UInt8Array]) -> list[Float16Array]:
        """Of each frame alone."""
        clips = [FeedClip(frame[None], np.zeros(1, np.int64)) for frame in frames]
        return [tokens for _, tokens in self._compressor.step_batch([self._compressor.start()] * len(clips), clips)]


def told(watched: Watched, judged: Sequence[Judged]) -> bool:
    """Print a figure's lines; whether it reaches its target."""
    yes = [one.probability for one in judged if one.truth]
    no = [one.probability for one in judged if one.truth is False]
    print(
        f"{watched.figure}: {watched.question} {len(yes)} pictures with, mean probability {np.mean(yes):.3f}; "
        f"{len(no)} without, {np.mean(no):.3f}; {len(judged) - len(yes) - len(no)} left out"
    )
    return verdict(watched.figure, auc(yes, no), TARGET, at_least=True, digits=3)


def contact_sheet(figures: Sequence[Sequence[Judged]]) -> Image.Image:
    """Every picture below its second, truth and probability: green where the likelier answer is right, else red.

    Each figure begins a new row; what was left out is grey.
    """
    rows: list[list[Judged]] = []
    for judged in figures:
        across = _SHEET_PX // _cell_width(judged[0])
        rows += [list(judged[first : first + across]) for first in range(0, len(judged), across)]
    pitch = _TILE_PX + _CAPTION_PX
    sheet = Image.new("RGB", (_SHEET_PX, pitch * len(rows)))
    draw = ImageDraw.Draw(sheet)
    for row, judged in enumerate(rows):
        for column, one in enumerate(judged):
            left, top = column * _cell_width(one), row * pitch
            draw.multiline_text((left, top), *_caption(one), spacing=0)
            tile = Image.fromarray(np.ascontiguousarray(one.picture)).resize((_tile_width(one), _TILE_PX))
            sheet.paste(tile, (left, top + _CAPTION_PX))
    return sheet


def _tile_width(one: Judged) -> int:
    height, width = one.picture.shape[:2]
    return int(_TILE_PX * width / height + 0.5)


def _cell_width(one: Judged) -> int:
    """As wide as the picture or the words above it."""
    return max(_CAPTION_WIDTH_PX, _tile_width(one)) + 2


def _caption(one: Judged) -> tuple[str, str]:
    """Words and their colour."""
    word = {True: "yes", False: "no", None: "?"}[one.truth]
    colour = _LEFT_OUT if one.truth is None else _RIGHT if (one.probability >= 0.5) == one.truth else _WRONG
    return f"{one.second:.1f} s\n{word} {one.probability:.2f}", colour


def main(arguments: list[str] | None = None) -> int:
    """Print what was measured; 1 when a figure is short of its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sheet", type=Path, metavar="FILE.png")
    parser.add_argument("--checkpoint", default="")
    chosen = parser.parse_args(arguments)
    examiner = Examiner(ModelConfig(checkpoint=chosen.checkpoint or str(tuned_folder()), dtype=quick_dtype()))
    videos = {video.name: video for video in bundled()}
    found = [examiner.judge(watched, held_out(videos[watched.video])) for watched in WATCHED]
    if chosen.sheet:
        contact_sheet(found).save(chosen.sheet)
    good = [told(watched, judged) for watched, judged in zip(WATCHED, found, strict=True)]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
