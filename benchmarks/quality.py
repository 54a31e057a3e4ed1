"""How often answers are true: rendered scenes that nothing was trained on, at places that nothing was trained on.

Every figure is a share of questions answered right, with its 95 % interval (Wilson). Scenes, places and the way the
video is coded come from test seeds; questions are asked with phrasings that training never used. A verdict is right
if the likelier of yes and no is, read by the same reader that serves live queries from float16 tokens; words are right
if the model would write the expected ones to the letter: each word is the likeliest after those before it.

`presence` counts yes/no questions about what is in view, a missed "unclear" being neither; `unseen_style` the same in
the set of drawings that training never saw. `calibration` is the expected calibration error of all verdicts in ten
bins of the probability of the verdict. `compression` is what LP-Comp costs: the share of all answers that the model
would write to the letter with all 16 tokens of a frame in every layer, less that share with LP-Comp (16 to 1).
`memory` is what it costs when memory holds nothing but one token of a frame (`model.frame_tokens=1`), likewise.

`named` is about answers in words, written out word by word: of all kinds of object that they name when asked what is
in view or what happened, the share that is clearly seen in the frames. Two lines without a target say what a segment
costs: the same windows read by themselves, and behind up to 48 frames that the questions do not see but the frames did,
as live queries read them.

    python -m benchmarks.quality [--takes 128] [--plot FILE.png] [--validation]

`--plot` draws how often verdicts are right against how probable they were said to be. Who chooses among models chooses
by `--validation`: other takes, with windows around two events among them, of which only answers are counted. Chosen by
the figures' own takes the best of several would owe some of its figures to luck.
"""

import argparse
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.models import verdict
from standwatch.actors.drawings import TRAINING, UNSEEN
from standwatch.actors.lesson_footage import Film, load_artwork, seen_by
from standwatch.actors.tuned_weights import quick_dtype, tuned_folder
from standwatch.compression.checkpoint import load_model
from standwatch.compression.compressor import Float16Array
from standwatch.compression.prompt import prefix_ids
from standwatch.compression.questions import Questions, View
from standwatch.compression.reader import Reader
from standwatch.compression.schedule import Schedule
from standwatch.compression.training import answered
from standwatch.compression.tuning.examples import Example
from standwatch.compression.tuning.learner import whole_schedule
from standwatch.compression.tuning.lessons import lesson
from standwatch.compression.tuning.quiz import Asked
from standwatch.compression.tuning.quiz_claims import Phrasing, Topic
from standwatch.compression.tuning.remembering import left_of
from standwatch.compression.tuning.takes import ORDER
from standwatch.compression.world.kinds import KINDS
from standwatch.compression.xcomp import XComp
from standwatch.configs.schema import ModelConfig

_SHARD = 32
_MOST_SHARDS = 64
_ANSWER_TOKENS = 32
_KIND_OF = {word: name for name, kind in KINDS.items() for word in (name, kind.plural)}
_KIND_WORDS = rf"\b({'|'.join(sorted(map(re.escape, _KIND_OF), key=len, reverse=True))})\b"
_TARGETS: Mapping[str, tuple[tuple[Topic, ...], float]] = {
    "presence": ((Topic.PRESENCE, Topic.NEAR_MISS), 0.97),
    "colour": ((Topic.COLOUR,), 0.90),
    "left_right": ((Topic.SIDE,), 0.90),
    "count": ((Topic.COUNT,), 0.90),
    "order": ((Topic.ORDER,), 0.85),
    "doing": ((Topic.DOING,), 0.85),
}
_MOST_LOST: Mapping[str, float] = {"compression": 0.02, "memory": 0.05}


@dataclass(frozen=True)
class Marked:
    """A question, and whether it was answered right; `probability` of yes, where it is a yes/no question."""

    asked: Asked
    right: bool
    probability: float | None


class Examiner:
    """Asks a model about examples the way live queries do, from what memory holds of them."""

    def __init__(self, config: ModelConfig) -> None:
        loaded = load_model(config)
        self.model: XComp = loaded.model
        self._tokenizer = loaded.tokenizer
        self._reader = Reader(loaded.model, loaded.tokenizer, loaded.generation.eos_ids)
        self._letters: dict[tuple[Example, Schedule], list[bool]] = {}  # asked for more than once

    def marks(self, example: Example) -> list[Marked]:
        view = View(self._reader.view(self._tokens(example)).cache, example.context)
        judged = [asked for asked in example.asked if asked.verdict is not None]
        said = self._reader.read([Questions((view,), tuple(asked.question for asked in judged), example.duration_s)])[0]
        found = [
            Marked(asked, (one.probability >= 0.5) == asked.verdict, one.probability)
            for asked, one in zip(judged, said, strict=True)
        ]
        written = self.letters(example, self.model.lpcomp_schedule)
        return found + [
            Marked(asked, right, None)
            for asked, right in zip(example.asked, written, strict=True)
            if asked.verdict is None and not asked.answer.startswith("Unclear")
        ]

    def words(self, example: Example, question: str) -> str:
        """The answer as it is written, word by word."""
        tokens = self._tokens(example)
        written = self._reader.answer(
            tokens, question, example.duration_s, len(tokens), _ANSWER_TOKENS, repetition_penalty=1.0
        )
        return written.text

    @torch.inference_mode()
    def letters(self, example: Example, schedule: Schedule) -> list[bool]:
        """Of every question whether its whole answer would be written under a schedule."""
        if (example, schedule) not in self._letters:
            sample = lesson(self._tokenizer, example, self._remembered(example), example.asked)
            self._letters[example, schedule] = answered(self.model.decoder, schedule, sample)
        return self._letters[example, schedule]

    @torch.inference_mode()
    def _tokens(self, example: Example) -> Float16Array:
        return np.asarray(self._remembered(example).to(torch.float16).cpu().numpy())

    def _remembered(self, example: Example) -> torch.Tensor:
        """What memory holds of an example's frames [F, n, D]: the projector's tokens, or one of each."""
        decoder = self.model.decoder
        tokens: torch.Tensor = self.model.projector(example.features.to(decoder.embed_tokens.weight.device))
        if self.model.readout is None:
            return tokens
        prefix = decoder.embed(prefix_ids(self._tokenizer))
        (left,) = left_of(self.model, prefix, [tokens])
        read: torch.Tensor = self.model.readout(left)
        return read


def kinds_named(text: str) -> set[str]:
    """The kinds of object that a text names; where one's name holds another's, the longer: no car in 'police car'."""
    found = re.findall(_KIND_WORDS, text.lower())
    return {_KIND_OF[word] for word in found}


def named_in_view(examiner: Examiner, example: Example) -> list[bool]:
    """Of every kind that the answers in words about an example name, whether it is in its frames."""
    objects = {one.name for frame in example.objects for one in frame}
    there = objects | {also for name in objects for also in KINDS[name].also}
    asked = (one.question for one in example.asked if one.topic in (Topic.LIST, Topic.HAPPENED))
    return [kind in there for question in asked for kind in sorted(kinds_named(examiner.words(example, question)))]


def wilson(right: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    z, share = 1.96, right / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Bin:
    """Verdicts that were said to be about as probable: that on average, how many are right, and their part of all."""

    sure: float
    right: float
    part: float


def reliability(marks: Sequence[Marked]) -> list[Bin]:
    """The verdicts in ten bins of their own probability, 0.5 .. 1; empty bins are left out."""
    sure = np.array([max(one.probability, 1 - one.probability) for one in marks if one.probability is not None])
    right = np.array([one.right for one in marks if one.probability is not None])
    bins = np.minimum(((sure - 0.5) * 20).astype(int), 9)
    return [
        Bin(float(sure[bins == one].mean()), float(right[bins == one].mean()), float((bins == one).mean()))
        for one in np.unique(bins)
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: how far sureness is from being right, on average over all verdicts."""
    return sum(abs(one.sure - one.right) * one.part for one in bins)


def draw_reliability(bins: Sequence[Bin], to: Path) -> None:
    """A point for each bin, as large as its part of all; on the line where sureness is deserved."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0.5, 1], [0.5, 1], color="grey")
    axes.scatter([one.sure for one in bins], [one.right for one in bins], [1000 * one.part for one in bins])
    axes.set(xlabel="probability of the verdict", ylabel="verdicts that are right", title="Reliability")
    figure.savefig(to)


def told(name: str, marks: Sequence[bool], target: float | None) -> bool:
    """Print a figure's line from what was right; whether it reaches its target."""
    right, of = sum(marks), len(marks)
    if not of:
        print(f"{name}: nothing was asked")
        return False
    low, high = wilson(right, of)
    print(f"{name}: {right} of {of} right, 95 % interval {low:.3f} .. {high:.3f}")
    return target is None or verdict(name, right / of, target, at_least=True, digits=3)


def shard_numbers(takes: int, validation: bool = False) -> range:
    """Which shards of tests so many takes are; for validation others, always. Raises ValueError for too many."""
    count = math.ceil(takes / _SHARD)
    if not 0 < count <= _MOST_SHARDS:
        raise ValueError(f"takes: {takes} is not within 1..{_MOST_SHARDS * _SHARD}")
    return range(_MOST_SHARDS, _MOST_SHARDS + count) if validation else range(count)


def filmed(examiner: Examiner, style: str, numbers: range, *, context: bool = False, of: str = "") -> list[Example]:
    """Of the takes of these shards, or of windows `of` something; behind `context` only the windows among them."""
    film, found = Film(load_artwork(style), Phrasing.HELD_OUT), []
    for number in numbers:
        shots = film.shard(number, _SHARD, for_tests=True, context=context, windows=bool(of), of=of)
        if wanted := [shot for shot in shots if shot.context or not context]:
            found += seen_by(examiner.model, wanted)
    return found


def without_context(example: Example) -> Example:
    """The same window by itself."""
    first = example.context
    return replace(
        example,
        features=example.features[first:],
        times_ms=example.times_ms[first:],
        objects=example.objects[first:],
        context=0,
    )


def lost(examiner: Examiner, remembering: Examiner | None, examples: Sequence[Example]) -> dict[str, float]:
    """Shares of answers lost to LP-Comp, and to a memory of one token per frame where there is one."""
    config = examiner.model.config

    def share(name: str, one: Examiner, schedule: Schedule) -> float:
        right = [mark for example in examples for mark in one.letters(example, schedule)]
        told(name, right, None)
        return sum(right) / len(right)

    best = share("all 16 tokens", examiner, whole_schedule(config.language.layers, config.tokens_per_frame))
    found = {"compression": best - share("LP-Comp", examiner, examiner.model.lpcomp_schedule)}
    if remembering is not None:
        found["memory"] = best - share("one token in memory", remembering, remembering.model.reading_schedule)
    return found


def remembering_one(model: ModelConfig) -> Examiner | None:
    """Of the same weights with a memory of one token per frame; None, and a line says why, where they have none."""
    try:
        return Examiner(replace(model, frame_tokens=1))
    except ValueError as error:
        print(f"memory: cannot be measured, {error}")
        return None


def validated(examiner: Examiner, most: range, half: range) -> None:
    """Print by topic what is right of these shards: in both styles, and of windows of two events."""
    for name, examples in (
        ("own", filmed(examiner, TRAINING, most)),
        ("unseen", filmed(examiner, UNSEEN, half)),
        ("two events", filmed(examiner, TRAINING, half, of=ORDER)),
    ):
        marks = [mark for example in examples for mark in examiner.marks(example)]
        told(f"{name}: all", [one.right for one in marks], None)
        for topic in Topic:
            told(f"{name}: {topic.value}", [one.right for one in marks if one.asked.topic is topic], None)


def main(arguments: list[str] | None = None) -> int:
    """Print what was measured; 1 when a figure is short of its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--takes", type=int, default=128)
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    parser.add_argument("--validation", action="store_true")
    parser.add_argument("--checkpoint", default="")
    chosen = parser.parse_args(arguments)
    most, half = (shard_numbers(takes, chosen.validation) for takes in (chosen.takes, max(1, chosen.takes // 2)))
    model = ModelConfig(checkpoint=chosen.checkpoint or str(tuned_folder()), dtype=quick_dtype())
    examiner = Examiner(model)
    if chosen.validation:
        validated(examiner, most, half)
        return 0
    examples = filmed(examiner, TRAINING, most)
    seen = [mark for example in examples for mark in examiner.marks(example)]
    good = []
    for name, (topics, target) in _TARGETS.items():
        good.append(told(name, [one.right for one in seen if one.asked.topic in topics], target))
    for topic in Topic:
        told(f"all of {topic.value}", [one.right for one in seen if one.asked.topic is topic], None)
    bins = reliability(seen)
    if chosen.plot:
        draw_reliability(bins, chosen.plot)
    good.append(verdict("calibration", calibration_error(bins), 0.05, at_least=False, digits=3))
    shares = lost(examiner, remembering_one(model), examples)
    for name, most in _MOST_LOST.items():
        good.append(name in shares and verdict(name, shares[name], most, at_least=False, digits=3))
    told("named", [one for example in examples for one in named_in_view(examiner, example)], None)
    windows = filmed(examiner, TRAINING, most, context=True)
    alone = [without_context(example) for example in windows]
    for name, shown in (("windows alone", alone), ("windows in a segment", windows)):
        told(name, [mark.right for example in shown for mark in examiner.marks(example)], None)
    unseen = [mark for one in filmed(examiner, UNSEEN, half) for mark in examiner.marks(one)]
    topics = _TARGETS["presence"][0]
    good.append(told("unseen_style", [one.right for one in unseen if one.asked.topic in topics], 0.92))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
