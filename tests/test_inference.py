"""The model behind the pipeline's ports: batches of many feeds, empty windows, and tokens of another model."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from standwatch.actors.inference import Inference, rounds
from standwatch.configs.load import load_config
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.types import (
    Clip,
    Evidence,
    SourceOffset,
    StandingQuery,
    TokenBatch,
    Verdict,
    Window,
    WindowTokens,
)
from tests.system import TINY_MODEL

CONFIG = load_config("local", None, TINY_MODEL)
QUERIES = (StandingQuery("person", "Is a person in the picture?"), StandingQuery("rain", "Does it rain?"))


@pytest.fixture(scope="module")
def model() -> Inference:
    return Inference(CONFIG.model, CONFIG.reading)


def clip(feed: str, frames: int, first: int, size: tuple[int, int] = (36, 64)) -> Clip:
    numbers = np.arange(first, first + frames, dtype=np.int64)
    pixels = np.random.default_rng([first, len(feed)]).integers(0, 256, (frames, *size, 3), dtype=np.uint8)
    jpegs = tuple(f"{feed} {number}".encode() for number in numbers)
    return Clip(feed, SourceOffset("t", 1, first), 1_000 * numbers, numbers, pixels, jpegs)


def window_of(batches: Sequence[TokenBatch]) -> WindowTokens:
    return WindowTokens(
        batches[0].feed_id,
        Window(0, 60_000),
        "t",
        1,
        np.concatenate([batch.frame_ms for batch in batches]),
        np.concatenate([batch.frame_offset for batch in batches]),
        np.concatenate([batch.tokens for batch in batches]),
        batches[0].token_space,
    )


def evidence_of(window: WindowTokens, kept: slice) -> Evidence:
    frames = len(window.frame_ms[kept])
    return Evidence(
        window.feed_id,
        window.window,
        window.topic,
        window.partition,
        window.frame_ms[kept],
        window.frame_offset[kept],
        window.tokens[kept],
        np.ones(frames, np.float32),
        (b"",) * frames,
        window.token_space,
    )


def test_clips_of_many_feeds_give_what_each_gives_alone(model: Inference) -> None:
    clips = [
        clip("hall", 4, 0),
        clip("belt", 4, 10, (90, 40)),
        clip("hall", 4, 4),
        clip("yard", 1, 20),
        clip("belt", 3, 14, (90, 40)),
    ]
    together = model.compress(clips)
    alone = [Inference(CONFIG.model, CONFIG.reading).compress([one])[0] for one in clips]
    for one, batch, single in zip(clips, together, alone, strict=True):
        assert (batch.feed_id, batch.at, batch.thumbnails) == (one.feed_id, one.at, one.thumbnails)
        np.testing.assert_array_equal(batch.frame_ms, one.frame_ms)
        np.testing.assert_array_equal(batch.frame_offset, one.frame_offset)
        assert batch.tokens.dtype == np.float16
        assert batch.tokens.shape == (len(one.frame_ms), CONFIG.model.tokens_per_frame, CONFIG.model.language.width)
        np.testing.assert_allclose(batch.tokens.astype(np.float32), single.tokens.astype(np.float32), atol=2e-3)
        assert batch.token_space == single.token_space != ""
    assert not np.allclose(together[0].tokens, together[2].tokens, atol=2e-3), "other pictures, other tokens"


def test_a_feeds_clips_go_in_rounds_after_each_other_and_those_of_other_feeds_beside_them() -> None:
    assert rounds(["a", "a", "b", "a", "b", "c"]) == [[0, 2, 5], [1, 4], [3]]
    assert rounds([]) == []


def test_no_clips_give_no_batches(model: Inference) -> None:
    assert model.compress([]) == []


def test_a_window_without_frames_is_unknown_to_every_question(model: Inference) -> None:
    (one,) = model.compress([clip("hall", 1, 0)])
    empty = replace(
        window_of([one]),
        frame_ms=np.empty(0, np.int64),
        frame_offset=np.empty(0, np.int64),
        tokens=one.tokens[:0],
        token_space="",
    )
    readings = model.read(empty, QUERIES)
    assert [reading.query_id for reading in readings] == ["person", "rain"]
    for reading in readings:
        assert (reading.verdict, reading.probability, reading.feed_id) == (Verdict.UNKNOWN, 0.5, "hall")
        assert len(reading.frame_ms) == len(reading.relevance) == 0


def test_questions_read_together_say_what_each_says_alone(model: Inference) -> None:
    window = window_of(model.compress([clip("hall", 4, 0), clip("hall", 4, 4)]))
    together = model.read(window, QUERIES)
    for query, reading in zip(QUERIES, together, strict=True):
        (alone,) = model.read(window, [query])
        assert reading.query_id == query.query_id
        assert reading.window == window.window
        assert 0 <= reading.probability <= 1
        assert reading.probability == pytest.approx(alone.probability, abs=1e-4)
        np.testing.assert_array_equal(reading.frame_ms, window.frame_ms)
        np.testing.assert_allclose(reading.relevance, alone.relevance, atol=1e-4)
    assert together[0].probability != together[1].probability, "the question counts"


def test_words_rest_on_the_evidences_tokens(model: Inference) -> None:
    window = window_of(model.compress([clip("hall", 4, 0), clip("hall", 4, 4)]))
    few, more = (model.answer("What is there?", evidence_of(window, slice(0, n))) for n in (2, 5))
    assert more.prompt_tokens - few.prompt_tokens >= 3 * CONFIG.model.tokens_per_frame
    assert 0 < few.answer_tokens <= CONFIG.reading.answer_tokens
    assert few == model.answer("What is there?", evidence_of(window, slice(0, 2)))


def test_selected_frames_are_in_order_and_no_more_than_asked(model: Inference) -> None:
    window = window_of(model.compress([clip("hall", 4, 0), clip("hall", 4, 4)]))
    chosen = model.select(window, "Is a person in the picture?", 3).tolist()
    assert chosen == sorted(set(chosen)) and len(chosen) == 3
    assert set(chosen) <= set(range(8))


def test_tokens_of_another_model_are_refused_by_name(model: Inference) -> None:
    other = Inference(replace(CONFIG.model, seed=CONFIG.model.seed + 1), CONFIG.reading)
    window = window_of(other.compress([clip("hall", 4, 0)]))
    for ask in (
        lambda: model.read(window, QUERIES),
        lambda: model.select(window, "What?", 2),
        lambda: model.answer("What?", evidence_of(window, slice(0, 2))),
    ):
        with pytest.raises(BadInput, match=f"token_space: memory holds {window.token_space}"):
            ask()
    assert len(other.read(window, QUERIES)) == 2


def test_a_model_says_that_it_is_untrained_and_which_seed_it_has(model: Inference) -> None:
    assert model.weights == "untrained"
    assert model.name == f"xcomp-seed-{CONFIG.model.seed}"
