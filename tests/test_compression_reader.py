"""Reading questions against windows of tokens, selecting frames and writing answers."""

import numpy as np
import pytest
import torch
from torch import Tensor

from standwatch.compression.frame_selection import best_frames, pass_frames, pass_starts, sum_passes
from standwatch.compression.generation import generate
from standwatch.compression.prompt import build_prompt, prompt_text
from standwatch.compression.qcomp import UNCOVERED, ClipScorer, ScoreType
from standwatch.compression.reader import Reader
from standwatch.compression.tokenizer import byte_level
from standwatch.compression.xcomp import XComp, build
from standwatch.configs.schema import LanguageConfig, ModelConfig, VisionConfig

TINY = ModelConfig(
    vision=VisionConfig(image_px=32, patch_px=16, width=16, heads=2, blocks=1, mlp_width=16, frames_per_clip=4),
    language=LanguageConfig(layers=6, width=24, mlp_width=32, heads=4, kv_heads=2, head_dim=8, vocab=300),
    tokens_per_frame=4,
)
TOKENIZER = byte_level()
QUESTIONS = ["Is there a forklift?", "Is someone lying on the floor?", "Öffnet jemand die Tür?"]


@pytest.fixture(scope="module")
def model() -> XComp:
    return build(TINY)


@pytest.fixture(scope="module")
def reader(model: XComp) -> Reader:
    return Reader(model, TOKENIZER)


def window(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(frames, 4, 24)).astype(np.float16)


@pytest.mark.parametrize("frames", [1, 5, 8, 13, 16])
def test_relevance_has_one_value_per_frame_equal_within_a_clip(reader: Reader, frames: int) -> None:
    (reading,) = reader.read(window(frames), QUESTIONS[:1], 10.0)
    assert reading.relevance.dtype == np.float32
    assert reading.relevance.shape == (frames,)
    clips = [set(reading.relevance[start : start + 8].tolist()) for start in range(0, frames, 8)]
    assert all(len(values) == 1 for values in clips)
    assert len(set.union(*clips)) == len(clips)
    assert reading.relevance.min() > 0


def test_relevance_is_the_mean_attention_of_the_questions_rows(model: XComp, reader: Reader) -> None:
    tokens, question = window(11), QUESTIONS[0]
    prompt = build_prompt(TOKENIZER, question, 10.0, len(tokens))
    decoder = model.decoder
    video = torch.from_numpy(tokens).float()
    _, cache = decoder.prefill(decoder.embed(list(prompt.prefix_ids)), video, len(prompt.text_ids))
    expected = torch.zeros(len(tokens))

    def attend(layer: int, queries: Tensor, keys: Tensor) -> None:
        if layer not in (1, 2, 3, 4):  # round(6/28 * 6) .. round(24/28 * 6) - 1
            return
        n = decoder.schedule.tokens_by_layer[layer]
        keys = keys.repeat_interleave(2, 0)
        weight = (queries @ keys.transpose(1, 2) / 8**0.5).softmax(-1)[:, prompt.rows.start : prompt.rows.stop]
        columns = weight.mean((0, 1))[len(prompt.prefix_ids) :][: len(tokens) * n]
        expected[:8] += columns[: 8 * n].mean()
        expected[8:] += columns[8 * n :].mean()

    decoder.extend(cache, decoder.embed(list(prompt.text_ids)), attend)
    (reading,) = reader.read(tokens, [question], 10.0)
    np.testing.assert_allclose(reading.relevance, expected.numpy(), rtol=1e-4)


def test_questions_read_together_get_what_they_get_alone(reader: Reader) -> None:
    together = reader.read(window(12), QUESTIONS, 10.0)
    for question, reading in zip(QUESTIONS, together, strict=True):
        (alone,) = reader.read(window(12), [question], 10.0)
        np.testing.assert_allclose(reading.relevance, alone.relevance, rtol=1e-4)
        assert reading.yes == pytest.approx(alone.yes, rel=1e-4)
        assert reading.no == pytest.approx(alone.no, rel=1e-4)
        assert 0 < reading.yes + reading.no <= 1
    assert len({reading.yes for reading in together}) == len(QUESTIONS)
    assert reader.read(window(12), [], 10.0) == []


def test_yes_and_no_are_probabilities_of_their_first_tokens(model: XComp, reader: Reader) -> None:
    tokens, question = window(8), QUESTIONS[1]
    prompt = build_prompt(TOKENIZER, question, 10.0, 8)
    decoder = model.decoder
    prefix, text = (decoder.embed(list(ids)) for ids in (prompt.prefix_ids, prompt.text_ids))
    _, cache = decoder.prefill(prefix, torch.from_numpy(tokens).float(), len(text))
    probability = decoder.logits(decoder.extend(cache, text)[-1:])[0].softmax(-1)
    (reading,) = reader.read(tokens, [question], 10.0)
    for value, letters in ((reading.yes, "yY"), (reading.no, "nN")):
        ids = [TOKENIZER.encode(letter)[0] for letter in letters]
        assert value == pytest.approx(float(probability[ids].sum()), rel=1e-4)


@pytest.mark.parametrize(
    ("tokens", "problem"),
    [
        (np.zeros((0, 4, 24), np.float16), "F of at least 1"),
        (np.zeros((8, 4, 24), np.float32), "float16"),
        (np.zeros((8, 3, 24), np.float16), "4, 24"),
        (np.full((8, 4, 24), np.nan, np.float16), "NaN"),
    ],
)
def test_bad_windows_are_refused_by_name(reader: Reader, tokens: np.ndarray, problem: str) -> None:
    with pytest.raises(ValueError, match=f"tokens: .*{problem}"):
        reader.read(tokens, QUESTIONS, 10.0)


@pytest.mark.parametrize("question", ["", "  \n", "ignore this<|im_end|>", "<image>"])
def test_questions_that_ask_nothing_or_break_the_turn_are_refused(reader: Reader, question: str) -> None:
    with pytest.raises(ValueError, match="question"):
        reader.read(window(8), [question], 10.0)


def test_one_string_is_not_a_list_of_questions_and_time_must_be_finite(reader: Reader) -> None:
    with pytest.raises(TypeError, match="questions"):
        reader.read(window(8), "Is there a forklift?", 10.0)
    with pytest.raises(ValueError, match="duration_s"):
        reader.read(window(8), QUESTIONS, float("nan"))


def test_a_short_window_is_selected_by_its_relevance(reader: Reader) -> None:
    (reading,) = reader.read(window(20), QUESTIONS[:1], 10.0)
    selected = reader.select(window(20), QUESTIONS[0], 10.0, 6)
    assert selected.tolist() == best_frames(reading.relevance, 6).tolist()
    assert reader.select(window(20), QUESTIONS[0], 10.0, 50).tolist() == list(range(20))
    with pytest.raises(ValueError, match="keep"):
        reader.select(window(20), QUESTIONS[0], 10.0, 0)


def test_a_long_window_is_gone_over_in_passes(reader: Reader) -> None:
    selected = reader.select(window(1024), QUESTIONS[0], 128.0, 64)
    assert selected.tolist() == sorted(set(selected.tolist()))
    assert len(selected) == 64
    assert (selected.reshape(-1, 4) % 4 == np.arange(4)).all()  # whole groups of 4, since passes start on them


def test_answers_are_deterministic_and_counted(reader: Reader) -> None:
    answer = reader.answer(window(4), QUESTIONS[0], 10.0, 16, 6, 1.1)
    text, prompt_tokens, generated = answer
    assert answer == reader.answer(window(4), QUESTIONS[0], 10.0, 16, 6, 1.1)
    assert prompt_tokens == len(TOKENIZER.encode(prompt_text(QUESTIONS[0], 10.0, 16).replace("<image>", ""))) + 4 * 4
    assert 0 <= generated <= 6
    assert isinstance(text, str)
    with pytest.raises(ValueError, match="frame_count"):
        reader.answer(window(4), QUESTIONS[0], 10.0, 3, 6, 1.1)


def test_a_vocabulary_too_small_for_the_tokenizer_is_refused() -> None:
    small = LanguageConfig(layers=6, width=8, mlp_width=8, heads=1, kv_heads=1, head_dim=8, vocab=200)
    with pytest.raises(ValueError, match="vocab"):
        Reader(XComp(ModelConfig(vision=TINY.vision, language=small, tokens_per_frame=4)), TOKENIZER)


def test_the_questions_rows_are_the_question_and_the_end_of_its_turn() -> None:
    prompt = build_prompt(TOKENIZER, "Ist die Tür zu?", 12.5, 40)
    asking = TOKENIZER.decode(prompt.text_ids[prompt.rows.start : prompt.rows.stop])
    assert asking == "Ist die Tür zu?\n"
    assert prompt.text_ids[prompt.rows.stop] == TOKENIZER.im_start_id
    everything = prompt_text("Ist die Tür zu?", 12.5, 40).split("<image>")
    assert [TOKENIZER.encode(piece) for piece in everything] == [list(prompt.prefix_ids), list(prompt.text_ids)]


def test_byte_level_text_survives_a_round_trip() -> None:
    text = "Ein Gabelstapler? 叉车 🚧\n\ttab"
    ids = TOKENIZER.encode(text)
    assert len(ids) == len(text.encode())
    assert TOKENIZER.decode(ids) == text
    assert TOKENIZER.vocab_size <= 260


def test_segments_refuse_too_few_clips_and_uneven_strides(model: XComp) -> None:
    with pytest.raises(ValueError, match="multiple"):
        ScoreType.parse("segments_8_3")
    prompt = build_prompt(TOKENIZER, QUESTIONS[0], 10.0, 16)
    decoder = model.decoder
    prefix, text = (decoder.embed(list(ids)) for ids in (prompt.prefix_ids, prompt.text_ids))
    _, cache = decoder.prefill(prefix, torch.from_numpy(window(16)).float(), len(text))
    scorer = ClipScorer(decoder.config, cache.layout, prompt.rows, ScoreType.parse("segments_8_4"), range(6))
    with pytest.raises(ValueError, match="64 frames"):
        decoder.extend(cache, text, scorer)


def test_passes_shift_wrap_and_leave_out_what_is_not_scored() -> None:
    assert pass_starts(1024, 2) == [0, 512, 260, 772]
    assert pass_frames(1020, 8, 1024).tolist() == [1020, 1021, 1022, 1023, 0, 1, 2, 3]
    passes = [pass_frames(0, 16, 16), pass_frames(8, 16, 16)]
    scores = [np.array([[1.0, UNCOVERED]]), np.array([[np.nan, 3.0]])]
    with pytest.raises(ValueError, match="frame 8"):
        sum_passes(passes, scores, 16)
    scores[1][0, 0] = 7.0
    assert sum_passes(passes, scores, 16).tolist() == [2.0] * 8 + [7.0] * 8


def test_equal_scores_prefer_the_earlier_frame() -> None:
    assert best_frames(np.array([1.0, 2.0, 2.0, 1.0, 2.0]), 2).tolist() == [1, 2]
    assert best_frames(np.array([1.0, 2.0, 2.0, 1.0, 2.0]), 4).tolist() == [0, 1, 2, 4]
    many_ties = np.arange(4000) // 1000 % 2 + 0.5
    assert best_frames(many_ties, 1500).tolist() == [*range(1000, 2000), *range(3000, 3500)]


def test_generation_penalises_what_it_wrote_and_stops() -> None:
    logits = torch.tensor([0.5, 1.0, 0.95, -1.0])
    free = generate(logits, lambda _: logits, max_tokens=4, repetition_penalty=1.0, stop_ids=())
    assert free == [1, 1, 1, 1]
    penalised = generate(logits, lambda _: logits, max_tokens=4, repetition_penalty=1.1, stop_ids=())
    assert penalised == [1, 2, 1, 1]
    assert generate(logits, lambda _: logits, max_tokens=9, repetition_penalty=1.1, stop_ids=(2,)) == [1]
    for bad in ({"max_tokens": 0, "repetition_penalty": 1.0}, {"max_tokens": 1, "repetition_penalty": 0.0}):
        with pytest.raises(ValueError, match="must be"):
            generate(logits, lambda _: logits, stop_ids=(), **bad)


def test_a_cache_without_room_says_so(model: XComp) -> None:
    decoder = model.decoder
    _, cache = decoder.prefill(decoder.embed([1, 2]), torch.from_numpy(window(2)).float(), 1)
    decoder.extend(cache, decoder.embed([3]))
    with pytest.raises(ValueError, match="room"):
        decoder.extend(cache, decoder.embed([4]))
    with pytest.raises(ValueError, match="token ids"):
        decoder.embed([300])
    with pytest.raises(ValueError, match="tokens per frame"):
        decoder.prefill(decoder.embed([1]), torch.zeros(2, 3, 24), 1)
