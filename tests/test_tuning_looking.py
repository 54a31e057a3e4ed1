"""Questions learn to look at the frames that show what they ask for."""

import random
from dataclasses import replace

import pytest
import torch

from standwatch.compression.labels import Sample
from standwatch.compression.schedule import Schedule
from standwatch.compression.tokenizer import byte_level
from standwatch.compression.training import Heard, Recipe, mean_loss
from standwatch.compression.tuning.examples import Example
from standwatch.compression.tuning.learner import Learner, Stage, whole_schedule
from standwatch.compression.tuning.lessons import lesson
from standwatch.compression.tuning.looking import Onlooker
from standwatch.compression.tuning.quiz import Asked
from standwatch.compression.tuning.quiz_claims import Topic
from tests.tiny_models import TINY, fresh_xcomp, normal

TOKENIZER = byte_level()
DOG = Asked(Topic.PRESENCE, "Was there a dog?", "Yes.", True, (1,))
CAT = Asked(Topic.PRESENCE, "Has a cat been there?", "Yes.", True, (0, 2))
NONE = Asked(Topic.PRESENCE, "Was there a cow?", "No.", False)
CLAUSES = (("a dog came into view", (0,)), ("a cat went out of view", (1, 2)))
BEFORE = Asked(
    Topic.ORDER, "A dog came into view before a cat went out of view, right?", "Yes.", True, (0, 1, 2), CLAUSES
)
WRAPPED = Asked(
    Topic.ORDER, "Hello. Which was first: a cat went out of view or a dog came into view?", "", None, (), CLAUSES
)
LAYERS = range(2, 5)


def example(asked: tuple[Asked, ...], context: int = 0, seed: int = 0) -> Example:
    frames = context + 3
    features = normal(frames, 4, TINY.vision.width, seed=seed).half()
    return Example(features, tuple(range(0, 500 * frames, 500)), ((),) * frames, asked, "by hand", context)


def sample(asked: tuple[Asked, ...], context: int = 0) -> Sample:
    return lesson(TOKENIZER, example(asked, context), normal(context + 3, 4, 24, seed=1), asked)


def cost_of(samples: list[Sample], schedule: Schedule) -> float:
    onlooker = Onlooker(samples, schedule, LAYERS)
    mean_loss(fresh_xcomp().decoder, schedule, samples, hear=(onlooker.hear,))
    return float(onlooker.cost())


@pytest.mark.parametrize("asked", [(DOG,), (NONE, DOG), (DOG, CAT, NONE)])
@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("n", [1, 4])
def test_the_rows_that_look_are_the_questions_words(asked: tuple[Asked, ...], context: int, n: int) -> None:
    """Less what all the texts have in common."""
    one = sample(asked, context)
    video = one.layout.frames * n
    wanted = [one_asked.question for one_asked in asked if one_asked.evidence]
    for look, question in zip(one.looks, wanted, strict=True):
        rows = one.looking(look, n)
        words = TOKENIZER.decode(one.ids[rows.start - video : rows.stop - video])
        assert f"{question}\n".endswith(words) and words.endswith(question.split()[-1] + "\n")


@pytest.mark.parametrize("asked", [(BEFORE,), (WRAPPED, BEFORE, DOG), (BEFORE, WRAPPED)])
@pytest.mark.parametrize("context", [0, 2])
def test_of_two_things_each_is_looked_for_by_its_own_words(asked: tuple[Asked, ...], context: int) -> None:
    one = sample(asked, context)
    video = one.layout.frames
    found = [
        (TOKENIZER.decode(one.ids[rows.start - video : rows.stop - video]).lower().strip(), look.frames)
        for look in one.looks
        for rows in (one.looking(look, 1),)
    ]
    assert [look.text for look in one.looks[:2]] == [0, 0]
    assert [words for words in found if words != ("was there a dog?", (1,))] == [*CLAUSES] * (len(found) // 2)


def test_words_that_all_texts_begin_with_are_looked_from_where_they_run() -> None:
    """Both questions begin with the same clause: its rows belong to both."""
    also = replace(BEFORE, question="A dog came into view before a cat went out of view. Is that right?")
    one = sample((BEFORE, also))
    rows = [one.looking(look, 2) for look in one.looks]
    assert rows[0] == rows[2] and rows[1] == rows[3] and rows[1].stop <= one.layout.trunk(2)
    words = [TOKENIZER.decode(one.ids[row.start - 6 : row.stop - 6]) for row in rows[:2]]
    assert [one.strip() for one in words] == ["A dog came into view", "a cat went out of view"]


@pytest.mark.parametrize("context", [0, 2])
def test_a_look_costs_how_little_of_the_frames_weight_its_own_have(context: int) -> None:
    """By hand, in one layer: queries and keys are given, so weights follow from the definition."""
    one, schedule = sample((NONE, CAT), context), whole_schedule(6, 4)
    (look,), layout = one.looks, one.layout
    queries, keys = normal(4, layout.rows(4), 8, seed=2), normal(2, layout.rows(4), 8, seed=3)
    onlooker = Onlooker([one], schedule, [3])
    for layer in range(6):
        onlooker.hear(Heard(layer, torch.zeros(0), queries, keys))
    rows, first = one.looking(look, 4), layout.prefix + context * 4
    seen = [*range(layout.prefix), *range(first, first + 3 * 4)]
    total = torch.zeros(3)
    for head in range(4):
        for row in range(rows.start, rows.stop):
            weights = (keys[head // 2, seen] @ queries[head, row] / 8**0.5).softmax(0)
            total += weights[layout.prefix :].view(3, 4).sum(-1)
    expected = -(total[[0, 2]].sum() / total.sum()).log()
    assert float(onlooker.cost()) == pytest.approx(float(expected), rel=1e-5)


def test_what_looks_nowhere_costs_nothing_and_samples_do_not_hear_each_other() -> None:
    schedule = whole_schedule(6, 4)
    assert cost_of([sample((NONE, NONE))], schedule) == 0
    alone = cost_of([sample((DOG, NONE), 2)], schedule)
    behind = cost_of([sample((NONE,)), sample((DOG, NONE), 2)], schedule)
    assert alone > 0
    assert behind == pytest.approx(alone, rel=1e-4)


def test_a_clause_that_no_frame_shows_clearly_looks_nowhere() -> None:
    """Else the cost is least where its words do not see frames at all."""
    one = sample((replace(BEFORE, evidence=(1, 2), clauses=(("a dog came into view", ()), CLAUSES[1])),))
    assert [look.frames for look in one.looks] == [(1, 2)]
    unseen = replace(BEFORE, evidence=(), clauses=tuple((words, ()) for words, _ in CLAUSES))
    assert sample((unseen,)).looks == ()


def test_learning_moves_the_weight_to_the_evidence() -> None:
    own = Learner(fresh_xcomp(), TOKENIZER, Stage.COMPRESS, Recipe(learning_rate=1e-2, warm_up=0.0), rank=4)
    lessons = [example((DOG, NONE), seed=seed) for seed in range(2)]
    costs = []
    for step in range(30):
        own.gradients(lessons, 2, random.Random(step))
        own.step(step, 60)
        samples = [lesson(TOKENIZER, one, own.tokens(one), one.asked) for one in lessons]
        onlooker = Onlooker(samples, own.schedule, LAYERS)
        with torch.no_grad():
            mean_loss(own.decoder, own.schedule, samples, hear=(onlooker.hear,))
        costs.append(float(onlooker.cost()))
    assert costs[-1] < 0.7 * costs[0]
