"""Training on Ray Train: it learns, writes its curve, and goes on where it was stopped."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import ray
import torch
from safetensors.torch import load_file, save_file

from standwatch.actors.training_run import CURVE, Course, go_through, new_learner, shares, train
from standwatch.compression.tuning.examples import Example, Object, write_shard
from standwatch.compression.tuning.learner import Learner, Stage
from standwatch.compression.tuning.quiz import Asked
from standwatch.compression.tuning.quiz_claims import Topic
from standwatch.compression.xcomp import build
from standwatch.configs.schema import ModelConfig
from standwatch.pipeline.errors import BadInput
from tests.checkpoint_folder import save_with_tokenizer
from tests.tiny_models import TINY, TINY_CELLS, drawn, normal

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def example(number: int) -> Example:
    """A dog is there or not, and the features show it."""
    there = number % 2 == 0
    features = normal(2, 4, TINY.vision.width, seed=number) * 0.1 + (1.0 if there else -1.0)
    objects = ((Object("dog", "", (0.0, 0.0, 1.0, 1.0)),),) * 2 if there else ((), ())
    asked = (Asked(Topic.PRESENCE, "Is there a dog?", "Yes." if there else "No.", there),)
    return Example(features.half(), (0, 500), objects, asked, f"by hand {number}")


def saved(shape: ModelConfig, folder: Path) -> ModelConfig:
    """Of this shape, with room for the tokenizer's ids."""
    shape = replace(shape, language=replace(shape.language, vocab=330))
    model = build(shape)
    drawn(model, 3)
    save_with_tokenizer(model, folder)
    return replace(shape, checkpoint=str(folder))


@pytest.fixture
def base(tmp_path: Path) -> ModelConfig:
    return saved(TINY, tmp_path / "base")


@pytest.fixture
def course(tmp_path: Path) -> Course:
    lessons, exam = tmp_path / "lessons", tmp_path / "exam"
    write_shard(lessons, "one", [example(number) for number in range(20)])
    write_shard(exam, "one", [example(number) for number in range(100, 110)])
    return Course(
        stage=Stage.COMPRESS,
        lessons=str(lessons),
        exam=str(exam),
        start="",
        steps=20,
        examples_per_step=4,
        questions=1,
        learning_rate=5e-3,
        rank=4,
        seed=0,
        threads=1,
        report_steps=20,
        save_steps=20,
        exam_steps=100,
    )


def curve(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / CURVE).read_text().splitlines()]


def test_a_run_learns_and_goes_on_where_it_ended_with_another_number_of_workers(
    course: Course, base: ModelConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    try:
        first = load_file(train(course, base, folder, workers=1, use_gpu=False))
        second = load_file(train(replace(course, steps=100), base, folder, workers=2, use_gpu=False))
    finally:
        ray.shutdown()
    lines = curve(folder)
    assert [line["step"] for line in lines] == [20, 40, 60, 80, 100]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[-1]["presence"] == 1.0, "whether the dog is there is learnt"
    assert set(first) == set(second)
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_a_course_of_vision_keeps_to_what_the_file_it_names_as_known_has_learnt(course: Course, tmp_path: Path) -> None:
    config = saved(TINY_CELLS, tmp_path / "base")
    seen = torch.randint(0, 255, (2, 28, 28, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    pictures = [replace(example(0), features=seen)]
    course = replace(course, stage=Stage.SEE, learning_rate=1e-2)

    def loss(known: str, start: str) -> float:
        return new_learner(replace(course, known=known, start=start), config).gradients(pictures, 1, random.Random(0))

    learner, file = new_learner(course, config), str(tmp_path / "learnt.safetensors")
    for step in range(20):
        learner.gradients(pictures, 1, random.Random(0))
        learner.step(step, 20)
    save_file(learner.learnt(), file)
    assert loss("", file) == pytest.approx(loss(file, file), abs=1e-4), "nothing has departed yet"
    assert loss(file, "") > loss("", "") + 0.1


def of_frames(count: int) -> Example:
    return Example(normal(count, 4, TINY.vision.width, seed=0).half(), tuple(range(count)), ((),) * count, (), "")


@pytest.mark.parametrize(
    ("frames", "workers", "each"),
    [([64, 1, 40, 30, 8, 8, 1, 1], 2, 76), ([9, 9, 9, 9, 9, 9], 3, 18), ([5, 1], 1, 6), ([1, 2, 3], 3, None)],
)
def test_workers_share_the_frames_of_a_step(frames: list[int], workers: int, each: int | None) -> None:
    drawn = [of_frames(count) for count in frames]
    found = shares(drawn, workers)
    assert sorted(id(one) for own in found for one in own) == sorted(map(id, drawn))
    assert {len(own) for own in found} == {len(frames) // workers}
    if each:
        assert all(abs(sum(len(example.times_ms) for example in own) - each) <= 4 for own in found)


def test_fewer_lessons_than_workers_are_refused(course: Course) -> None:
    with pytest.raises(BadInput, match="lessons: 1 lessons are too few for 2 workers"):
        next(go_through(course, cast(Learner, None), 1, [example(0)], [], 0, 2))


def test_the_curve_leaves_out_what_no_scene_of_the_exam_shows(course: Course, base: ModelConfig) -> None:
    course = replace(course, stage=Stage.ALIGN, steps=1)
    (line,) = go_through(course, new_learner(course, base), 0, [example(0), example(1)], [example(0)])
    assert "cell's name" in line
    assert "cell's pose" not in line, "nobody stands or lies there"
