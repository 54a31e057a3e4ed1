"""What a step of training takes, and on a GPU whether it learns what a CPU would.

Stored lessons are learnt from with the base model and nothing learnt before, in the precision that training takes by
itself. `STAGE` lines give seconds a step, the median of five after three that warm up, with the optimizer's part, and
the GPU memory it took at most. With `--gpu` `training_gradients` says by how much the gradients of one step on five
lessons, in float32, differ from the CPU's: the length of the difference by the length of the CPU's.

    python -m benchmarks.training_speed --lessons FOLDER [--batch 64] [--compile] [--gpu]
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.models import verdict
from standwatch.actors.training_commands import base_model
from standwatch.actors.training_run import read_lessons
from standwatch.compression.checkpoint import load_model
from standwatch.compression.training import Recipe
from standwatch.compression.tuning.examples import Example
from standwatch.compression.tuning.learner import Learner, Stage
from standwatch.configs.schema import ModelConfig

STAGES = (Stage.ALIGN, Stage.TUNE, Stage.COMPRESS)
RANK, QUESTIONS, RATE = 16, 8, 1e-3
WARM_UP, TIMED = 3, 5
COMPARED = 5  # lessons


def learner(stage: Stage, config: ModelConfig, compiled: bool = False) -> Learner:
    loaded = load_model(config)
    own = Learner(loaded.model, loaded.tokenizer, stage, Recipe(learning_rate=RATE), RANK)
    if compiled:
        own.compile()
    return own


def step_seconds(own: Learner, lessons: Sequence[Example], batch: int) -> float:
    taken = []
    for number in range(WARM_UP + TIMED):
        chance = random.Random(number)
        began = time.perf_counter()
        own.gradients(chance.sample(lessons, batch), QUESTIONS, chance)
        own.step(number, WARM_UP + TIMED)
        if own.device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[WARM_UP:])


def gradients(own: Learner, lessons: Sequence[Example]) -> Tensor:
    """Of one step, in one row, on the CPU."""
    own.gradients(lessons, QUESTIONS, random.Random(0))
    return torch.cat([weight.grad.flatten().cpu() for weight in own.learning if weight.grad is not None])


def main(arguments: list[str] | None = None) -> int:
    """Print what was measured; 1 when gradients differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lessons", default="runs/lessons")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--gpu", action="store_true")
    chosen = parser.parse_args(arguments)
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    lessons = read_lessons(chosen.lessons)
    if chosen.gpu:
        print(torch.cuda.get_device_name())
    for stage in STAGES:
        own = learner(stage, base_model(gpu=chosen.gpu), chosen.compile)
        seconds = step_seconds(own, lessons, chosen.batch)
        memory = f", {torch.cuda.max_memory_allocated() / 1e9:.0f} GB" if chosen.gpu else ""
        print(f"{stage.value}: {seconds:.3f} s for a step of {chosen.batch} lessons{memory}", flush=True)
    if not chosen.gpu:
        return 0
    shown = sorted(lessons[: 10 * COMPARED], key=lambda one: -len(one.times_ms))[:COMPARED]
    cpu, gpu = (gradients(learner(Stage.COMPRESS, base_model("float32", device)), shown) for device in (False, True))
    difference = float((cpu - gpu).norm() / cpu.norm())
    return 0 if verdict("training_gradients", difference, 1e-4, at_least=False, digits=6) else 1


if __name__ == "__main__":
    sys.exit(main())
