"""How often answers are true: rendered scenes that nothing was trained on, at places that nothing was trained on.

Every figure is a share of questions answered right, with its 95 % interval (Wilson). Scenes, places and the way the
video is coded come from test seeds; questions are asked with phrasings that training never used. A verdict is right
if the likelier of yes and no is; words are right if they are the expected ones to the letter. Each window is filmed,
coded as H.264, compressed to float16 tokens, and read by the same reader that serves live queries.

`presence` counts yes/no questions about what is in view, a missed "unclear" being neither; `unseen_style` the same in
the set of drawings that training never saw. `calibration` is the expected calibration error of all verdicts in ten
bins of the probability of the verdict.

    python -m benchmarks.quality [--takes 128]
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.models import verdict
from standwatch.actors.drawings import TRAINING, UNSEEN
from standwatch.actors.lesson_footage import LessonFootage, load_artwork
from standwatch.actors.tuned_weights import tuned_folder
from standwatch.compression.checkpoint import load_model
from standwatch.compression.compressor import Float16Array
from standwatch.compression.questions import Questions
from standwatch.compression.reader import Reader
from standwatch.compression.tuning.examples import Example
from standwatch.compression.tuning.quiz import Asked
from standwatch.compression.tuning.quiz_claims import Phrasing, Topic
from standwatch.compression.xcomp import XComp
from standwatch.configs.schema import ModelConfig

_SHARD = 32
_ANSWER_TOKENS = 32
_TARGETS: Mapping[str, tuple[tuple[Topic, ...], float]] = {
    "presence": ((Topic.PRESENCE, Topic.NEAR_MISS), 0.97),
    "colour": ((Topic.COLOUR,), 0.90),
    "left_right": ((Topic.SIDE,), 0.90),
    "count": ((Topic.COUNT,), 0.90),
    "order": ((Topic.ORDER,), 0.85),
    "doing": ((Topic.DOING,), 0.85),
}


@dataclass(frozen=True)
class Marked:
    """A question, and whether it was answered right; `probability` of yes, where it is a yes/no question."""

    asked: Asked
    right: bool
    probability: float | None


class Examiner:
    """Asks a model about examples the way live queries do."""

    def __init__(self, config: ModelConfig) -> None:
        loaded = load_model(config)
        self.model: XComp = loaded.model
        self._reader = Reader(loaded.model, loaded.tokenizer, loaded.generation.eos_ids)

    def marks(self, example: Example) -> list[Marked]:
        tokens = self._tokens(example)
        view = self._reader.view(tokens)
        judged = [asked for asked in example.asked if asked.verdict is not None]
        said = self._reader.read([Questions((view,), tuple(asked.question for asked in judged), example.duration_s)])[0]
        found = [
            Marked(asked, (one.probability >= 0.5) == asked.verdict, one.probability)
            for asked, one in zip(judged, said, strict=True)
        ]
        for asked in example.asked:
            if asked.verdict is None and not asked.answer.startswith("Unclear"):
                written = self._reader.answer(
                    tokens, asked.question, example.duration_s, len(tokens), _ANSWER_TOKENS, repetition_penalty=1.0
                )
                found.append(Marked(asked, written.text.strip() == asked.answer, None))
        return found

    @torch.inference_mode()
    def _tokens(self, example: Example) -> Float16Array:
        weight = self.model.decoder.embed_tokens.weight
        tokens = self.model.projector(example.features.to(weight))
        return np.asarray(tokens.to(torch.float16).cpu().numpy())


def wilson(right: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    z, share = 1.96, right / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return middle - half, middle + half


def calibration_error(marks: Sequence[Marked]) -> float:
    """Expected calibration error of the verdicts, in ten bins of the verdict's own probability."""
    sure = np.array([max(one.probability, 1 - one.probability) for one in marks if one.probability is not None])
    right = np.array([one.right for one in marks if one.probability is not None])
    bins = np.minimum(((sure - 0.5) * 20).astype(int), 9)
    return float(sum(abs(sure[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in set(bins)))


def told(name: str, marks: Sequence[Marked], target: float | None) -> bool:
    """Print a figure's line; whether it reaches its target."""
    right, of = sum(one.right for one in marks), len(marks)
    if not of:
        print(f"{name}: nothing was asked")
        return False
    low, high = wilson(right, of)
    print(f"{name}: {right} of {of} right, 95 % interval {low:.3f} .. {high:.3f}")
    return target is None or verdict(name, right / of, target, at_least=True, digits=3)


def examined(examiner: Examiner, style: str, takes: int) -> list[Marked]:
    footage = LessonFootage(examiner.model, load_artwork(style), Phrasing.HELD_OUT)
    return [
        mark
        for number in range(math.ceil(takes / _SHARD))
        for example in footage.shard(number, _SHARD, for_tests=True)
        for mark in examiner.marks(example)
    ]


def main(arguments: list[str] | None = None) -> int:
    """Print what was measured; 1 when a figure is short of its target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--takes", type=int, default=128)
    parser.add_argument("--checkpoint", default="")
    chosen = parser.parse_args(arguments)
    examiner = Examiner(ModelConfig(checkpoint=chosen.checkpoint or str(tuned_folder()), dtype="bfloat16"))
    seen = examined(examiner, TRAINING, chosen.takes)
    good = []
    for name, (topics, target) in _TARGETS.items():
        good.append(told(name, [one for one in seen if one.asked.topic in topics], target))
    for topic in Topic:
        told(f"all of {topic.value}", [one for one in seen if one.asked.topic is topic], None)
    good.append(verdict("calibration", calibration_error(seen), 0.05, at_least=False, digits=3))
    unseen = examined(examiner, UNSEEN, chosen.takes // 2)
    topics = _TARGETS["presence"][0]
    good.append(told("unseen_style", [one for one in unseen if one.asked.topic in topics], 0.92))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
