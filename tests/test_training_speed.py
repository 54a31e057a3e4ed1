"""What the figure of training compares: the same step twice has the same gradients, another one has others."""

import torch

from benchmarks.training_speed import gradients, step_seconds
from standwatch.compression.training import Recipe
from standwatch.compression.tuning.learner import Learner, Stage
from tests.test_tuning_learning import TOKENIZER, example
from tests.tiny_models import fresh_xcomp


def own() -> Learner:
    return Learner(fresh_xcomp(), TOKENIZER, Stage.COMPRESS, Recipe(learning_rate=3e-3), rank=4)


def test_a_step_has_the_same_gradients_again_and_others_on_other_lessons() -> None:
    one = gradients(own(), [example(seed=1), example(3, seed=2)])
    assert one.ndim == 1 and one.norm() > 0
    torch.testing.assert_close(gradients(own(), [example(seed=1), example(3, seed=2)]), one)
    assert (gradients(own(), [example(seed=5)]) - one).norm() > 0.1 * one.norm()


def test_a_timed_step_is_a_step() -> None:
    timed = own()
    before = [weight.detach().clone() for weight in timed.learning]
    assert step_seconds(timed, [example(seed=seed) for seed in range(4)], 2) > 0
    assert any(not torch.equal(*pair) for pair in zip(before, timed.learning, strict=True))
