"""One training step: what is learnt, from which row, and that every gradient is the one of the formulas."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from standwatch.compression.attention import Sight, attend_each, attend_learning, attend_padded
from standwatch.compression.decoder import DecoderLayer
from standwatch.compression.labels import IGNORED, Layout, Sample, Words, conversation_words, labelled, prefix_words
from standwatch.compression.lpcomp import Decoder
from standwatch.compression.prompt import IMAGE, build_prompt, prompt_text
from standwatch.compression.tokenizer import byte_level
from standwatch.compression.training import (
    LONG_VIDEO,
    Recipe,
    accumulate,
    forward,
    mean_loss,
    set_trainable,
    video_tokens,
)
from standwatch.compression.xcomp import XComp
from tests.plain_xcomp import PlainXComp
from tests.tiny_models import QUICK, TINY, TINY_ONE, Shape, normal, shape_of, shapes, tiny_xcomp

TOKENIZER = byte_level()
SHAPE = shape_of()
FEW = settings(QUICK, max_examples=10)
VOCAB = SHAPE.config.vocab
LEARNT = Words((3, 5, 8), (IGNORED, 5, 8))


def learning(shape: Shape = SHAPE) -> Decoder:
    return deepcopy(shape.decoder).requires_grad_(True)


def words(count: int, seed: int, learnt: float = 0.6) -> Words:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, VOCAB, (count,), generator=generator).tolist()
    keep = (torch.rand(count, generator=generator) < learnt).tolist()
    return Words(tuple(ids), tuple(token if kept else IGNORED for token, kept in zip(ids, keep, strict=True)))


def joined(one: Words, other: Words) -> Words:
    return Words(one.ids + other.ids, one.labels + other.labels)


def some(
    frames: int, texts: Sequence[int], seed: int, shared: int = 2, shape: Shape = SHAPE, prefix: int = 3
) -> Sample:
    """A sample whose texts have that many words each behind some that they begin with alike, the last learnt."""
    common = words(shared, seed + 50)
    of_each = [joined(words(count, seed + i, 0.5), LEARNT) for i, count in enumerate(texts)]
    video = shape.video(frames, seed=seed).requires_grad_()
    return Sample(words(prefix, seed + 99), video, tuple(joined(common, own) for own in of_each))


@st.composite
def samples(draw: st.DrawFn, shape: Shape) -> Sample:
    """Any texts: alike from the beginning, altogether alike, one the beginning of another; at least one label."""
    seed = draw(st.integers(0, 1000))
    common = words(draw(st.integers(0, 3)), seed + 10)
    of_each = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1)), min_size=1, max_size=3))
    texts = [joined(common, words(count, seed + 20 + variant)) for count, variant in of_each]
    texts = [text if text.ids else LEARNT for text in texts]
    texts[0] = joined(texts[0], LEARNT)
    video = shape.video(draw(st.integers(1, 4)), seed=seed).requires_grad_()
    context = draw(st.integers(0, len(video) - 1))
    return Sample(words(draw(st.integers(0, 4)), seed + 30), video, tuple(texts), context)


def gradients(decoder: nn.Module, videos: Sequence[Tensor] = ()) -> dict[str, Tensor]:
    """Of every weight, and of the videos; zeros where none came."""
    found = {name: weight.grad for name, weight in decoder.named_parameters()}
    found.update({f"video {place}": video.grad for place, video in enumerate(videos)})
    empty = {**dict(decoder.named_parameters()), **{f"video {place}": video for place, video in enumerate(videos)}}
    return {name: torch.zeros_like(empty[name]) if own is None else own.clone() for name, own in found.items()}


def step(
    decoder: Decoder, batch: Sequence[Sample], shape: Shape = SHAPE, **how: Any
) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of one call on its own."""
    decoder.zero_grad()
    videos = [sample.video for sample in batch]
    for video in videos:
        video.grad = None
    loss = mean_loss(decoder, shape.schedule, batch, **how)
    loss.backward()
    return loss.item(), gradients(decoder, videos)


def assert_alike(found: dict[str, Tensor], expected: dict[str, Tensor], relative: float = 1e-4) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        bound = relative * max(1e-3, float(gradient.abs().max()))
        torch.testing.assert_close(found[name].double(), gradient.double(), atol=bound, rtol=0, msg=name)


def by_the_book(shape: Shape, sample: Sample) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients in float64, each text in a sequence of its own, all logits of it, labels shifted by one."""
    plain = PlainXComp(shape.decoder, shape.schedule)
    weights = {name: weight.clone().requires_grad_() for name, weight in plain._weights.items()}
    plain._weights = weights
    video = sample.video.detach().double().requires_grad_()
    lost, counted = torch.zeros((), dtype=torch.float64), 0
    last = shape.schedule.tokens_by_layer[-1]
    for number, text in enumerate(sample.texts):
        prefix, after = (weights["embed_tokens.weight"][list(part.ids)] for part in (sample.prefix, text))
        logits = plain.forward(prefix, video, after, sample.context).logits
        before = sample.prefix.labels if number == 0 else (IGNORED,) * len(sample.prefix.ids)  # learnt once
        labels = torch.tensor([*before, *[IGNORED] * (len(video) * last), *text.labels])
        lost = lost + F.cross_entropy(logits[:-1], labels[1:], ignore_index=IGNORED, reduction="sum")
        counted += int((labels[1:] != IGNORED).sum())
    (lost / counted).backward()
    found = {**weights, "video 0": video}
    return lost.item() / counted, {
        name: torch.zeros_like(own) if own.grad is None else own.grad for name, own in found.items()
    }


@FEW
@given(st.data(), st.booleans())
def test_loss_and_gradients_are_those_of_the_book_for_any_texts_about_one_video(
    data: st.DataObject, checkpointing: bool
) -> None:
    shape = data.draw(shapes())
    sample = data.draw(samples(shape))
    expected, book = by_the_book(shape, sample)
    loss, found = step(learning(shape), [sample], shape, checkpointing=checkpointing)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert_alike(found, book, 2e-4)


@FEW
@given(st.data())
def test_a_batch_is_the_mean_of_its_samples_one_by_one(data: st.DataObject) -> None:
    shape = data.draw(shapes())
    batch = data.draw(st.lists(samples(shape), min_size=1, max_size=4))
    decoder = learning(shape)
    together, found = step(decoder, batch, shape)
    alone = [step(decoder, [sample], shape) for sample in batch]
    assert together == pytest.approx(sum(loss for loss, _ in alone) / len(batch), rel=1e-5)
    expected = {
        name: torch.stack([gradients[name] for _, gradients in alone]).mean(0) for name, _ in decoder.named_parameters()
    }
    for place, (_, own) in enumerate(alone):
        expected[f"video {place}"] = own["video 0"] / len(batch)
    assert_alike(found, expected)


def test_several_questions_are_each_of_them_alone_weighed_by_their_labels() -> None:
    whole = replace(some(4, (3, 5, 2), seed=0), prefix=words(4, 1, learnt=0))
    counts = [sum(label != IGNORED for label in text.labels) for text in whole.texts]
    assert len(set(counts)) > 1, "otherwise weights could not be told from a plain mean"
    decoder = learning()
    together, found = step(decoder, [whole])
    alone = [step(decoder, [replace(whole, texts=(text,))]) for text in whole.texts]
    weights = [count / sum(counts) for count in counts]
    assert together == pytest.approx(sum(weight * loss for weight, (loss, _) in zip(weights, alone, strict=True)))
    assert_alike(
        found, {name: sum(w * own[name] for w, (_, own) in zip(weights, alone, strict=True)) for name in found}
    )


def test_texts_share_the_rows_of_the_video_and_of_the_words_they_begin_with() -> None:
    sample = some(5, (4, 1, 2), seed=3, shared=2)
    assert sample.layout == Layout(3, 5, 2, (7, 4, 5))
    assert [sample.layout.rows(n) for n in (4, 1)] == [3 + 20 + 2 + 16, 3 + 5 + 2 + 16]
    assert replace(sample, texts=sample.texts[:1]).layout == Layout(3, 5, 9)
    assert replace(sample, context=2).layout == Layout(3, 5, 0, (9, 6, 7), 2), "shared words would see all of it"
    for context in (5, -1):
        with pytest.raises(ValueError, match=f"context: {context} of 5 frames"):
            _ = replace(sample, context=context).layout
    alike = Words((7, 8, 9), (IGNORED, 8, 9))
    assert replace(sample, texts=(alike, Words((7, 8, 9), (IGNORED, IGNORED, 9)))).layout.shared == 1
    assert replace(sample, texts=(alike, Words((7, 8), (IGNORED, 8)), alike)).layout == Layout(3, 5, 2, (1, 0, 1))


def test_the_first_word_after_the_video_is_predicted_from_the_videos_last_row() -> None:
    sample = Sample(Words((1, 2), (1, 2)), SHAPE.video(3), (Words((4, 5), (4, 5)), Words((4, 6, 7), (4, IGNORED, 7))))
    # With 1 token per frame rows are: 2 prefix, 3 video, then 4, then 5, then 6 7. The very first word has no row.
    assert sorted(sample.targets(1)) == [(0, 2, 1), (4, 4, 2), (5, 5, 1), (7, 7, 1)]


@pytest.mark.parametrize("together", [1, 2, 5, 9])
def test_accumulating_is_the_whole_batch_whatever_goes_together(together: int) -> None:
    batch = [some(1 + i % 3, (2, 1 + i), seed=10 * i) for i in range(5)]
    decoder = learning()
    expected, gradients_of_all = step(decoder, batch)
    decoder.zero_grad()
    for sample in batch:
        sample.video.grad = None
    loss = accumulate(decoder, SHAPE.schedule, batch, 5, together)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert_alike(gradients(decoder, [sample.video for sample in batch]), gradients_of_all)


def test_a_graph_is_gone_before_the_next_samples_are_made() -> None:
    happened: list[str] = []

    def made() -> Iterator[Sample]:
        for number in range(5):
            happened.append(f"made {number}")
            sample = some(2, (2,), seed=number)
            sample.video.register_hook(lambda _, number=number: happened.append(f"learnt {number}"))
            yield sample

    accumulate(learning(), SHAPE.schedule, made(), 5, 2)
    parts = [happened[:4], happened[4:8], happened[8:]]
    assert [sorted(part) for part in parts] == [
        ["learnt 0", "learnt 1", "made 0", "made 1"],
        ["learnt 2", "learnt 3", "made 2", "made 3"],
        ["learnt 4", "made 4"],
    ]


def test_checkpointing_keeps_less_and_gives_the_same() -> None:
    batch = [some(4, (3, 5), seed=0), some(2, (6,), seed=1)]
    decoder = learning()

    def kept_bytes(checkpointing: bool) -> int:
        kept: dict[int, int] = {}
        own = {weight.data_ptr() for weight in decoder.parameters()}

        def keep(tensor: Tensor) -> Tensor:
            if tensor.data_ptr() not in own:
                kept[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = mean_loss(decoder, SHAPE.schedule, batch, checkpointing=checkpointing)
        assert loss.isfinite()
        return sum(kept.values())

    assert kept_bytes(True) < kept_bytes(False) / 3
    plain, expected = step(decoder, batch)
    again, found = step(decoder, batch, checkpointing=True)
    assert again == plain
    assert_alike(found, expected, 1e-6)


@pytest.mark.parametrize("keep", ["suffix", "uniform"])
def test_a_dropped_token_is_told_nothing_by_its_last_layer_and_a_kept_one_is(keep: str) -> None:
    shape = shape_of(6, 8, keep=keep)
    decoder, sample = learning(shape), some(3, (4,), seed=0, shape=shape)
    outputs: list[Tensor] = []

    def remember(_: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        output.retain_grad()
        outputs.append(output)

    for layer in decoder.stack:
        layer.mlp.register_forward_hook(remember)
    step(decoder, [sample], shape)
    dropped = 0
    for index, (n, output) in enumerate(zip(shape.schedule.tokens_by_layer, outputs, strict=True)):
        assert output.grad is not None
        told = output.grad[3 : 3 + 3 * n].abs().sum(-1).view(3, n) > 0
        stays = range(n) if index == 5 else shape.schedule.survivors(index + 1)
        if index < 5:
            assert torch.equal(told, torch.tensor([place in stays for place in range(n)]).expand(3, n))
            dropped += n - len(stays)
    assert dropped == 7


def test_half_precision_and_the_memorys_float16_come_near_the_same_loss() -> None:
    sample = some(4, (3, 5), seed=0)
    decoder = learning()
    expected, _ = step(decoder, [sample])
    narrow = replace(sample, video=sample.video.detach().half())
    loss, found = step(deepcopy(decoder).bfloat16(), [replace(narrow, video=narrow.video.requires_grad_())])
    assert loss == pytest.approx(expected, rel=0.02)
    assert all(gradient.isfinite().all() for gradient in found.values())


def test_the_halves_of_a_layer_compile_once_for_all_layers_and_lengths_and_learn_and_append_the_same() -> None:
    # Imported here because it takes more than a second.
    from torch._dynamo.testing import CompileCounterWithBackend

    graphs = CompileCounterWithBackend("aot_eager")

    class CompiledLayer(DecoderLayer):
        project = torch.compile(DecoderLayer.project, backend=graphs, dynamic=True, fullgraph=True)
        finish = torch.compile(DecoderLayer.finish, backend=graphs, dynamic=True, fullgraph=True)

    plain, compiled = learning(), learning()
    compiled.layers = nn.ModuleList(CompiledLayer(SHAPE.config) for _ in plain.layers)
    compiled.load_state_dict(plain.state_dict())
    for batch in ([some(4, (3, 5), seed=0), some(2, (6,), seed=1)], [some(3, (2,), seed=2)]):
        expected, gradients_expected = step(plain, batch)
        loss, found = step(compiled, batch)
        assert loss == pytest.approx(expected, rel=1e-5)
        assert_alike(found, gradients_expected)
    assert graphs.frame_count == 2

    counts = []
    for lengths in ([4, 3, 2], [5, 2], [2, 2, 4]):
        appended = []
        for decoder in (plain, compiled):
            with torch.no_grad():
                cache = decoder.empty(SHAPE.schedule, SHAPE.rows(3), 9, 2)
                for part in torch.split(SHAPE.video(sum(lengths)), lengths):
                    (cache,) = decoder.append([cache], [part]).caches
                appended.append(decoder.extend(cache, SHAPE.rows(2))[0])
        torch.testing.assert_close(*appended, atol=1e-5, rtol=1e-5)
        counts.append(graphs.frame_count)
    assert counts[0] == counts[1] == counts[2] <= 6, "what is appended is laid out otherwise, but not for each length"


def test_the_whole_forward_compiles_into_one_graph() -> None:
    shape = shape_of(3, 3)
    decoder, batch = learning(shape), [some(2, (2, 3), seed=0, shape=shape), some(1, (2,), seed=1, shape=shape)]
    layouts = [sample.layout for sample in batch]
    rows = shape.rows(sum(layout.rows(3) for layout in layouts)).requires_grad_()
    told = []
    for run in (forward, torch.compile(forward, backend="aot_eager", fullgraph=True)):
        (gradient,) = torch.autograd.grad(run(decoder, shape.schedule, layouts, rows).square().sum(), rows)
        told.append(gradient)
    torch.testing.assert_close(*told, atol=1e-4, rtol=1e-4)


def test_appending_compiled_as_a_whole_says_the_same() -> None:
    shape = shape_of(3, 3)
    said = []
    for append in (shape.decoder.append, torch.compile(shape.decoder.append, backend="eager")):
        cache, frames = shape.decoder.empty(shape.schedule, shape.rows(2), 3), []
        for part in torch.split(shape.video(3), [2, 1]):
            appended = append([cache], [part])
            (cache,) = appended.caches
            frames += appended.frames
        said.append(torch.cat(frames))
    torch.testing.assert_close(*said, atol=1e-5, rtol=1e-5)


def test_sequences_padded_together_tell_their_rows_what_each_alone_does() -> None:
    """On a GPU training pads; rows of padding must neither be told anything nor turn what others are told into NaN."""
    sizes = ((5, 5, None), (3, 7, None), (2, 6, torch.tensor([[1, 1, 0, 0, 1, 0], [1, 1, 0, 0, 0, 1]]).bool()))
    told = []
    for attend in (attend_each, attend_learning, attend_padded):
        sights = [
            Sight(
                *(normal(heads, count, 8, seed=count).requires_grad_() for heads, count in ((4, r), (2, s), (2, s))), m
            )
            for r, s, m in sizes
        ]
        sum((part * normal(*part.shape)).sum() for part in attend(sights)).backward()
        told.append([part.grad for sight in sights for part in (sight.queries, sight.keys, sight.values)])
    for each, *others in zip(*told, strict=True):
        for other in others:
            torch.testing.assert_close(each, other)


# What is learnt


def pieces(*parts: tuple[str, bool]) -> Words:
    """Text in pieces, each learnt or not; line ends and markers are in any case."""
    ids, labels = [], []
    always = {TOKENIZER.im_start_id, TOKENIZER.im_end_id, *TOKENIZER.encode("\n")}
    for text, learnt in parts:
        own = TOKENIZER.encode(text)
        ids += own
        labels += [token if learnt or token in always else IGNORED for token in own]
    return Words(tuple(ids), tuple(labels))


def test_answers_with_their_header_and_end_are_learnt_and_line_ends_and_markers_everywhere() -> None:
    turns = [("Is the gate open?", "Yes.\nWide open."), ("Since when?", "Since noon.")]
    message = "\nThe video lasts for 10.00 seconds, and 8 frames are uniformly sampled from it. "
    expected = pieces(
        (f"{message}\nIs the gate open?<|im_end|>\n", False),
        ("<|im_start|>assistant\nYes.\nWide open.<|im_end|>", True),
        ("\n<|im_start|>user\nSince when?<|im_end|>\n", False),
        ("<|im_start|>assistant\nSince noon.<|im_end|>", True),
        ("\n", False),
    )
    assert conversation_words(TOKENIZER, turns, 10.0, 8) == expected
    assert expected.labels.count(IGNORED) > 50


def test_the_prefix_learns_its_line_ends_and_markers() -> None:
    learnt = prefix_words(TOKENIZER)
    before, _ = prompt_text("?", 1.0, 1).split(IMAGE)
    assert learnt.ids == tuple(TOKENIZER.encode(before))
    told = [token for token in learnt.labels if token != IGNORED]
    start, end, (newline,) = TOKENIZER.im_start_id, TOKENIZER.im_end_id, TOKENIZER.encode("\n")
    assert told == [start, newline, end, newline, start, newline]


def test_training_asks_in_the_words_of_the_prompt_but_for_the_line_end_before_the_question() -> None:
    ids = conversation_words(TOKENIZER, [("Is it open?", "No.")], 10.0, 8).ids
    prompt = build_prompt(TOKENIZER, "\nIs it open?", 10.0, 8)
    assert ids[: len(prompt.text_ids)] == prompt.text_ids
    assert TOKENIZER.decode(ids[len(prompt.text_ids) :]) == "No.\n"


def test_an_unfinished_answer_is_learnt_to_where_it_stops() -> None:
    ids = TOKENIZER.encode("<|im_start|>assistant\nYe")
    assert labelled(TOKENIZER, ids) == Words(tuple(ids), tuple(ids))


@pytest.mark.parametrize(
    ("turns", "problem"),
    [
        ([], "turns"),
        ([(" ", "Yes.")], "question"),
        ([("Open?", "\n")], "answer"),
        ([("Open?<|im_end|>", "Yes.")], "question"),
        ([("Open?", "Yes."), ("Why?", "<image>")], "answer"),
    ],
)
def test_turns_that_ask_or_say_nothing_or_break_the_format_are_refused(
    turns: list[tuple[str, str]], problem: str
) -> None:
    with pytest.raises(ValueError, match=f"^{problem}:"):
        conversation_words(TOKENIZER, turns, 10.0, 8)


# Who learns


def seen_clips(frames: int) -> Tensor:
    return normal(frames // 4, 4, 3, 32, 32)


def model_that_learns(config: Any = TINY) -> tuple[XComp, list[nn.Parameter]]:
    model = deepcopy(tiny_xcomp(config))
    return model, set_trainable(model)


def sample_of(video: Tensor) -> Sample:
    return Sample(prefix_words(TOKENIZER), video, (conversation_words(TOKENIZER, [("Open?", "Yes.")], 1.0, 8),))


def test_vision_stays_and_language_model_and_projector_learn() -> None:
    model, learns = model_that_learns()
    tokens = video_tokens(model, seen_clips(40))
    with torch.no_grad():
        torch.testing.assert_close(tokens, model.compress(seen_clips(40)).flatten(0, 1))
    mean_loss(model.decoder, model.lpcomp_schedule, [sample_of(tokens)]).backward()
    told = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert told == {name for name, _ in model.named_parameters() if ".vision_tower." not in name}
    assert {id(weight) for weight in learns} == {id(weight) for weight in model.parameters() if weight.grad is not None}
    assert model.decoder.embed_tokens.weight.grad is not None


@pytest.mark.parametrize(("frames", "projector_learns"), [(LONG_VIDEO - 4, True), (LONG_VIDEO, False)])
def test_the_projector_learns_nothing_from_long_videos(frames: int, projector_learns: bool) -> None:
    model, _ = model_that_learns()
    tokens = video_tokens(model, seen_clips(frames))
    assert len(tokens) == frames
    mean_loss(model.decoder, model.lpcomp_schedule, [sample_of(tokens)], checkpointing=True).backward()
    assert [weight.grad is not None for weight in model.projector.parameters()] == [projector_learns] * 4
    assert all(weight.grad is None for weight in model.vision.parameters())
    assert model.decoder.stack[0].mlp.up_proj.weight.grad is not None


def test_video_tokens_are_without_gradient_where_none_is_wanted() -> None:
    model, _ = model_that_learns()
    with torch.no_grad():
        assert not video_tokens(model, seen_clips(8)).requires_grad


def test_a_readout_learns_with_the_compressor_that_it_reads() -> None:
    """Frames through a third of the layers without any text, read out, and read again as one token per frame."""
    model, _ = model_that_learns(TINY_ONE)
    assert model.readout is not None
    tokens, prefix = video_tokens(model, seen_clips(8)), model.decoder.embed([1, 2])
    rows = torch.cat((prefix, tokens.flatten(0, 1)))
    states = forward(model.decoder, model.memory_schedule, [Layout(2, 8, 0)], rows)
    with torch.no_grad():
        empty = model.decoder.empty(model.memory_schedule, prefix, 8)
        appended = model.decoder.append([empty], [tokens]).frames[0].flatten(0, 1)
    torch.testing.assert_close(states[2:], appended, atol=1e-4, rtol=0)
    read = model.readout(states[2:].unflatten(0, (8, -1)))
    mean_loss(model.decoder, model.reading_schedule, [sample_of(read)]).backward()
    learners = (*model.readout.parameters(), *model.projector.parameters())
    assert all(weight.grad is not None and weight.grad.any() for weight in learners)


def test_the_recipe_is_the_published_one() -> None:
    recipe, steps = Recipe(), 2247
    rates = [recipe.rate_at(step, steps) for step in range(steps)]
    assert rates[0] == 0
    assert rates[34] == pytest.approx(0.5e-5)
    assert rates[68] == max(rates) == 1e-5
    assert rates[67] < rates[68] > rates[69]
    assert rates[68 + 1090] == pytest.approx(0.5e-5, rel=1e-3)
    assert 0 < rates[-1] < 1e-11
    assert rates[68:] == sorted(rates[68:], reverse=True)
    assert steps * recipe.samples_per_step == 71_904
    weight = nn.Parameter(torch.zeros(1))
    torch.optim.AdamW([weight], recipe.learning_rate, recipe.betas, recipe.eps, recipe.weight_decay)
    for step_number in (-1, steps):
        with pytest.raises(ValueError, match=r"^step:"):
            recipe.rate_at(step_number, steps)
    assert replace(recipe, warm_up=0.0).rate_at(0, 10) == 1e-5


# What is refused


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"video": SHAPE.video(0)}, "video: must be"),
        ({"video": normal(3, 3, 24)}, "video: must be .* 4, 24"),
        ({"video": normal(3, 4, 23)}, "video: must be"),
        ({"video": normal(12, 24)}, "video: must be"),
        ({"video": torch.full((3, 4, 24), torch.nan)}, "video: .*NaN"),
        ({"video": torch.full((3, 4, 24), torch.inf)}, "video: .*infinite"),
        ({"video": SHAPE.video(30)}, "video: .*positions"),
        ({"prefix": Words((1, VOCAB), (IGNORED, IGNORED))}, "token ids"),
        ({"texts": (Words((1, -1), (1, 1)),)}, "token ids"),
        ({"texts": (Words((1, 2), (VOCAB, 1)),)}, "labels: must be"),
        ({"texts": (Words((1, 2), (-1, 1)),)}, "labels: must be"),
        ({"texts": (Words((1, 2), (IGNORED, IGNORED)),)}, "labels: .*none"),
    ],
)
def test_samples_that_cannot_be_learnt_from_are_refused_by_name(change: dict[str, Any], problem: str) -> None:
    shape = shape_of(positions=100)
    good = Sample(Words((1, 2), (1, IGNORED)), SHAPE.video(3), (LEARNT,))
    decoder = learning(shape)
    assert mean_loss(decoder, shape.schedule, [good]).isfinite()
    with pytest.raises(ValueError, match=f"^{problem}"):
        mean_loss(decoder, shape.schedule, [good, replace(good, **change)])


def test_what_is_no_sample_or_no_batch_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^labels: 1 for 2 ids"):
        Words((1, 2), (1,))
    with pytest.raises(ValueError, match=r"^texts:"):
        Sample(LEARNT, SHAPE.video(1), ())
    with pytest.raises(ValueError, match=r"^texts:"):
        Sample(LEARNT, SHAPE.video(1), (LEARNT, Words((), ())))
    with pytest.raises(ValueError, match=r"^samples:"):
        mean_loss(learning(), SHAPE.schedule, [])
    with pytest.raises(ValueError, match=r"^schedule:"):
        mean_loss(learning(), shape_of(5).schedule, [some(1, (1,), seed=0)])
    with pytest.raises(ValueError, match=r"^together:"):
        accumulate(learning(), SHAPE.schedule, [], 1, 0)
    with pytest.raises(ValueError, match=r"^together:"):
        accumulate(learning(), SHAPE.schedule, [], 0, 1)
    for count in (1, 3):
        with pytest.raises(ValueError, match=f"^count: {count} samples were announced"):
            accumulate(learning(), SHAPE.schedule, [some(1, (1,), seed=0)] * 2, count, 1)
