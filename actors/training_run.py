"""Trains on Ray Train: each worker learns from its own examples, and all change their weights alike.

Everything that a step does not depend on the past for is drawn from its number, so a run that was stopped goes on as
if it had not been.
"""

import json
import logging
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
import torch.distributed
from ray.train import CheckpointConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from safetensors.torch import load_file, save_file
from torch import nn

from standwatch.compression.checkpoint import load_model
from standwatch.compression.training import Recipe
from standwatch.compression.tuning.examples import Example, read_shard, shards
from standwatch.compression.tuning.eyesight import sees_as
from standwatch.compression.tuning.learner import Learner, Stage
from standwatch.compression.tuning.release import read_learnt
from standwatch.configs.schema import ModelConfig
from standwatch.pipeline.errors import BadInput

LEARNT = "learnt.safetensors"
CURVE = "curve.jsonl"
_PROGRESS = "progress.pt"
_KEPT = 2  # checkpoints of a run
_MEASURED = 400  # examples by which features are standardised, and the distance of tokens from the mean word is set


@dataclass(frozen=True)
class Course:
    """One stage of training. `start` is the file of what was learnt before, or a release; empty for the first stage."""

    stage: Stage
    lessons: str  # folder of examples
    exam: str  # folder of examples that are not learnt from
    start: str
    steps: int
    examples_per_step: int  # of all workers together
    questions: int  # of each example and step
    learning_rate: float
    rank: int
    seed: int
    threads: int  # of each worker
    compiled: bool = False
    most_frames: int = 16  # examples of more are left out
    freeze_projector: bool = False
    known: str = ""  # file, or a release, with the tokens that who reads was taught with; only where vision learns
    report_steps: int = 50
    save_steps: int = 50
    exam_steps: int = 500


def train(course: Course, model: ModelConfig, folder: Path, workers: int, use_gpu: bool) -> Path:
    """Go through a course and return the file of what was learnt; one that was stopped goes on from where it was.

    `folder` holds the run's checkpoints, and its figures in CURVE: a line of JSON for every report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not ray.is_initialized():  # otherwise the caller's cluster is used
        ray.init(address="local", num_cpus=workers + 2, include_dashboard=False, logging_level=logging.ERROR)
    trainer = TorchTrainer(
        _work,
        train_loop_config={"course": course, "model": model, "curve": str(folder.absolute() / CURVE)},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=RunConfig(
            name="checkpoints",
            storage_path=str(folder.absolute()),
            checkpoint_config=CheckpointConfig(num_to_keep=_KEPT),
        ),
    )
    result = trainer.fit()
    if result.checkpoint is None:
        raise RuntimeError(f"{folder}: training ended without a checkpoint")
    return Path(result.checkpoint.path) / LEARNT


def _work(given: dict[str, Any]) -> None:
    """What one worker does."""
    course, curve = given["course"], Path(given["curve"])
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(course.threads)
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)  # CPUs too then keep to bfloat16
    learner = new_learner(course, given["model"])
    step = _resume(learner)
    lessons = read_lessons(course.lessons, course.most_frames)
    exam = read_lessons(course.exam) if shards(Path(course.exam)) else []  # a course may go without
    for line in go_through(course, learner, step, lessons, exam, rank, workers):
        if rank == 0:
            with curve.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(line) + "\n")
        step = int(line["step"])
        _report(learner, step, line, save=rank == 0 and (step == course.steps or step % course.save_steps == 0))


def new_learner(course: Course, config: ModelConfig) -> Learner:
    """What a course begins with. Raises ValueError where its start, or what is known, is another model's."""
    loaded = load_model(config)
    recipe = Recipe(learning_rate=course.learning_rate)
    known = None
    if course.known:
        known = load_model(config).model
        sees_as(known, read_learnt(Path(course.known)))
    learner = Learner(loaded.model, loaded.tokenizer, course.stage, recipe, course.rank, course.freeze_projector, known)
    if course.start:
        learner.take(read_learnt(Path(course.start)))
    if course.compiled:
        learner.compile()
    return learner


def read_lessons(folder: str, most_frames: int | None = None) -> list[Example]:
    """All examples of a folder that have no more frames. Raises BadInput where there is none."""
    found = (example for name in shards(Path(folder)) for example in read_shard(Path(folder), name))
    kept = [example for example in found if most_frames is None or len(example.times_ms) <= most_frames]
    if not kept:
        raise BadInput(f"{folder}: has no lessons of so few frames; `standwatch train film --to {folder}` makes some")
    return kept


def go_through(
    course: Course,
    learner: Learner,
    step: int,
    lessons: Sequence[Example],
    exam: Sequence[Example],
    rank: int = 0,
    workers: int = 1,
) -> Iterator[dict[str, float]]:
    """Go through a course from this step on, as worker `rank` of some; yields the figures of every report.

    Raises BadInput where there are fewer lessons than workers.
    """
    if len(lessons) < workers:
        raise BadInput(f"{course.lessons}: {len(lessons)} lessons are too few for {workers} workers; film more")
    measured = lessons[:: -(-len(lessons) // _MEASURED)]
    if step == 0:
        learner.begin(measured)
    share = min(max(1, course.examples_per_step // workers), len(lessons) // workers)
    losses: list[float] = []
    began = time.monotonic()
    while step < course.steps:
        drawn = random.Random(f"{course.seed} {step}").sample(lessons, share * workers)
        chance = random.Random(f"{course.seed} {step} {rank}")
        losses.append(learner.gradients(shares(drawn, workers)[rank], course.questions, chance))
        average_gradients(learner.learning, workers)
        learner.step(step, course.steps)
        step += 1
        done = step == course.steps
        if done:
            learner.finish(measured)
        if done or step % course.report_steps == 0:
            line = {"step": step, "loss": sum(losses) / len(losses), "seconds": round(time.monotonic() - began, 1)}
            losses.clear()
            if rank == 0 and (done or step % course.exam_steps == 0):
                line |= _examined(learner, exam)
            yield line


def shares(drawn: Sequence[Example], workers: int) -> list[list[Example]]:
    """An equal number for each worker, with about as many frames: whoever has fewer waits for the others."""
    found: list[list[Example]] = [[] for _ in range(workers)]
    longest = sorted(drawn, key=lambda example: len(example.times_ms), reverse=True)
    for first in range(0, len(longest), workers):
        idlest = sorted(found, key=lambda own: sum(len(example.times_ms) for example in own))
        for own, example in zip(idlest, longest[first : first + workers], strict=True):
            own.append(example)
    return found


def _resume(learner: Learner) -> int:
    """The step to go on with."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as folder:
        learner.take(load_file(Path(folder) / LEARNT))
        progress = torch.load(Path(folder) / _PROGRESS, weights_only=True)
    learner.resume(progress["optimizer"])
    return int(progress["step"])


def average_gradients(weights: Sequence[nn.Parameter], workers: int) -> None:
    """Give each worker the mean of all workers' gradients; weights that have none have none in any.

    In one message: there are hundreds of weights, most of them small.
    """
    if workers > 1:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        together = torch.cat([gradient.flatten() for gradient in gradients]) / workers
        torch.distributed.all_reduce(together)
        for gradient, mean in zip(gradients, torch.split(together, [one.numel() for one in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))


def _examined(learner: Learner, exam: Sequence[Example]) -> dict[str, float]:
    marks = learner.examine(exam)
    return {topic: sum(right) / len(right) for topic, right in sorted(marks.items()) if right}


def _report(learner: Learner, step: int, line: dict[str, float], save: bool) -> None:
    if not save:
        ray.train.report(line)
        return
    with tempfile.TemporaryDirectory() as folder:
        save_file(learner.learnt(), Path(folder) / LEARNT)
        torch.save({"optimizer": learner.progress(), "step": step}, Path(folder) / _PROGRESS)
        ray.train.report(line, checkpoint=ray.train.Checkpoint.from_directory(folder))
