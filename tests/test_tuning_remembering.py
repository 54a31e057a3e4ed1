"""How the readout and the one token per frame are learnt, and that what is learnt is what live memory then holds."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from standwatch.compression.checkpoint import load_model
from standwatch.compression.prompt import prefix_ids
from standwatch.compression.tokenizer import byte_level
from standwatch.compression.training import Recipe
from standwatch.compression.tuning.alignment import NAMES, POSES
from standwatch.compression.tuning.examples import Example, Object
from standwatch.compression.tuning.learner import Learner, Stage
from standwatch.compression.tuning.quiz import Asked
from standwatch.compression.tuning.quiz_claims import Topic
from standwatch.compression.tuning.release import write_release, write_tuned
from standwatch.compression.tuning.remembering import frame_targets, left_of
from standwatch.compression.world.palette import COLOURS
from standwatch.compression.xcomp import XComp
from tests.checkpoint_folder import save_with_tokenizer
from tests.tiny_models import TINY, fresh_xcomp, normal

TOKENIZER = byte_level()
DOG = Object("dog", "", (0.0, 0.0, 0.5, 0.4))
RED_CAR = Object("car", "red", (0.6, 0.6, 1.0, 0.9))


def example(shows: Object, seed: int) -> Example:
    there = Asked(Topic.PRESENCE, "Is there a dog?", "Yes." if shows is DOG else "No.", shows is DOG)
    features = normal(2, 4, TINY.vision.width, seed=seed).half()
    return Example(features, (0, 500), ((shows,),) * 2, (there,), "by hand")


EXAMPLES = [example(DOG, 1), example(RED_CAR, 2)]


def trained(stage: Stage, start: Learner | None, steps: int, model: XComp | None = None) -> tuple[Learner, list[float]]:
    own = Learner(model or fresh_xcomp(), TOKENIZER, stage, Recipe(learning_rate=5e-3, warm_up=0.0), rank=4)
    if start is not None:
        own.take({name: weight.clone() for name, weight in start.learnt().items()})
    return own, train(own, steps)


def train(own: Learner, steps: int) -> list[float]:
    """The losses of so many steps."""
    losses = []
    for step in range(steps):
        losses.append(own.gradients(EXAMPLES, 3, random.Random(step)))
        own.step(step, steps + 20)
    return losses


def test_every_object_of_a_frame_has_an_equal_share_of_its_words() -> None:
    names, colours, sides, rows, poses = (part[0] for part in frame_targets([DOG, RED_CAR]))
    assert names[NAMES.index("dog")] == names[NAMES.index("car")] == 0.5
    assert colours[list(COLOURS).index("red")] == 1
    assert sides.tolist() == [0.5, 0.5]
    assert rows.tolist() == [0.5, 0.5]
    assert not poses.any()
    kneeling = frame_targets([DOG, Object("person", "red", DOG.box, "kneeling")])[-1][0]
    assert kneeling[POSES.index("kneeling")] == 1
    empty = frame_targets([])
    assert empty[0][0, NAMES.index("nothing")] == 1
    assert not any(part.any() for part in empty[1:])


def test_what_is_left_of_frames_in_training_is_what_appending_them_leaves() -> None:
    model = fresh_xcomp()
    prefix = model.decoder.embed([1, 2, 3])
    videos = [normal(3, 4, 24, seed=5), normal(1, 4, 24, seed=6)]
    left = left_of(model, prefix, videos)
    for video, own in zip(videos, left, strict=True):
        empty = model.decoder.empty(model.memory_schedule, prefix, len(video))
        live = model.decoder.append([empty], [video]).frames[0]
        torch.testing.assert_close(own, live, rtol=1e-4, atol=1e-4)


def test_the_readout_learns_alone_and_is_then_at_the_distance_of_words() -> None:
    model = fresh_xcomp()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    own, losses = trained(Stage.READOUT, None, 60, model)
    assert losses[-1] < 0.5 * losses[0]
    own.finish(EXAMPLES)
    after = {name.replace(".linear.", "."): weight for name, weight in model.state_dict().items()}
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    tokens = torch.cat([own.tokens(one) for one in EXAMPLES]).detach()
    assert tokens.shape == (4, 1, 24)
    distance = float((tokens - own.lexicon.centre).norm(dim=-1).mean())
    assert abs(distance - own.lexicon.distance) < 1e-3 * distance


def test_the_readout_learns_to_be_read_by_who_stays_as_it_is() -> None:
    reader, _ = trained(Stage.REMEMBER, trained(Stage.READOUT, None, 30)[0], 150)
    before = reader.learnt()
    turned = {name: -one for name, one in before.items() if name.startswith("readout.mlp.3")}
    own = Learner(fresh_xcomp(), TOKENIZER, Stage.RECALL, Recipe(learning_rate=5e-3, warm_up=0.0), rank=4)
    own.take(before | turned)
    assert own.examine(EXAMPLES) != {Topic.PRESENCE: [True, True]}
    train(own, 100)
    assert own.examine(EXAMPLES) == {Topic.PRESENCE: [True, True]}
    for name, one in own.learnt().items():
        assert name.startswith("readout.") or torch.equal(one, before[name]), name


def test_answers_are_learnt_from_memory_alone_and_from_frames_too() -> None:
    aligned, _ = trained(Stage.READOUT, None, 30)
    own, _ = trained(Stage.REMEMBER, aligned, 150)
    assert own.examine(EXAMPLES) == {Topic.PRESENCE: [True, True]}
    compressed = Learner(fresh_xcomp(), TOKENIZER, Stage.COMPRESS, Recipe(), rank=4)
    compressed.take(own.learnt())
    assert compressed.examine(EXAMPLES) == {Topic.PRESENCE: [True, True]}


@pytest.mark.parametrize("stage", [Stage.REMEMBER, Stage.COMPRESS])
def test_a_readout_is_taken_over_where_one_was_learnt_and_passed_on_where_none_is_used(stage: Stage) -> None:
    first, _ = trained(Stage.READOUT, None, 5)
    second, _ = trained(stage, first, 0)
    assert set(second.learnt()) == set(first.learnt())
    for name, weight in first.learnt().items():
        assert torch.equal(second.learnt()[name], weight), name
    without = Learner(fresh_xcomp(), TOKENIZER, Stage.COMPRESS, Recipe(), rank=4)
    assert not any(name.startswith("readout.") for name in without.learnt())


def test_a_readout_of_another_kind_is_left_out_only_where_a_new_one_is_learnt() -> None:
    learnt = trained(Stage.READOUT, None, 1)[0].learnt()
    older = {name: one for name, one in learnt.items() if not name.startswith("readout.standard")}
    first, then = (Learner(fresh_xcomp(), TOKENIZER, stage, Recipe(), 4) for stage in (Stage.READOUT, Stage.RECALL))
    first.take(older)
    with pytest.raises(ValueError, match=r"missing standard\."):
        then.take(older)


def test_the_readout_measures_what_it_is_given_once() -> None:
    own, _ = trained(Stage.READOUT, None, 0)
    own.begin(EXAMPLES)
    model = fresh_xcomp()
    prefix = model.decoder.embed(prefix_ids(TOKENIZER))
    videos = [model.projector(one.features.float()) for one in EXAMPLES]
    left = torch.cat(left_of(model, prefix, videos))
    torch.testing.assert_close(own.learnt()["readout.standard.bias"], left.mean((0, 1)), rtol=1e-4, atol=1e-4)
    again, _ = trained(Stage.READOUT, own, 0)
    again.begin(EXAMPLES[:1])
    assert torch.equal(again.learnt()["readout.standard.bias"], own.learnt()["readout.standard.bias"])


def test_what_is_released_remembers_live_as_it_was_learnt(tmp_path: Path) -> None:
    base = tmp_path / "base"
    save_with_tokenizer(fresh_xcomp(), base)
    own, _ = trained(Stage.REMEMBER, trained(Stage.READOUT, None, 20)[0], 20)
    save_file({name: one.contiguous() for name, one in own.learnt().items()}, tmp_path / "learnt.safetensors")
    write_release([tmp_path / "learnt.safetensors"], tmp_path / "release.safetensors", {})
    assert any(name.startswith("readout.") for name in load_file(tmp_path / "release.safetensors"))
    write_tuned(base, tmp_path / "release.safetensors", tmp_path / "tuned")
    whole = replace(TINY, checkpoint=str(tmp_path / "tuned"))
    assert load_model(whole).model.readout is None
    live = load_model(replace(whole, frame_tokens=1)).model
    assert live.readout is not None
    prefix = live.decoder.embed(prefix_ids(TOKENIZER))
    frames = live.projector(EXAMPLES[0].features.float())
    empty = live.decoder.empty(live.memory_schedule, prefix, len(frames))
    tokens = live.readout(live.decoder.append([empty], [frames]).frames[0])
    torch.testing.assert_close(tokens, own.tokens(EXAMPLES[0]), rtol=0.05, atol=0.05)
