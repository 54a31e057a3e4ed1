"""What each choice of LP-Comp is worth, in miniature: the same weights, tuned for as long in another way to compress.

Every way starts from weights that were tuned with all 16 tokens of a frame (`standwatch train run tune`, its file) and
have never seen any compression, learns from the same examples for the same number of steps, and is asked the same
questions about scenes and places that nothing was trained on, in the words of training. The figure is the share of
answers that it would write to the letter, with its mean, lowest and highest over the seeds (which decide the examples
of each step). All leave one token of a frame behind the last layer:

    LP-Comp    learned, as published: 16 to 1 over the layers, half a cosine, the last tokens of a frame stay
    uniform    the same, tokens spread over the frame stay
    linear     the same as LP-Comp, along a straight line
    one step   16 tokens up to one layer, 1 behind it; that layer is where the sum over all layers is LP-Comp's
    average    before the first layer: the mean of the 16. Merging by likeness down to one token is the same mean,
               whatever is merged first
    sampling   before the first layer: one of the 16, a cell in the middle

The published order: learned above heuristics, progressive above one step, suffix above uniform, cosine above linear.
`ablation_learned` is LP-Comp's share less the best heuristic's. Segment-local against global scoring is `needle_gain`
of `benchmarks.needle_quality`.

    python -m benchmarks.ablations --from FILE [--lessons runs/lessons] [--exam runs/exam] [--steps 40] [--seeds 3]
"""

import argparse
import os
import random
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.models import verdict
from standwatch.actors.training_commands import base_model
from standwatch.compression.checkpoint import load_model
from standwatch.compression.schedule import SUFFIX, UNIFORM, Schedule, runnable_schedule
from standwatch.compression.training import Recipe
from standwatch.compression.tuning.examples import Example, read_shard, shards
from standwatch.compression.tuning.learner import Learner, Stage, whole_schedule
from standwatch.compression.tuning.release import read_learnt

RANK, RATE, EXAMPLES, QUESTIONS = 16, 5e-4, 8, 8
MOST_FRAMES = 8  # examples of more are left out
LEARNED, HEURISTICS = "LP-Comp", ("average", "sampling")
TARGET = 0.10


def suffixes(lengths: list[int]) -> Schedule:
    """The last tokens of a frame stay, so many after each step; the first number is all of them."""
    return Schedule(tuple(tuple(range(lengths[0] - kept + 1, lengths[0] + 1)) for kept in lengths))


def linear(layers: int, tokens: int) -> Schedule:
    return suffixes([1 + int((tokens - 1) * (1 - step / layers) + 0.5) for step in range(layers + 1)])


def one_step(layers: int, tokens: int) -> Schedule:
    """As many tokens in all layers together as in LP-Comp, to the nearest layer."""
    rows = sum(runnable_schedule(layers, tokens, SUFFIX).tokens_by_layer)
    whole = round((rows - layers) / (tokens - 1))
    return suffixes([tokens] * (whole + 1) + [1] * (layers - whole))


@dataclass(frozen=True)
class Way:
    """How a frame is compressed: `squeezed` before the first layer [F, n, D], by the schedule between layers."""

    schedule: Callable[[int, int], Schedule]  # of layers and tokens of a frame
    squeezed: Callable[[Tensor], Tensor] = lambda video: video


def _single(layers: int, tokens: int) -> Schedule:
    return whole_schedule(layers, 1)


WAYS = {
    LEARNED: Way(lambda layers, tokens: runnable_schedule(layers, tokens, SUFFIX)),
    "uniform": Way(lambda layers, tokens: runnable_schedule(layers, tokens, UNIFORM)),
    "linear": Way(linear),
    "one step": Way(one_step),
    "average": Way(_single, lambda video: video.mean(1, keepdim=True)),
    "sampling": Way(_single, lambda video: video[:, video.shape[1] // 3][:, None]),
}


class Squeezing(Learner):
    """Tunes as in the stage `compress`, but compresses in one of the ways."""

    way: Way

    @property
    def schedule(self) -> Schedule:
        config = self._model.config
        return self.way.schedule(config.language.layers, config.tokens_per_frame)

    def _projected(self, features: Tensor) -> Tensor:
        return self.way.squeezed(super()._projected(features))


@lru_cache(1)
def _examples(folder: str, most_frames: int) -> list[Example]:
    found = (example for name in shards(Path(folder)) for example in read_shard(Path(folder), name))
    return [example for example in found if len(example.times_ms) <= most_frames and example.asked]


def tuned(start: str, lessons: str, exam: str, name: str, seed: int, steps: int) -> float:
    """The share of the exam's answers that are right to the letter after so many steps in one way."""
    torch.set_num_threads(1)
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    loaded = load_model(base_model())
    learner = Squeezing(loaded.model, loaded.tokenizer, Stage.COMPRESS, Recipe(learning_rate=RATE), RANK)
    learner.way = WAYS[name]
    learner.take(read_learnt(Path(start)))
    examples = _examples(lessons, MOST_FRAMES)
    for step in range(steps):
        chance = random.Random(f"ablation {seed} {step}")
        learner.gradients(chance.sample(examples, EXAMPLES), QUESTIONS, chance)
        learner.step(step, steps)
    asked = [example for name in shards(Path(exam)) for example in read_shard(Path(exam), name) if example.asked]
    right = [one for marks in learner.examine(asked).values() for one in marks]
    return sum(right) / len(right)


def main(arguments: list[str] | None = None) -> int:
    """Print what was measured; 1 when a figure is short of its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="start", required=True, help="what a `tune` run printed")
    parser.add_argument("--lessons", default="runs/lessons")
    parser.add_argument("--exam", default="runs/exam")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args(arguments)
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        jobs = [
            (name, pool.submit(tuned, chosen.start, chosen.lessons, chosen.exam, name, seed, chosen.steps))
            for seed in range(chosen.seeds)
            for name in WAYS
        ]
        for name, job in jobs:
            found[name].append(job.result())
            print(f"{name}: {found[name][-1]:.3f}", flush=True)
    means = {name: statistics.mean(shares) for name, shares in found.items()}
    for name in sorted(means, key=lambda name: -means[name]):
        print(
            f"{name}: mean {means[name]:.3f}, {min(found[name]):.3f} .. {max(found[name]):.3f} of {chosen.seeds} seeds"
        )
    gain = means[LEARNED] - max(means[name] for name in HEURISTICS)
    return 0 if verdict("ablation_learned", gain, TARGET, at_least=True, digits=3) else 1


if __name__ == "__main__":
    sys.exit(main())
