"""Vision learns from pictures, by additions that its weights take up, and nothing else is changed by it."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from standwatch.compression.checkpoint import load_model
from standwatch.compression.checkpoint_layout import PROJECTOR, TOWER
from standwatch.compression.tokenizer import byte_level
from standwatch.compression.training import Recipe, mean_loss
from standwatch.compression.tuning.examples import Example, Object, read_shard, write_shard
from standwatch.compression.tuning.eyesight import learning_blocks, look_at, merge_vision, sees_as
from standwatch.compression.tuning.learner import Learner, Stage
from standwatch.compression.tuning.lessons import lesson
from standwatch.compression.tuning.quiz import Asked
from standwatch.compression.tuning.quiz_claims import Topic
from standwatch.compression.tuning.release import read_learnt, write_release, write_tuned
from standwatch.compression.xcomp import XComp, build
from standwatch.configs.schema import ModelConfig
from tests.checkpoint_folder import save_with_tokenizer
from tests.tiny_models import TINY_CELLS, drawn, fresh_xcomp

FIRST_LAYER = {"mlp.0.weight", "mlp.0.bias", "standard.weight", "standard.bias"}
DOG, RED_CAR = Object("dog", "", (0.0, 0.0, 0.5, 0.5)), Object("car", "red", (0.5, 0.5, 1.0, 1.0))


def shape(taps: tuple[int, ...] = (1, 3)) -> ModelConfig:
    return replace(TINY_CELLS, vision=replace(TINY_CELLS.vision, taps=taps))


def fresh(taps: tuple[int, ...] = (1, 3)) -> XComp:
    model = build(shape(taps))
    drawn(model, 3)
    return model


def learner(stage: Stage, model: XComp, known: XComp | None = None) -> Learner:
    return Learner(model, byte_level(), stage, Recipe(learning_rate=1e-2, warm_up=0.0), rank=2, known=known)


def pictures(seed: int, frames: int = 2, asked: tuple[Asked, ...] = ()) -> Example:
    """Noise with a red square where the car is."""
    seen = torch.randint(0, 100, (frames, 28, 28, 3), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    seen[:, 14:, 14:] = torch.tensor((250, 10, 10), dtype=torch.uint8)
    return Example(seen, tuple(range(frames)), ((DOG, RED_CAR),) * frames, asked, "by hand")


def learn(own: Learner, steps: int = 60) -> list[float]:
    losses = []
    for step in range(steps):
        losses.append(own.gradients([pictures(1), pictures(2)], 1, random.Random(step)))
        own.step(step, 100)
    return losses


def seen_as(model: XComp) -> Tensor:
    return look_at(model, pictures(5).features)


def test_blocks_between_the_taps_and_the_projectors_first_layer_learn_and_nothing_else_changes() -> None:
    model = fresh()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    own = learner(Stage.SEE, model)
    losses = learn(own)
    assert losses[-1] < 0.5 * losses[0]
    base = {name: weight for name, weight in model.state_dict().items() if not name.endswith((".down", ".up"))}
    changed = {name for name, weight in base.items() if not torch.equal(weight, before[name.replace(".linear.", ".")])}
    assert changed == {PROJECTOR + name for name in FIRST_LAYER}
    learnt = {
        name for name, one in own.learnt().items() if name.startswith(TOWER) and name.endswith(".up") and one.any()
    }
    linear = ("attention.qkv", "attention.out", "mlp.fc1", "mlp.fc2")
    assert learnt == {f"{TOWER}blocks.{block}.{name}.weight.up" for block in (1, 2) for name in linear}


def test_observing_learns_from_answers_and_who_reads_stays_as_it_is() -> None:
    """The reader is drawn at random, and hardly able to answer; what it is shown brings it nearer to the answer."""
    asked = (Asked(Topic.PRESENCE, "Is there a car?", "Yes.", True, (1,)),)
    lessons = [pictures(1, asked=asked), pictures(2, asked=asked)]

    def after(stage: Stage, steps: int) -> float:
        """What answers cost after so many steps."""
        own = learner(stage, model := fresh())
        before = {name: weight.clone() for name, weight in model.state_dict().items()}
        for step in range(steps):
            own.gradients(lessons, 1, random.Random(step))
            own.step(step, 100)
        changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
        assert all(name.startswith(TOWER) or name.removeprefix(PROJECTOR) in FIRST_LAYER for name in changed)
        assert {name.startswith(TOWER) for name in changed} == ({True, False} if steps else set())
        samples = [lesson(byte_level(), one, own.tokens(one), one.asked) for one in lessons]
        return float(mean_loss(own.decoder, model.lpcomp_schedule, samples).detach())

    assert after(Stage.OBSERVE, 60) < after(Stage.SEE, 60) - 0.1
    assert after(Stage.OBSERVE, 60) < after(Stage.OBSERVE, 0) - 0.1
    with pytest.raises(ValueError, match="freeze_projector: in observe it learns"):
        Learner(fresh(), byte_level(), Stage.OBSERVE, Recipe(), 2, freeze_projector=True)


def test_what_vision_has_learnt_is_carried_through_other_stages_and_merged_where_frames_are_filmed() -> None:
    own = learner(Stage.SEE, model := fresh())
    learn(own, 10)
    later = learner(Stage.ALIGN, fresh())
    later.take(own.learnt())
    features = replace(pictures(1), features=torch.randn(2, 4, 64, generator=torch.Generator().manual_seed(0)))
    later.gradients([features], 1, random.Random(0))
    later.step(0, 10)
    for name, one in later.learnt().items():
        assert torch.equal(one, own.learnt()[name]) == (not name.startswith(PROJECTOR)), name
    filming = fresh()
    unlearnt = seen_as(filming)
    merge_vision(filming, later.learnt())
    torch.testing.assert_close(seen_as(filming), seen_as(model), rtol=1e-4, atol=1e-4)
    assert (seen_as(filming) - unlearnt).abs().max() > 0.01
    merge_vision(filming, {})  # of releases from before vision learnt


def test_what_is_known_holds_tokens_near_its_own_and_does_not_change() -> None:
    own = learner(Stage.SEE, fresh())
    learn(own)
    known = fresh()
    sees_as(known, own.learnt())

    def tokens(model: XComp) -> Tensor:
        projected: Tensor = model.projector(look_at(model, pictures(1).features).float())
        return projected.detach()

    before = tokens(known)
    torch.testing.assert_close(before, tokens(own._model), rtol=1e-4, atol=1e-4)

    def gone(holding: XComp | None) -> float:
        """How far tokens get in as many steps again."""
        later = learner(Stage.SEE, model := fresh(), holding)
        later.take(own.learnt())
        learn(later)
        return float((tokens(model) - before).square().sum())

    assert 0 < gone(known) < 0.5 * gone(None)
    assert torch.equal(tokens(known), before)
    with pytest.raises(ValueError, match="known: vision does not learn in align"):
        learner(Stage.ALIGN, fresh(), known)


def test_what_is_released_sees_as_it_has_learnt(tmp_path: Path) -> None:
    save_with_tokenizer(fresh(), tmp_path / "base")
    own = learner(Stage.SEE, model := load_model(replace(shape(), checkpoint=str(tmp_path / "base"))).model)
    learn(own, 10)
    save_file({name: one.contiguous() for name, one in own.learnt().items()}, tmp_path / "learnt.safetensors")
    write_release([tmp_path / "learnt.safetensors"], tmp_path / "release.safetensors", {})
    write_tuned(tmp_path / "base", tmp_path / "release.safetensors", tmp_path / "tuned")
    tuned = load_model(replace(shape(), checkpoint=str(tmp_path / "tuned"))).model
    torch.testing.assert_close(seen_as(tuned), seen_as(model), rtol=0.02, atol=0.02)
    again = learner(Stage.SEE, fresh())
    again.take(read_learnt(tmp_path / "release.safetensors"))
    torch.testing.assert_close(seen_as(again._model), seen_as(model), rtol=0.02, atol=0.02)


def test_pictures_come_back_from_their_files(tmp_path: Path) -> None:
    write_shard(tmp_path, "one", [pictures(1), pictures(2, frames=3)])
    one, other = read_shard(tmp_path, "one")
    assert torch.equal(one.features, pictures(1).features) and torch.equal(other.features, pictures(2, 3).features)


def test_each_stage_refuses_what_it_cannot_learn_from() -> None:
    features = replace(pictures(1), features=torch.zeros(2, 4, 64))
    for stage, lessons in ((Stage.SEE, features), (Stage.OBSERVE, features), (Stage.ALIGN, pictures(1))):
        own = learner(stage, fresh())
        with pytest.raises(ValueError, match="`see` and `observe` learn from pictures, and no other stage does"):
            own.begin([lessons])
        with pytest.raises(ValueError, match="film some with"):
            own.gradients([lessons], 1, random.Random(0))


def test_a_tower_without_blocks_that_learn_is_refused() -> None:
    assert len(learning_blocks(fresh(()).vision)) == 3, "all, without taps"
    for model in (fresh((3,)), fresh_xcomp()):
        with pytest.raises(ValueError, match="see: this tower"):
            learner(Stage.SEE, model)
