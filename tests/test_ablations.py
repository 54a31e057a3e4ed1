"""The ways to compress that are compared: the same number of tokens at the end, each learning through its own."""

import random

import pytest
import torch

from benchmarks.ablations import LEARNED, WAYS, Squeezing, linear, one_step
from standwatch.compression.schedule import SUFFIX, runnable_schedule
from standwatch.compression.training import Recipe
from standwatch.compression.tuning.learner import Stage
from tests.test_tuning_learning import TOKENIZER, example
from tests.tiny_models import TINY, fresh_xcomp, normal


def test_one_step_costs_what_the_cosine_does_and_a_line_goes_down_evenly() -> None:
    published = runnable_schedule(30, 16, SUFFIX)
    step = one_step(30, 16)
    assert set(step.lengths) == {16, 1}
    assert sum(step.tokens_by_layer) == pytest.approx(sum(published.tokens_by_layer), abs=8)
    line = linear(30, 16)
    assert (line.lengths[0], line.lengths[15], line.lengths[-1]) == (16, 9, 1)
    assert 0 not in line.drop_steps and 0 not in step.drop_steps
    assert line.kept[-1] == step.kept[-1] == published.kept[-1] == (16,)


@pytest.mark.parametrize("name", WAYS)
def test_every_way_takes_what_it_makes_of_a_frame_and_leaves_one_token(name: str) -> None:
    way = WAYS[name]
    for layers, tokens in ((30, 16), (6, 4)):
        schedule = way.schedule(layers, tokens)
        assert way.squeezed(normal(2, tokens, 8)).shape == (2, schedule.tokens_per_frame, 8)
        assert schedule.tokens_by_layer[-1] == 1


def test_the_mean_is_the_average_and_one_cell_the_sample() -> None:
    video = normal(3, 16, 8)
    torch.testing.assert_close(WAYS["average"].squeezed(video)[:, 0], video.mean(1))
    assert torch.equal(WAYS["sampling"].squeezed(video)[:, 0], video[:, 5])


@pytest.mark.parametrize("name", [LEARNED, "average"])
def test_a_way_learns_its_examples(name: str) -> None:
    own = Squeezing(fresh_xcomp(), TOKENIZER, Stage.COMPRESS, Recipe(learning_rate=3e-3, warm_up=0.0), rank=4)
    own.way = WAYS[name]
    assert own.schedule == WAYS[name].schedule(TINY.language.layers, TINY.tokens_per_frame)
    losses = []
    for step in range(30):
        losses.append(own.gradients([example()], 3, random.Random(step)))
        own.step(step, 60)
    assert losses[-1] < 0.6 * losses[0]
