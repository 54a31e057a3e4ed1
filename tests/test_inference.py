"""The model behind the pipeline's ports: many feeds, open segments and memory, empty windows, bad input."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from standwatch.actors.inference import Inference, rounds
from standwatch.compression.reader import FOR_WORDS
from standwatch.configs.load import load_config
from standwatch.configs.schema import ModelConfig, ReadingConfig
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.segmentgrid import SegmentGrid
from standwatch.pipeline.types import (
    Clip,
    Evidence,
    Reading,
    ReadRequest,
    SourceOffset,
    StandingQuery,
    TokenBatch,
    Verdict,
    Window,
    WindowTokens,
)
from tests.system import TINY_MODEL

CONFIG = load_config("local", None, TINY_MODEL)
FULL = replace(CONFIG.model, segment_frames=16)
ONE = replace(FULL, frame_tokens=1)
SEGMENTS = replace(CONFIG.reading, method="segments")
PASSES = replace(CONFIG.reading, method="passes")
FPS = 1.0
GRID = SegmentGrid(FPS, FULL.segment_frames)
QUERIES = (StandingQuery("person", "Is a person in the picture?"), StandingQuery("rain", "Does it rain?"))
BOTH = pytest.mark.parametrize("config", [FULL, ONE], ids=["16 tokens", "1 token"])
EITHER = pytest.mark.parametrize("reading", [SEGMENTS, PASSES], ids=["segments", "passes"])


def inference(config: ModelConfig = FULL, reading: ReadingConfig = SEGMENTS) -> Inference:
    return Inference(config, reading, FPS)


@pytest.fixture(scope="module")
def model() -> Inference:
    """For what does not depend on a feed's past."""
    return inference()


def clip(feed: str, frames: int, first: int, size: tuple[int, int] = (36, 64)) -> Clip:
    """A frame each second, from second `first` on."""
    numbers = np.arange(first, first + frames, dtype=np.int64)
    pixels = np.random.default_rng([first, len(feed)]).integers(0, 256, (frames, *size, 3), dtype=np.uint8)
    jpegs = tuple(f"{feed} {number}".encode() for number in numbers)
    return Clip(feed, SourceOffset("t", 1, first), 1_000 * numbers, numbers, pixels, jpegs)


def clips_of(feed: str, first: int, end: int) -> list[Clip]:
    return [clip(feed, min(4, end - at), at) for at in range(first, end, 4)]


def window_of(batches: Sequence[TokenBatch], first: int = 0, end: int = 60) -> WindowTokens:
    """What memory holds of the seconds [first, end)."""
    frame_ms = np.concatenate([batch.frame_ms for batch in batches])
    held = (frame_ms >= 1_000 * first) & (frame_ms < 1_000 * end)
    return WindowTokens(
        batches[0].feed_id,
        Window(1_000 * first, 1_000 * end),
        "t",
        1,
        frame_ms[held],
        np.concatenate([batch.frame_offset for batch in batches])[held],
        np.concatenate([batch.tokens for batch in batches])[held],
        batches[0].token_space,
    )


def request_of(
    batches: Sequence[TokenBatch], first: int, end: int, queries: Sequence[StandingQuery] = QUERIES
) -> ReadRequest:
    """The window [first, end) in seconds, with the context that its first segment needs."""
    window = Window(1_000 * first, 1_000 * end)
    return ReadRequest(window_of(batches, GRID.context_from_ms(window) // 1_000, end), window, tuple(queries))


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


def alike(ones: Sequence[Reading], others: Sequence[Reading], within: float = 1e-4) -> bool:
    assert len(ones) == len(others) > 0
    return all(
        one.query_id == other.query_id
        and one.window == other.window
        and one.verdict == other.verdict
        and np.array_equal(one.frame_ms, other.frame_ms)
        and bool(np.allclose(one.relevance, other.relevance, rtol=within, atol=0))
        and bool(np.isclose(one.probability, other.probability, rtol=within, atol=0))
        for one, other in zip(ones, others, strict=True)
    )


def near(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.allclose(one.astype(np.float32), other.astype(np.float32), atol=4e-3))


@BOTH
def test_clips_of_many_feeds_give_what_each_feed_gives_alone(config: ModelConfig) -> None:
    clips = [
        clip("hall", 4, 0),
        clip("belt", 4, 10, (90, 40)),
        clip("hall", 4, 4),
        clip("yard", 1, 20),
        clip("belt", 3, 14, (90, 40)),
    ]
    together = inference(config).compress(clips)
    for feed in ("hall", "belt", "yard"):
        own = [place for place, one in enumerate(clips) if one.feed_id == feed]
        alone = inference(config)
        for place in own:
            one, batch = clips[place], together[place]
            (single,) = alone.compress([one])
            assert (batch.feed_id, batch.at, batch.thumbnails) == (one.feed_id, one.at, one.thumbnails)
            np.testing.assert_array_equal(batch.frame_ms, one.frame_ms)
            np.testing.assert_array_equal(batch.frame_offset, one.frame_offset)
            assert batch.tokens.dtype == np.float16
            assert batch.tokens.shape == (len(one.frame_ms), config.frame_tokens, config.language.width)
            assert near(batch.tokens, single.tokens)
            assert batch.token_space == single.token_space != ""
    assert not near(together[0].tokens, together[2].tokens), "other pictures, other tokens"


def test_a_feeds_clips_go_in_rounds_after_each_other_and_those_of_other_feeds_beside_them() -> None:
    assert rounds(["a", "a", "b", "a", "b", "c"]) == [[0, 2, 5], [1, 4], [3]]
    assert rounds([]) == []


def test_no_clips_give_no_batches(model: Inference) -> None:
    assert model.compress([]) == []


def test_of_clips_that_cannot_all_be_compressed_none_counts() -> None:
    """A feed's first clip has gone through when its second is refused; it can come again."""
    model = inference()
    before = model.compress([clip("hall", 4, 0)])
    with pytest.raises(ValueError, match="slots: "):
        model.compress([clip("hall", 4, 4), clip("yard", 2, 0), clip("hall", 4, 6)])
    after = model.compress([clip("hall", 4, 4), clip("yard", 2, 0)])
    spoilt = replace(window_of([*before, after[0]]), tokens=np.zeros((8, 16, 32), np.float16))
    undisturbed = inference()
    batches = undisturbed.compress(clips_of("hall", 0, 8))
    request = ReadRequest(spoilt, Window(0, 8_000), QUERIES)  # its tokens are read only where open segments fail
    expected = undisturbed.read([request_of(batches, 0, 8)])[0]
    assert alike(model.read([request])[0], expected)


@BOTH
@EITHER
def test_a_window_without_frames_is_unknown_to_every_question_and_others_are_read(
    config: ModelConfig, reading: ReadingConfig
) -> None:
    model = inference(config, reading)
    batches = model.compress(clips_of("hall", 0, 8))
    empty = replace(window_of(batches, 40, 50), token_space="")
    nothing = ReadRequest(empty, Window(40_000, 50_000), QUERIES)
    only_context = request_of(batches, 8, 12)
    assert len(only_context.memory.frame_ms) == 8
    full = request_of(batches, 0, 8)
    readings = model.read([nothing, full, only_context])
    for request, found in ((nothing, readings[0]), (only_context, readings[2])):
        assert [reading.query_id for reading in found] == ["person", "rain"]
        for one in found:
            assert (one.verdict, one.probability, one.feed_id) == (Verdict.UNKNOWN, 0.5, "hall")
            assert one.window == request.window
            assert len(one.frame_ms) == len(one.relevance) == 0
            assert (one.relevance.dtype, one.frame_ms.dtype) == (np.float32, np.int64)
    assert alike(readings[1], model.read([full])[0])
    assert model.read([]) == []


@BOTH
@EITHER
def test_windows_of_many_feeds_and_questions_say_what_each_says_alone(
    config: ModelConfig, reading: ReadingConfig
) -> None:
    model = inference(config, reading)
    hall = model.compress(clips_of("hall", 0, 46))
    yard = model.compress(clips_of("the yard", 7, 30))
    requests = [
        request_of(hall, 36, 46),
        request_of(yard, 10, 30, QUERIES[:1]),
        request_of(hall, 3, 45),
        request_of(hall, 50, 60),
        request_of(yard, 29, 30),
        request_of(hall, 20, 24, ()),
    ]
    together = model.read(requests)
    for request, found in zip(requests, together, strict=True):
        assert [one.query_id for one in found] == [query.query_id for query in request.queries]
        if found:
            assert alike(found, inference(config, reading).read([request])[0])
        for query, one in zip(request.queries, found, strict=True):
            ((alone,),) = model.read([replace(request, queries=(query,))])
            assert alike([one], [alone])
            window = request.window
            expected = [ms for ms in request.memory.frame_ms.tolist() if window.from_ms <= ms < window.to_ms]
            assert one.frame_ms.tolist() == expected
            assert len(one.relevance) == len(expected)
            assert 0 <= one.probability <= 1 and one.feed_id == request.memory.feed_id
    assert together[0][0].probability != together[0][1].probability, "the question counts"


def test_open_segments_answer_as_memory_does() -> None:
    """Of 16 tokens per frame. Their tokens are held by the worker: it is seen by what memory says not mattering."""
    model = inference()
    batches = model.compress(clips_of("hall", 0, 46))
    for first, end in ((40, 46), (36, 42), (45, 46), (32, 46)):
        request = request_of(batches, first, end)
        nonsense = replace(request, memory=replace(request.memory, tokens=request.memory.tokens * 0))
        (opened,) = model.read([nonsense])
        (from_memory,) = inference().read([request])
        assert alike(opened, from_memory), (first, end)
    model.forget()
    (after,) = model.read([nonsense])
    assert not alike(after, from_memory)
    model.forget()
    assert alike(model.read([request])[0], inference().read([request])[0])


def test_of_one_token_per_frame_only_memory_is_read() -> None:
    """Open segments there see the projector's 16: they make the token, and are not what it is read in."""
    model = inference(ONE)
    batches = model.compress(clips_of("hall", 0, 46))
    request = request_of(batches, 40, 46)
    (expected,) = inference(ONE).read([request])
    assert alike(model.read([request])[0], expected)
    other = inference(ONE)
    other.compress(clips_of("hall", 0, 46))
    nonsense = replace(request, memory=replace(request.memory, tokens=request.memory.tokens * 0))
    assert not alike(other.read([nonsense])[0], expected)


@BOTH
def test_after_forgetting_a_replay_makes_the_same_tokens_and_goes_on_alike(config: ModelConfig) -> None:
    model, undisturbed = inference(config), inference(config)
    batches = [model.compress([one])[0] for one in clips_of("hall", 0, 36)]
    undisturbed.compress(clips_of("hall", 0, 36))
    with pytest.raises(ValueError, match="slots: "):
        model.compress(clips_of("hall", 24, 36))
    model.forget()
    # The last frame is read in the segment that begins at 24.
    assert GRID.replay_from_ms(35_000) == 24_000
    replayed = model.compress(clips_of("hall", 24, 36))
    assert near(replayed[-1].tokens, batches[-1].tokens)
    (one,), (other,) = model.compress([clip("hall", 4, 36)]), undisturbed.compress([clip("hall", 4, 36)])
    assert near(one.tokens, other.tokens)
    if config is FULL:
        request = request_of([*batches, one], 33, 40)
        assert alike(model.read([request])[0], undisturbed.read([request])[0])


@BOTH
def test_a_window_that_is_one_whole_segment_is_the_same_to_both_methods(config: ModelConfig) -> None:
    batches = inference(config).compress(clips_of("hall", 0, 46))
    whole, later = request_of(batches, 16, 32), request_of(batches, 20, 32)
    streamed, published = (inference(config, reading) for reading in (SEGMENTS, PASSES))
    assert alike(streamed.read([whole])[0], published.read([whole])[0])
    assert not alike(streamed.read([later])[0], published.read([later])[0]), (
        "here 16 to 19 are context to segments only"
    )


def test_passes_take_nothing_from_before_the_window() -> None:
    batches = inference().compress(clips_of("hall", 0, 46))
    model, window = inference(FULL, PASSES), Window(20_000, 32_000)
    with_context, without = (ReadRequest(window_of(batches, first, 32), window, QUERIES) for first in (4, 20))
    assert alike(model.read([with_context])[0], model.read([without])[0])


@BOTH
@EITHER
def test_frames_after_the_window_are_not_seen(config: ModelConfig, reading: ReadingConfig) -> None:
    """As where memory was fetched up to now and the window ended before."""
    model = inference(config, reading)
    batches = model.compress(clips_of("hall", 0, 46))
    request = request_of(batches, 20, 37)
    expected = model.read([request])[0]
    first = int(request.memory.frame_ms[0]) // 1_000
    assert alike(model.read([replace(request, memory=window_of(batches, first, 46))])[0], expected)
    assert len(expected[0].frame_ms) == 17


@BOTH
@EITHER
def test_a_window_longer_than_allowed_is_read_as_whole_clips_spread_over_it(
    config: ModelConfig, reading: ReadingConfig
) -> None:
    """In one sequence of their own, by both methods: they are no segment's frames."""
    batches = inference(config).compress(clips_of("hall", 0, 48))
    request = request_of(batches, 8, 48)
    model = inference(config, replace(reading, max_frames=12))
    (readings,) = model.read([request])
    kept = [second for start in (8, 20, 32) for second in range(start, start + 4)]
    assert readings[0].frame_ms.tolist() == [1_000 * second for second in kept]
    memory = request.memory
    thinned = np.isin(memory.frame_ms, readings[0].frame_ms)
    by_hand = replace(
        memory,
        frame_ms=memory.frame_ms[thinned],
        frame_offset=memory.frame_offset[thinned],
        tokens=memory.tokens[thinned],
    )
    (expected,) = inference(config, PASSES).read([replace(request, memory=by_hand)])
    assert alike(readings, expected)
    assert len(model.read([request_of(batches, 8, 20)])[0][0].frame_ms) == 12


@BOTH
def test_a_window_the_model_has_no_positions_for_is_read_as_clips_spread_over_it(config: ModelConfig) -> None:
    """Of 48 frames 20 fit beside their words; segments, which have positions of their own, hold more."""
    positions = FOR_WORDS + 20 * config.frame_tokens
    short = replace(config, language=replace(config.language, positions=positions))
    request = request_of(inference(short).compress(clips_of("hall", 0, 48)), 0, 48)
    for reading in (replace(SEGMENTS, max_frames=40), replace(PASSES, max_frames=40), PASSES):
        assert len(inference(short, reading).read([request])[0][0].frame_ms) == 20
    whole = inference(short, SEGMENTS)
    assert len(whole.read([request])[0][0].frame_ms) == 48
    assert len(whole.select(whole.thinned(request.memory), "Is a person in view?", 8)) == 8


def test_words_rest_on_the_evidences_tokens(model: Inference) -> None:
    window = window_of(inference().compress(clips_of("hall", 0, 8)))
    few, more = (model.answer("What is there?", evidence_of(window, slice(0, n))) for n in (2, 5))
    assert more.prompt_tokens - few.prompt_tokens == 3 * FULL.tokens_per_frame
    assert 0 < few.answer_tokens <= SEGMENTS.answer_tokens
    assert few == model.answer("What is there?", evidence_of(window, slice(0, 2)))


def test_the_penalty_on_repetition_is_the_configured_one_or_the_checkpoints_own() -> None:
    """Without a checkpoint its own is the published model's, 1.1."""
    evidence = evidence_of(window_of(inference().compress(clips_of("hall", 0, 8))), slice(0, 4))
    default, none, published, strong = (
        [model.answer(f"What is {thing}?", evidence).text for thing in ("there", "new", "on the belt", "wrong")]
        for model in (inference(FULL, replace(SEGMENTS, repetition_penalty=p)) for p in (0.0, 1.0, 1.1, 50.0))
    )
    assert default == published
    assert published not in (none, strong) and none != strong


@EITHER
def test_selected_frames_are_in_order_and_no_more_than_asked(reading: ReadingConfig) -> None:
    model = inference(FULL, reading)
    window = window_of(model.compress(clips_of("hall", 0, 20)))
    chosen = model.select(window, "Is a person in the picture?", 9).tolist()
    assert chosen == sorted(set(chosen)) and len(chosen) == 9
    assert set(chosen) <= set(range(20))
    assert len(model.select(window, "Is a person in the picture?", 99)) == 20


@pytest.mark.parametrize(
    "writer", [ONE, replace(FULL, seed=FULL.seed + 1)], ids=["one token per frame", "other weights"]
)
def test_tokens_of_another_model_are_refused_by_name(model: Inference, writer: ModelConfig) -> None:
    other = inference(writer)
    batches = other.compress(clips_of("hall", 0, 4))
    window = window_of(batches)
    for ask in (
        lambda: model.read([request_of(batches, 0, 4)]),
        lambda: model.select(window, "What?", 2),
        lambda: model.answer("What?", evidence_of(window, slice(0, 2))),
    ):
        with pytest.raises(BadInput, match=f"token_space: memory holds {window.token_space}"):
            ask()
    assert len(other.read([request_of(batches, 0, 4)])[0]) == 2


def test_one_request_that_cannot_be_read_is_bad_input_and_the_others_can_be_read_alone(model: Inference) -> None:
    """Damaged rows, another model's rows, and questions that no prompt can hold."""
    sound, other = (request_of(inference().compress(clips_of(feed, 0, 8)), 0, 8) for feed in ("hall", "yard"))
    damaged = other.memory.tokens.copy()
    damaged[3, 0, 0] = np.nan
    for bad, problem in (
        (replace(other, memory=replace(other.memory, token_space="another")), "token_space: "),
        (replace(other, memory=replace(other.memory, tokens=damaged)), "tokens: NaN"),
        (replace(other, memory=replace(other.memory, tokens=damaged[:, :3])), "tokens: must be"),
        (replace(sound, queries=(StandingQuery("bad", "<image>"),)), "question: it contains '<image>'"),
        (replace(sound, queries=(StandingQuery("bad", " "),)), "question: it is empty"),
        (replace(sound, queries=(StandingQuery("bad", "why " * 60_000),)), r"question: .* positions"),
    ):
        with pytest.raises(BadInput, match=problem):
            model.read([sound, bad])
        assert len(model.read([sound])[0]) == 2


@pytest.mark.parametrize("method", ["segments", "passes"])
def test_a_verdict_needs_a_probability_beyond_the_threshold(method: str) -> None:
    batches = inference().compress(clips_of("hall", 0, 8))
    request = request_of(batches, 0, 8)

    def read(unknown_below: float) -> Reading:
        return inference(FULL, ReadingConfig(method=method, unknown_below=unknown_below)).read([request])[0][0]

    probability = read(0.5).probability
    clear = max(probability, 1 - probability)
    said = Verdict.YES if probability >= 0.5 else Verdict.NO
    assert 0.5 < clear < 0.99
    assert [read(bound).verdict for bound in (0.5, clear - 1e-3, clear + 1e-3, 0.99)] == [
        said,
        said,
        Verdict.UNKNOWN,
        Verdict.UNKNOWN,
    ]


def test_a_model_says_that_it_is_untrained_and_which_seed_it_has(model: Inference) -> None:
    assert model.weights == "untrained"
    assert model.name == f"xcomp-seed-{CONFIG.model.seed}"
