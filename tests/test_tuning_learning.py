"""What is learnt on top of a base model, from which examples, and that it can be taken away and put back."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from standwatch.compression.checkpoint import load_model
from standwatch.compression.labels import IGNORED
from standwatch.compression.prompt import build_prompt
from standwatch.compression.tokenizer import byte_level
from standwatch.compression.training import Recipe, answered
from standwatch.compression.tuning.adapters import adapt, additions, merged, restore
from standwatch.compression.tuning.alignment import (
    NAMES,
    POSES,
    alignment_loss,
    departure,
    lexicon_of,
    set_distance,
    targets,
    told,
)
from standwatch.compression.tuning.examples import Example, Object, read_shard, shards, write_shard
from standwatch.compression.tuning.learner import Learner, Stage, whole_schedule
from standwatch.compression.tuning.lessons import lesson
from standwatch.compression.tuning.quiz import Asked
from standwatch.compression.tuning.quiz_claims import Topic
from standwatch.compression.tuning.release import read_learnt, write_release, write_tuned
from standwatch.compression.world.palette import COLOURS
from standwatch.compression.xcomp import XComp, build
from tests.checkpoint_folder import save_with_tokenizer
from tests.tiny_models import TINY, TINY_CELLS, fresh_xcomp, normal

TOKENIZER = byte_level()
ASKED = (
    Asked(Topic.PRESENCE, "Is there a dog?", "Yes.", True, (1,)),
    Asked(Topic.PRESENCE, "Is there a cat?", "No.", False),
    Asked(Topic.LIST, "What is in view?", "A dog.", None),
)
DOG = Object("dog", "", (0.0, 0.0, 0.5, 0.5))
RED_CAR = Object("car", "red", (0.5, 0.25, 1.0, 0.75))


def example(frames: int = 2, seed: int = 0) -> Example:
    features = normal(frames, 4, TINY.vision.width, seed=seed).half()
    return Example(features, tuple(range(0, 500 * frames, 500)), ((DOG,),) * frames, ASKED, "by hand")


def learner(stage: Stage, model: XComp | None = None) -> Learner:
    return Learner(model or fresh_xcomp(), TOKENIZER, stage, Recipe(learning_rate=3e-3, warm_up=0.0), rank=4)


# a step


def test_compiled_layers_learn_the_same() -> None:
    """Without code of its own for this machine, which needs a compiler."""
    told = []
    for compiled in (False, True):
        own = learner(Stage.COMPRESS)
        if compiled:
            own.compile("aot_eager")
        own.gradients([example(2, 1), example(3, 2)], 2, random.Random(0))
        told.append(torch.cat([weight.grad.flatten() for weight in own.learning if weight.grad is not None]))
    torch.testing.assert_close(*told, rtol=1e-4, atol=1e-6)


# adapters


def test_additions_change_nothing_until_they_have_learnt_and_then_the_merged_weights_compute_the_same() -> None:
    model = fresh_xcomp()
    base = {name: weight.clone() for name, weight in model.decoder.state_dict().items()}
    before = run(model)
    adapt(model.decoder, model.decoder.stack, rank=4, seed=0)
    torch.testing.assert_close(run(model), before, rtol=0, atol=0)
    with torch.no_grad():
        for name, weight in model.decoder.named_parameters():
            if name.endswith(".up"):
                weight.normal_(0, 0.1)
    assert (run(model) - before).abs().max() > 0.01
    plain = fresh_xcomp()
    plain.decoder.load_state_dict(merged(base, additions(model.decoder)))
    torch.testing.assert_close(run(plain), run(model), rtol=1e-4, atol=1e-4)


def run(model: XComp) -> torch.Tensor:
    video = normal(3, 4, 24, seed=5)
    prefix = model.decoder.embed([1, 2, 3])
    cache = model.decoder.prefill(whole_schedule(6, 4), prefix, video, room=2)
    return model.decoder.extend(cache, model.decoder.embed([4, 5]))[0]


def test_every_linear_layer_of_the_decoder_has_an_addition_and_nothing_else_learns() -> None:
    model = fresh_xcomp()
    adapt(model.decoder, model.decoder.stack, rank=2, seed=0)
    assert len(additions(model.decoder)) == TINY.language.layers * 7 * 2
    learning = {name for name, weight in model.decoder.named_parameters() if weight.requires_grad}
    assert learning and all(name.endswith((".down", ".up")) for name in learning)


def test_additions_of_another_rank_or_base_are_refused() -> None:
    one, other = fresh_xcomp(), fresh_xcomp()
    adapt(one.decoder, one.decoder.stack, rank=2, seed=0)
    adapt(other.decoder, other.decoder.stack, rank=3, seed=0)
    with pytest.raises(ValueError, match="another rank"):
        restore(one.decoder, additions(other.decoder))
    with pytest.raises(ValueError, match="use the base"):
        merged({}, additions(one.decoder))
    with pytest.raises(ValueError, match="of another kind"):
        merged({}, {"weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="rank"):
        adapt(fresh_xcomp().decoder, (), rank=0, seed=0)


# alignment


def test_a_cell_is_to_be_like_what_covers_it_and_like_where_it_is() -> None:
    """By hand: 4 cells; the dog fills the first, the car half of the second and half of the fourth."""
    names, colours, sides, rows, poses = targets([DOG, RED_CAR], 4)
    assert [NAMES[int(one)] for one in names.argmax(-1)] == ["dog", "car", "nothing", "car"]
    assert names.sum(-1).tolist() == [1, 1, 1, 1]
    assert colours.sum(-1).tolist() == [0, 1, 0, 1]
    assert colours[1, list(COLOURS).index("red")] == 1
    assert sides.tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]
    assert rows.tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
    assert not poses.any()


def test_cells_of_people_are_to_be_like_the_word_for_their_pose_and_of_nothing_else() -> None:
    lying, falling = (Object("person", "red", (0.0, 0.0, 0.5, 0.5), doing) for doing in ("lying", "falling"))
    *_, poses = targets([lying], 4)
    assert poses[0, POSES.index("lying")] == 1 and poses.sum() == 1
    for other in (falling, Object("dog", "", lying.box, "standing"), Object("person", "red", lying.box)):
        assert not targets([other], 4)[-1].any()


def test_two_objects_share_a_cell_by_the_root_of_how_much_of_it_they_cover() -> None:
    quarter, all_of_it = Object("cat", "", (0.0, 0.0, 0.25, 0.25)), Object("dog", "", (0.0, 0.0, 0.5, 0.5))
    names, *_ = targets([quarter, all_of_it], 4)
    assert names[0, NAMES.index("cat")] == pytest.approx(1 / 3)
    assert names[0, NAMES.index("dog")] == pytest.approx(2 / 3)
    too_little = Object("cat", "", (0.0, 0.0, 0.05, 0.5))
    assert targets([too_little], 4)[0][0, NAMES.index("nothing")] == 1


def test_an_odd_number_of_cells_has_a_middle_that_is_neither_left_nor_right() -> None:
    _, _, sides, rows, _ = targets([], 9)
    assert sides.sum(-1).tolist() == [1, 0, 1] * 3
    assert rows.sum(-1).tolist() == [1, 1, 1, 0, 0, 0, 1, 1, 1]


def test_the_loss_is_least_for_tokens_that_point_to_the_right_words() -> None:
    embedding = normal(TINY.language.vocab, 96, seed=1)
    lexicon = lexicon_of(embedding, TOKENIZER.encode)
    wanted = targets([DOG], 4)
    dog, nothing = lexicon.directions[0][NAMES.index("dog")], lexicon.directions[0][0]
    right = torch.stack([dog, nothing, nothing, nothing])[None] * 5 + lexicon.centre
    wrong = torch.stack([nothing, dog, dog, dog])[None] * 5 + lexicon.centre
    assert alignment_loss(right, [wanted], lexicon) < alignment_loss(wrong, [wanted], lexicon)


def test_tokens_depart_only_from_known_ones_that_tell_their_cell_right_and_from_empty_cells_less() -> None:
    lexicon = lexicon_of(normal(TINY.language.vocab, 96, seed=1), TOKENIZER.encode)
    names = lexicon.directions[0]
    dog, nothing = names[NAMES.index("dog")], names[0]
    wanted = targets([DOG], 4)
    known = 5 * torch.stack([dog, nothing, nothing, dog])[None] + lexicon.centre  # the last one tells wrong

    def after(cell: int, factor: float) -> float:
        tokens = known.clone()
        tokens[0, cell] = lexicon.centre + factor * (known[0, cell] - lexicon.centre)
        return float(departure(tokens, known, [wanted], lexicon))

    assert after(0, 1.0) == after(3, 9.0) == 0
    assert after(0, 2.0) == pytest.approx(1 / 1.5, abs=1e-4), "cells weigh 1, 0.25, 0.25 and 0"
    assert after(1, 2.0) == pytest.approx(0.25 / 1.5, abs=1e-4)
    assert after(0, 3.0) == pytest.approx(4 / 1.5, abs=1e-4), "by the square"
    nobody_knows = 5 * torch.stack([nothing, dog, dog, dog])[None] + lexicon.centre
    assert float(departure(known, nobody_knows, [wanted], lexicon)) == 0


def test_cells_are_told_by_the_nearest_word_and_empty_ones_are_not_asked() -> None:
    lexicon = lexicon_of(normal(TINY.language.vocab, 96, seed=1), TOKENIZER.encode)
    names, colours = lexicon.directions[:2]
    dog, car, red = names[NAMES.index("dog")], names[NAMES.index("car")], colours[list(COLOURS).index("red")]
    tokens = torch.stack([dog, car + 2 * red, dog, dog])[None] + lexicon.centre
    found = told(tokens, [targets([DOG, RED_CAR], 4)], lexicon)
    assert found["cell's name"][:1] == [True] and found["cell's name"][-1] is False  # the third cell is empty
    assert len(found["cell's name"]) == 3
    assert found["cell's colour"] == [True, False]
    own = learner(Stage.ALIGN)
    assert set(own.examine([example()])) == {"cell's name", "cell's colour", "cell's pose"}


def test_tokens_get_as_far_from_the_mean_of_all_words_as_words_are_and_keep_their_direction() -> None:
    model = fresh_xcomp()
    embedding = model.decoder.embed_tokens.weight + 1.0  # the mean is far from nothing
    lexicon = lexicon_of(embedding, TOKENIZER.encode)
    features = normal(50, 4, TINY.vision.width)
    before = model.projector(features) - lexicon.centre
    set_distance(model.projector, features, lexicon)
    after = model.projector(features) - lexicon.centre
    assert float(after.norm(dim=-1).mean()) == pytest.approx(lexicon.distance, rel=1e-4)
    assert lexicon.distance == pytest.approx(float((embedding - embedding.mean(0)).norm(dim=-1).mean()), rel=1e-4)
    torch.testing.assert_close(
        torch.nn.functional.normalize(after, dim=-1), torch.nn.functional.normalize(before, dim=-1), atol=1e-5, rtol=0
    )


# lessons


def test_a_lesson_asks_in_the_words_of_reading_and_teaches_the_answer_and_its_end_alone() -> None:
    one = example()
    sample = lesson(TOKENIZER, one, normal(2, 4, 24), one.asked[:1])
    prompt = build_prompt(TOKENIZER, "Is there a dog?", one.duration_s, 2)
    (text,) = sample.texts
    answer = [*TOKENIZER.encode("Yes."), TOKENIZER.im_end_id]
    assert sample.prefix.ids == prompt.prefix_ids
    assert text.ids == (*prompt.text_ids, *answer)
    assert [label for label in text.labels if label != IGNORED] == answer
    assert set(sample.prefix.labels) == {IGNORED}
    with pytest.raises(ValueError, match="asked"):
        lesson(TOKENIZER, one, normal(2, 4, 24), [])


def test_behind_context_a_lesson_speaks_of_the_window_alone() -> None:
    whole, window = replace(example(8), context=5), example(3)
    behind = lesson(TOKENIZER, whole, normal(8, 4, 24), whole.asked)
    assert behind.texts == lesson(TOKENIZER, window, normal(3, 4, 24), window.asked).texts
    assert behind.context == 5


def test_a_window_lasts_as_long_as_its_frames_stand_for() -> None:
    assert example(8).duration_s == 4.0
    assert example(1).duration_s == 1.0


def test_examples_come_back_from_their_files(tmp_path: Path) -> None:
    clauses = (("a dog came into view", (0,)), ("a cat came into view", (1,)))
    order = Asked(Topic.ORDER, "A dog came into view before a cat came into view?", "Yes.", True, (0, 1), clauses)
    written = [
        replace(example(2, seed=1), asked=(*ASKED, order)),
        replace(example(3, seed=2), objects=((DOG, RED_CAR), (), (DOG,)), context=2),
    ]
    write_shard(tmp_path, "one", written)
    assert shards(tmp_path) == ["one"]
    for mine, other in zip(written, read_shard(tmp_path, "one"), strict=True):
        assert torch.equal(mine.features, other.features)
        assert (mine.times_ms, mine.objects, mine.asked, mine.source) == (
            other.times_ms,
            other.objects,
            other.asked,
            other.source,
        )
        assert mine.context == other.context
    without = (tmp_path / "one.json").read_text().replace('"context": 2', '"before": 2')
    (tmp_path / "one.json").write_text(without)
    assert [one.context for one in read_shard(tmp_path, "one")] == [0, 0], "filmed before there was context"
    save_file({"features": torch.zeros(1, 4, 16)}, tmp_path / "one.safetensors")
    with pytest.raises(ValueError, match="remove it"):
        read_shard(tmp_path, "one")


def test_a_shard_without_its_second_file_does_not_count(tmp_path: Path) -> None:
    write_shard(tmp_path, "one", [example()])
    (tmp_path / "one.json").rename(tmp_path / ".one.json")
    assert shards(tmp_path) == []


# learning


@pytest.mark.parametrize("stage", [Stage.ALIGN, Stage.TUNE, Stage.COMPRESS])
def test_each_stage_learns_its_examples_and_changes_nothing_else(stage: Stage) -> None:
    model = fresh_xcomp()
    own = learner(stage, model)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    examples = [example(seed=1), example(seed=2)]
    losses = []
    for step in range(60):
        losses.append(own.gradients(examples, 3, random.Random(step)))
        own.step(step, 100)
    assert losses[-1] < 0.5 * losses[0]
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert any("mm_projector" in name for name in changed)
    of_words = {name for name in changed if "mm_projector" not in name}
    assert bool(of_words) == (stage is not Stage.ALIGN)
    assert all(name.endswith((".down", ".up")) for name in of_words)


def test_a_frozen_projector_stays_and_who_reads_it_learns() -> None:
    model = fresh_xcomp()
    own = Learner(model, TOKENIZER, Stage.COMPRESS, Recipe(learning_rate=1e-2, warm_up=0.0), 4, freeze_projector=True)
    before = {name: one.clone() for name, one in own.learnt().items()}
    losses = []
    for step in range(60):
        losses.append(own.gradients([example(seed=1), example(seed=2)], 3, random.Random(step)))
        own.step(step, 100)
    assert losses[-1] < 0.7 * losses[0]
    for name, one in own.learnt().items():
        assert torch.equal(one, before[name]) == name.startswith("model.mm_projector."), name
    with pytest.raises(ValueError, match="freeze_projector: in align it learns"):
        Learner(fresh_xcomp(), TOKENIZER, Stage.ALIGN, Recipe(), 4, freeze_projector=True)


def test_compression_learns_with_the_published_schedule_and_tuning_with_every_token() -> None:
    assert learner(Stage.COMPRESS).schedule == fresh_xcomp().lpcomp_schedule
    assert set(learner(Stage.TUNE).schedule.tokens_by_layer) == {TINY.tokens_per_frame}


def test_an_answer_that_was_learnt_is_written_and_another_is_not() -> None:
    own = learner(Stage.TUNE)
    one = example()
    for step in range(150):
        own.gradients([one], 3, random.Random(step))
        own.step(step, 200)
    assert own.examine([one]) == {Topic.PRESENCE: [True, True], Topic.LIST: [True]}
    other = replace(one, asked=(Asked(Topic.PRESENCE, "Is there a dog?", "Six.", None),))
    assert own.examine([one, other])[Topic.PRESENCE] == [True, True, False]


def test_of_several_texts_each_is_judged_by_its_own_words() -> None:
    own = learner(Stage.TUNE)
    one = example()
    for step in range(150):
        own.gradients([replace(one, asked=ASKED[:2])], 3, random.Random(step))
        own.step(step, 200)
    wrong = Asked(Topic.PRESENCE, "Is there a cat?", "Yes.", True)
    sample = lesson(TOKENIZER, one, own.tokens(one), [ASKED[0], wrong, ASKED[1]])
    assert answered(own.decoder, own.schedule, sample) == [True, False, True]


def cells_learner(stage: Stage, taps: tuple[int, ...]) -> Learner:
    return learner(stage, build(replace(TINY_CELLS, vision=replace(TINY_CELLS.vision, blocks=2, taps=taps))))


def cells_example(width: int) -> Example:
    features = normal(3, 4, width) * 7 + 50
    return replace(example(3), features=features.half())


def test_a_new_projector_is_told_what_features_are_like_and_one_that_learnt_is_not_told_again() -> None:
    own, one = cells_learner(Stage.ALIGN, (1, 2)), cells_example(2 * 2 * 16)
    own.begin([one])
    seen = own.learnt()
    mean, spread = one.features.float().flatten(0, 1).mean(0), one.features.float().flatten(0, 1).std(0)
    torch.testing.assert_close(seen["model.mm_projector.standard.bias"], mean)
    torch.testing.assert_close(seen["model.mm_projector.standard.weight"], 1 / spread)
    again = cells_learner(Stage.ALIGN, (1, 2))
    again.take(seen)
    again.begin([replace(one, features=one.features * 2)])
    assert torch.equal(again.learnt()["model.mm_projector.standard.bias"], mean)


def test_a_projector_for_other_features_is_aligned_anew_and_what_reading_has_learnt_stays() -> None:
    before = cells_learner(Stage.TUNE, ())
    for step in range(3):
        before.gradients([cells_example(2 * 16)], 3, random.Random(step))
        before.step(step, 10)
    learnt = before.learnt()
    own = cells_learner(Stage.ALIGN, (1, 2))
    own.take(learnt)
    for name, weight in own.learnt().items():
        assert "mm_projector" in name or torch.equal(weight, learnt[name])
    assert own.learnt()["model.mm_projector.mlp.0.weight"].shape[1] == 2 * 2 * 16
    with pytest.raises(ValueError, match=r"mlp\.0\.weight"):
        cells_learner(Stage.TUNE, (1, 2)).take(learnt)


def test_a_run_that_goes_on_from_what_was_saved_is_the_run_that_was_not_stopped() -> None:
    def steps(own: Learner, numbers: range) -> None:
        for step in numbers:
            own.gradients([example(seed=step)], 2, random.Random(step))
            own.step(step, 10)

    whole = learner(Stage.COMPRESS)
    steps(whole, range(6))
    first = learner(Stage.COMPRESS)
    steps(first, range(3))
    second = learner(Stage.COMPRESS)
    second.take({name: weight.clone() for name, weight in first.learnt().items()})
    second.resume(first.progress())
    steps(second, range(3, 6))
    for name, weight in whole.learnt().items():
        torch.testing.assert_close(second.learnt()[name], weight, rtol=1e-5, atol=1e-7)


def test_a_gradient_that_is_no_number_ends_the_run_before_it_spoils_the_weights() -> None:
    own = learner(Stage.COMPRESS)
    own.gradients([example()], 2, random.Random(0))
    before = {name: weight.clone() for name, weight in own.learnt().items()}
    weight = next(one for one in own.learning if one.grad is not None)
    assert weight.grad is not None
    weight.grad.view(-1)[0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"step 7: .* go on from the last checkpoint"):
        own.step(7, 10)
    assert all(torch.equal(weight, before[name]) for name, weight in own.learnt().items())


def test_what_is_released_becomes_an_ordinary_checkpoint_that_computes_what_was_learnt(tmp_path: Path) -> None:
    base = tmp_path / "base"
    save_with_tokenizer(fresh_xcomp(), base)
    config = replace(TINY, checkpoint=str(base))
    model = load_model(config).model
    own = learner(Stage.TUNE, model)
    for step in range(30):
        own.gradients([example()], 3, random.Random(step))
        own.step(step, 40)
    save_file({name: one.contiguous() for name, one in own.learnt().items()}, tmp_path / "learnt.safetensors")
    write_release([tmp_path / "learnt.safetensors"], tmp_path / "release.safetensors", {"made": "by a test"})
    assert all(one.dtype == torch.float16 for one in load_file(tmp_path / "release.safetensors").values())
    again = read_learnt(tmp_path / "release.safetensors")
    assert set(again) == set(read_learnt(tmp_path / "learnt.safetensors")) == set(own.learnt())
    own.take(again)
    write_tuned(base, tmp_path / "release.safetensors", tmp_path / "tuned")
    tuned = load_model(replace(config, checkpoint=str(tmp_path / "tuned"))).model
    torch.testing.assert_close(run(tuned), run(model), rtol=0.02, atol=0.02)
    assert (run(tuned) - run(fresh_xcomp())).abs().max() > 0.1


def test_of_several_runs_the_mean_is_published(tmp_path: Path) -> None:
    for name, value in (("one", 1.0), ("other", 2.0), ("third", 6.0)):
        save_file({"model.a": torch.full((2, 3), value), "model.b": torch.tensor([value])}, tmp_path / name)
    write_release([tmp_path / "one", tmp_path / "other", tmp_path / "third"], tmp_path / "mean", {})
    found = load_file(tmp_path / "mean")
    assert found["model.a"].dtype is torch.float16
    assert torch.equal(found["model.a"], torch.full((2, 3), 3.0).half()) and found["model.b"].tolist() == [3.0]


def test_the_readout_of_a_mean_is_that_of_the_runs_that_have_one(tmp_path: Path) -> None:
    for name, value in (("one", 1.0), ("other", 2.0), ("third", 6.0)):
        readout = {} if name == "one" else {"readout.a": torch.tensor([value])}
        save_file({"model.a": torch.tensor([value])} | readout, tmp_path / name)
    write_release([tmp_path / "one", tmp_path / "other", tmp_path / "third"], tmp_path / "mean", {})
    assert {name: one.tolist() for name, one in load_file(tmp_path / "mean").items()} == {
        "model.a": [3.0],
        "readout.a": [4.0],
    }
    save_file({"model.a": torch.zeros(1), "readout.a": torch.zeros(2)}, tmp_path / "one")
    with pytest.raises(ValueError, match="other: its weights are not those of"):
        write_release([tmp_path / "one", tmp_path / "other"], tmp_path / "mean", {})


def test_the_same_run_twice_counts_twice(tmp_path: Path) -> None:
    save_file({"model.a": torch.tensor([0.0])}, tmp_path / "one")
    save_file({"model.a": torch.tensor([3.0])}, tmp_path / "other")
    write_release([tmp_path / "one", tmp_path / "one", tmp_path / "other"], tmp_path / "mean", {})
    assert load_file(tmp_path / "mean")["model.a"].tolist() == [1.0]


@pytest.mark.parametrize("weights", [{"model.a": torch.zeros(2)}, {"model.b": torch.zeros(3)}])
def test_runs_of_different_models_have_no_mean(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    save_file({"model.a": torch.zeros(3)}, tmp_path / "one")
    save_file(weights, tmp_path / "other")
    with pytest.raises(ValueError, match="other: its weights are not those of"):
        write_release([tmp_path / "one", tmp_path / "other"], tmp_path / "mean", {})
