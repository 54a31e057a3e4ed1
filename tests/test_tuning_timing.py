"""Words that have found their frames learn to tell when these were, and answers begin with which was first."""

import random
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from standwatch.compression.labels import Sample
from standwatch.compression.tokenizer import byte_level
from standwatch.compression.training import Heard, Recipe, mean_loss
from standwatch.compression.tuning.examples import Example
from standwatch.compression.tuning.learner import Learner, Stage, whole_schedule
from standwatch.compression.tuning.lessons import lesson
from standwatch.compression.tuning.quiz import Asked
from standwatch.compression.tuning.quiz_claims import Topic
from standwatch.compression.tuning.timing import Timekeeper
from tests.tiny_models import TINY, fresh_xcomp, normal

TOKENIZER = byte_level()
FRAMES, WIDTH, LAYER, COMPARING = 8, 24, 4, 5  # of six layers
LATER = F.normalize(normal(WIDTH, seed=9), dim=0)


def dog(*frames: int) -> Asked:
    return Asked(Topic.EVENT, f"Did a dog come into view, {frames}?", "Yes.", True, frames)


EARLY, LATE, LONG, NEVER = dog(0, 1), dog(6, 7), dog(1, 2, 3, 4), dog()
CLAUSES = (("a dog came into view", (1,)), ("a cat went out of view", (4, 5)))
BEFORE = Asked(Topic.ORDER, "A dog came into view before a cat went out of view, right?", "Yes.", True, (), CLAUSES)
TURNED = Asked(Topic.ORDER, "Was it a cat went out of view, then a dog came into view?", "No.", False, (), CLAUSES)


def example(asked: tuple[Asked, ...], frames: int = FRAMES, context: int = 0, seed: int = 0) -> Example:
    features = normal(context + frames, 4, TINY.vision.width, seed=seed).half()
    times_ms = tuple(range(0, 500 * len(features), 500))
    return Example(features, times_ms, ((),) * len(features), asked, "by hand", context)


def sample(asked: tuple[Asked, ...], frames: int = FRAMES, context: int = 0) -> Sample:
    video = normal(context + frames, 4, WIDTH, seed=1)
    return lesson(TOKENIZER, example(asked, frames, context), video, asked)


def told(rows: Tensor, *places: int) -> Tensor:
    """What these rows say."""
    return F.layer_norm(rows[list(places)], (WIDTH,)) @ LATER


def cost_of(samples: list[Sample], rows: Tensor, layer: int = LAYER, n: int = 4) -> float:
    keeper = Timekeeper(samples, whole_schedule(6, n), LATER)
    keeper.hear(Heard(layer, rows, torch.zeros(0), torch.zeros(0)))
    return float(keeper.cost())


def rows_of(*samples: Sample, n: int = 4) -> Tensor:
    return normal(sum(one.layout.rows(n) for one in samples), WIDTH, seed=5)


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("n", [1, 4])
def test_the_last_row_of_each_look_tells_the_middle_of_its_frames(context: int, n: int) -> None:
    """From -1, where the frames seen begin, to 1, where they end: of 8 frames the first two lie around -0.75."""
    one = sample((EARLY, BEFORE), context=context)
    rows = rows_of(one, n=n)
    last = [one.looking(look, n).stop - 1 for look in one.looks]
    wanted = torch.tensor([-0.75, -0.625, 0.25])
    expected = 3 * (told(rows, *last) - wanted).square().mean()
    assert cost_of([one], rows, n=n) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("n", [1, 4])
def test_the_row_that_begins_the_answer_tells_whether_the_first_named_was_before_or_after(n: int, context: int) -> None:
    one = sample((EARLY, BEFORE, TURNED), context=context)
    rows = rows_of(one, n=n)
    ends = [row for row, _, _ in one.targets(n)]
    firsts = [ends[0], *(row for before, row in pairwise(ends) if row > before + 1)]
    expected = (told(rows, *firsts[1:]) - torch.tensor([-1.0, 1.0])).square().mean()
    assert cost_of([one], rows, COMPARING, n) == pytest.approx(float(expected), rel=1e-5)


def test_one_layer_tells_and_samples_do_not_mix() -> None:
    first, second = sample((NEVER,)), sample((LATE,))
    rows = rows_of(first, second)
    alone = cost_of([second], rows[first.layout.rows(4) :])
    assert cost_of([first, second], rows) == pytest.approx(alone) and alone > 0
    assert [cost_of([first, second], rows, layer) for layer in range(6) if layer != LAYER] == [0.0] * 5


@pytest.mark.parametrize(
    "silent", [sample((NEVER,)), sample((LONG,)), sample((dog(0),), frames=3)], ids=["nothing", "long", "short video"]
)
def test_what_has_no_moment_has_nothing_to_tell(silent: Sample) -> None:
    assert cost_of([silent], rows_of(silent)) == 0


def test_who_always_says_the_middle_pays_one() -> None:
    """Of moments all over the video, with rows that have nothing along the direction."""
    samples = [sample((dog(frame),), frames=32) for frame in range(32)]
    across = normal(WIDTH, seed=6)
    across = across - across.mean()
    level = LATER - LATER.mean()
    across -= (across @ level) / (level @ level) * level
    rows = across.expand(sum(one.layout.rows(4) for one in samples), -1)
    assert cost_of(samples, rows) == pytest.approx(1, abs=0.01)


def test_learning_tells_early_from_late() -> None:
    own = Learner(fresh_xcomp(), TOKENIZER, Stage.COMPRESS, Recipe(learning_rate=1e-2, warm_up=0.0), rank=4)
    lessons = [example((EARLY, LATE), seed=seed) for seed in range(2)]
    heard: list[Heard] = []

    def gap() -> float:
        heard.clear()
        one = lesson(TOKENIZER, lessons[0], own.tokens(lessons[0]), lessons[0].asked)
        with torch.no_grad():
            mean_loss(own.decoder, own.schedule, [one], hear=(heard.append,))
        n = own.schedule.tokens_by_layer[LAYER]
        early, late = (one.looking(look, n).stop - 1 for look in one.looks)
        states = F.layer_norm(heard[LAYER].rows[[late, early]].float(), (WIDTH,))
        return float((states[0] - states[1]) @ own.later)

    before = gap()
    for step in range(30):
        own.gradients(lessons, 2, random.Random(step))
        own.step(step, 60)
    assert gap() > before + 0.5
