"""Questions against the cache say what a whole forward pass over prefix, video and question says."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from standwatch.compression.asking import Heard, Inquiry, ask
from standwatch.compression.lpcomp import Decoder
from standwatch.compression.qcomp import UNCOVERED, QueryRows, ScoreType
from standwatch.compression.videocache import VideoCache
from tests.plain_xcomp import PlainXComp
from tests.tiny_models import QUICK, Shape, normal, shape_of, shapes, tiny_decoder

WHOLE = ScoreType.parse("default")
SHAPE = shape_of()
EVERY_LAYER = range(6)


@dataclass(frozen=True)
class Asked:
    """Words that some questions share, and each one's own: rows, of which the first few do not ask, nor the last."""

    shared: int
    own: tuple[tuple[int, int, int], ...]  # rows that do not ask yet, rows that ask, rows of the answer's header

    def inquiry(self, cache: VideoCache, context: int = 0, seed: int = 40) -> Inquiry:
        width = cache.prefix.shape[1]
        return Inquiry(
            cache,
            normal(self.shared, width, seed=seed),
            tuple(normal(sum(rows), width, seed=seed + 1 + place) for place, rows in enumerate(self.own)),
            tuple(QueryRows(self.shared + idle, self.shared + idle + asking) for idle, asking, _ in self.own),
            context,
        )


@st.composite
def questions(draw: st.DrawFn) -> Asked:
    own = st.tuples(st.integers(0, 2), st.integers(1, 4), st.integers(0, 3))
    return Asked(draw(st.integers(0, 4)), tuple(draw(st.lists(own, min_size=1, max_size=3))))


def by_the_book(
    shape: Shape, video: Tensor, inquiry: Inquiry, score_type: ScoreType, decoder: Decoder | None = None
) -> list[tuple[Tensor, Tensor]]:
    """For each question alone, from one forward over everything: scores [layers, clips], and the next logits."""
    plain, prefix = PlainXComp(decoder or shape.decoder, shape.schedule), inquiry.cache.prefix
    told = []
    for own, rows in zip(inquiry.own, inquiry.rows, strict=True):
        forward = plain.forward(prefix, video, torch.cat((inquiry.shared, own)), inquiry.context)
        place = len(prefix), len(video), range(rows.start, rows.stop)
        scores = [
            plain.window_scores(forward, layer, *place, score_type.window, score_type.stride)
            if score_type.window
            else plain.whole_scores(forward, layer, *place, inquiry.context)
            for layer in range(shape.config.layers)
        ]
        told.append((torch.tensor(scores, dtype=torch.float64), forward.logits[-1]))
    return told


def assert_told(heard: Heard, place: int, scores: Tensor, logits: Tensor) -> None:
    torch.testing.assert_close(heard.scores[:, place].double(), scores, rtol=1e-4, atol=0)
    assert heard.logits is not None
    torch.testing.assert_close(heard.logits[place].double(), logits, atol=1e-4, rtol=1e-4)


def assert_alike(one: Heard, other: Heard) -> None:
    torch.testing.assert_close(one.scores, other.scores, rtol=1e-4, atol=0)
    assert one.logits is not None and other.logits is not None
    torch.testing.assert_close(one.logits, other.logits, atol=1e-4, rtol=1e-4)


@QUICK
@given(shapes(), st.integers(1, 20), st.integers(1, 4), questions(), st.data())
def test_default_scores_and_logits_are_those_of_one_forward_over_everything(
    shape: Shape, frames: int, prefix: int, asked: Asked, data: st.DataObject
) -> None:
    """With `context`, of one in which the question cannot see the first frames, while the later frames did."""
    video = shape.video(frames)
    context = data.draw(st.one_of(st.just(0), st.integers(0, frames - 1)), label="context")
    inquiry = asked.inquiry(shape.decoder.prefill(shape.schedule, shape.rows(prefix), video), context)
    (heard,) = ask(shape.decoder, [inquiry], range(shape.config.layers), WHOLE)
    for place, (scores, logits) in enumerate(by_the_book(shape, video, inquiry, WHOLE)):
        assert_told(heard, place, scores, logits)


@QUICK
@given(
    shapes(), st.sampled_from(("segments_1_1", "segments_2_1", "segments_2_2", "segments_3_1")), questions(), st.data()
)
def test_scores_of_windows_are_those_of_short_sequences_of_their_own(
    shape: Shape, score_type: str, asked: Asked, data: st.DataObject
) -> None:
    kind = ScoreType.parse(score_type)
    frames = data.draw(st.integers(8 * kind.window, 8 * (kind.window + 3)), label="frames")
    video = shape.video(frames)
    inquiry = asked.inquiry(shape.decoder.prefill(shape.schedule, shape.rows(3), video))
    (heard,) = ask(shape.decoder, [inquiry], range(shape.config.layers), kind)
    assert heard.scores.shape == (shape.config.layers, len(asked.own), frames // 8)
    for place, (scores, logits) in enumerate(by_the_book(shape, video, inquiry, kind)):
        assert_told(heard, place, scores, logits)


def test_the_published_windows_of_a_pass_are_those_of_the_book_and_in_the_same_order() -> None:
    shape, asked = shape_of(5, 2, 6, 2), Asked(3, ((0, 6, 3),))
    kind, video = ScoreType.parse("segments_8_4"), shape.video(16 * 8)
    inquiry = asked.inquiry(shape.decoder.prefill(shape.schedule, shape.rows(5), video))
    (heard,) = ask(shape.decoder, [inquiry], range(5), kind)
    ((scores, logits),) = by_the_book(shape, video, inquiry, kind)
    assert_told(heard, 0, scores, logits)
    assert (scores == UNCOVERED).any(0).tolist() == [True] * 4 + [False] * 8 + [True] * 4
    assert heard.scores[:, 0].sum(0).argsort().tolist() == scores.sum(0).argsort().tolist()


def test_the_frames_before_the_question_are_cached_and_not_run_again() -> None:
    """Only the text's rows pass through the layers, and nothing is stored."""
    cache = SHAPE.decoder.prefill(SHAPE.schedule, SHAPE.rows(3), SHAPE.video(9), 2)
    before = [tensor.clone() for tensor in (*cache.keys, *cache.values)]
    inquiry = Asked(2, ((1, 2, 1), (0, 3, 0))).inquiry(cache)
    seen: list[int] = []
    hooks = [
        layer.mlp.register_forward_pre_hook(lambda _, args: seen.append(len(args[0]))) for layer in SHAPE.decoder.stack
    ]
    ask(SHAPE.decoder, [inquiry, replace(inquiry, context=4)], EVERY_LAYER, WHOLE)
    for hook in hooks:
        hook.remove()
    assert seen == [2 * (2 + 4 + 3)] * 6
    for now, then in zip((*cache.keys, *cache.values), before, strict=True):
        assert torch.equal(now.nan_to_num(), then.nan_to_num())


def test_text_that_stands_in_the_cache_is_not_seen() -> None:
    cache = SHAPE.decoder.prefill(SHAPE.schedule, SHAPE.rows(3), SHAPE.video(9), 2)
    asked = Asked(2, ((1, 2, 1),))
    (before,) = ask(SHAPE.decoder, [asked.inquiry(cache)], EVERY_LAYER, WHOLE)
    _, told = SHAPE.decoder.extend(cache, SHAPE.rows(2))
    (after,) = ask(SHAPE.decoder, [asked.inquiry(told)], EVERY_LAYER, WHOLE)
    assert_alike(before, after)


@QUICK
@given(
    shapes(),
    st.lists(st.tuples(st.integers(1, 20), questions()), min_size=1, max_size=4),
    st.data(),
)
def test_many_videos_and_questions_together_are_each_question_alone(
    shape: Shape, videos: list[tuple[int, Asked]], data: st.DataObject
) -> None:
    """Videos of other lengths go beside it, and questions about the same one; none of them makes a difference."""
    decoder, layers = shape.decoder, range(shape.config.layers)
    inquiries = []
    for place, (frames, asked) in enumerate(videos):
        cache = decoder.prefill(shape.schedule, shape.rows(3), shape.video(frames, seed=place))
        context = data.draw(st.integers(0, frames - 1), label="context")
        inquiries.append(asked.inquiry(cache, context, seed=100 * place))
    together = ask(decoder, inquiries, layers, WHOLE)
    for inquiry, heard in zip(inquiries, together, strict=True):
        assert heard.scores.shape[:2] == (len(layers), len(inquiry.own))
        for place, (own, rows) in enumerate(zip(inquiry.own, inquiry.rows, strict=True)):
            (alone,) = ask(decoder, [replace(inquiry, own=(own,), rows=(rows,))], layers, WHOLE)
            assert heard.logits is not None
            one = Heard(heard.scores[:, place : place + 1], heard.logits[place : place + 1])
            assert_alike(one, alone)


@pytest.mark.parametrize("score_type", ["default", "segments_1_1"])
def test_another_questions_words_change_nothing(score_type: str) -> None:
    """Not a bit: a row of another question has weight 0 and not a small one."""
    kind, cache = ScoreType.parse(score_type), SHAPE.decoder.prefill(SHAPE.schedule, SHAPE.rows(3), SHAPE.video(17))
    inquiry = Asked(2, ((1, 2, 1), (0, 3, 2), (2, 1, 0))).inquiry(cache)
    own = inquiry.own
    other_words = replace(inquiry, own=(own[0], 50 * own[1] + 3, own[2]))
    for only_scores in (False, True):
        (before,), (after,) = (
            ask(SHAPE.decoder, [one], EVERY_LAYER, kind, only_scores=only_scores) for one in (inquiry, other_words)
        )
        for place, same in enumerate((True, False, True)):
            assert torch.equal(before.scores[:, place], after.scores[:, place]) is same
            if before.logits is not None and after.logits is not None:
                assert torch.equal(before.logits[place], after.logits[place]) is same


def test_the_header_is_of_the_text_in_default_scores_and_not_in_those_of_windows() -> None:
    """Spec §8: X ends before the assistant's header, while "default" takes the sequence as it is."""
    cache = SHAPE.decoder.prefill(SHAPE.schedule, SHAPE.rows(3), SHAPE.video(16))
    inquiry = Asked(2, ((1, 2, 3),)).inquiry(cache)
    other = replace(inquiry, own=(torch.cat((inquiry.own[0][:3], SHAPE.rows(3, seed=77))),))
    for kind, same in ((WHOLE, False), (ScoreType.parse("segments_1_1"), True)):
        (before,), (after,) = (ask(SHAPE.decoder, [one], EVERY_LAYER, kind) for one in (inquiry, other))
        assert torch.equal(before.scores, after.scores) is same


@pytest.mark.parametrize("score_type", ["default", "segments_2_1"])
def test_a_pass_that_only_scores_gives_the_same_scores_of_just_those_layers(score_type: str) -> None:
    kind = ScoreType.parse(score_type)
    caches = [SHAPE.decoder.prefill(SHAPE.schedule, SHAPE.rows(3), SHAPE.video(frames)) for frames in (17, 24)]
    inquiries = [Asked(2, ((1, 2, 3), (0, 4, 3))).inquiry(cache) for cache in caches]
    everything = ask(SHAPE.decoder, inquiries, EVERY_LAYER, kind)
    ran: list[int] = []
    hooks = [
        layer.mlp.register_forward_pre_hook(lambda *_, index=index: ran.append(index))
        for index, layer in enumerate(SHAPE.decoder.stack)
    ]
    some = ask(SHAPE.decoder, inquiries, range(1, 4), kind, only_scores=True)
    for hook in hooks:
        hook.remove()
    assert ran == [0, 1, 2], "the last layer scored runs up to its queries and keys only"
    for one, whole in zip(some, everything, strict=True):
        assert one.logits is None
        assert torch.equal(one.scores, whole.scores[1:4])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_a_score_moves_by_a_few_roundings_in_each_layer(dtype: torch.dtype) -> None:
    """Against float64 with the same rounded weights. A score is a mean over many weights of its own size, computed in
    float32 from rounded queries and keys: an error of a state, some units in the last place for every layer before it,
    is one of a logit and so a relative one of the score.
    """
    shape, video = SHAPE, SHAPE.video(20).to(dtype)
    decoder = tiny_decoder(shape.config, dtype=dtype)
    inquiry = Asked(3, ((0, 4, 3), (1, 3, 3))).inquiry(decoder.prefill(shape.schedule, shape.rows(3).to(dtype), video))
    inquiry = replace(inquiry, shared=inquiry.shared.to(dtype), own=tuple(own.to(dtype) for own in inquiry.own))
    (heard,) = ask(decoder, [inquiry], EVERY_LAYER, WHOLE)
    assert heard.scores.dtype == torch.float32
    unit = torch.finfo(dtype).eps
    for place, (scores, _) in enumerate(by_the_book(shape, video, inquiry, WHOLE, decoder)):
        for layer in EVERY_LAYER:
            bound = (layer + 1) * unit
            torch.testing.assert_close(heard.scores[layer, place].double(), scores[layer], rtol=bound, atol=0)


def prefilled(shape: Shape, video: Tensor) -> VideoCache:
    return shape.decoder.prefill(shape.schedule, shape.rows(3), video)


def some(cache: VideoCache, rows: Sequence[QueryRows], own: int = 2, context: int = 0) -> Inquiry:
    return Inquiry(cache, SHAPE.rows(2), (SHAPE.rows(3),) * own, tuple(rows), context)


def test_inquiries_that_make_no_sense_are_refused_by_name() -> None:
    cache, asking = prefilled(SHAPE, SHAPE.video(3)), QueryRows(2, 4)
    for own, rows in ((2, [asking]), (0, [])):
        with pytest.raises(ValueError, match="own and rows must pair up"):
            some(cache, rows, own)
    for context in (3, -1):
        with pytest.raises(ValueError, match=f"context: {context} of 3 frames"):
            some(cache, [asking, asking], context=context)
    for outside in (QueryRows(1, 3), QueryRows(4, 6)):
        with pytest.raises(ValueError, match=r"rows: .* own words"):
            some(cache, [asking, outside])
    with pytest.raises(ValueError, match="context: 0 of 0 frames"):
        some(SHAPE.decoder.empty(SHAPE.schedule, SHAPE.rows(2), 3), [asking, asking])
    with pytest.raises(ValueError, match="schedule: ends 2 layers before the decoder does"):
        some(SHAPE.decoder.prefill(SHAPE.schedule.first(4), SHAPE.rows(2), SHAPE.video(3)), [asking, asking])


def test_windows_need_enough_clips_and_every_frame() -> None:
    cache, kind = prefilled(SHAPE, SHAPE.video(23)), ScoreType.parse("segments_2_1")
    ask(SHAPE.decoder, [some(cache, [QueryRows(2, 4)], 1)], EVERY_LAYER, kind)
    with pytest.raises(ValueError, match="need 24 frames, got 2 clips"):
        ask(SHAPE.decoder, [some(cache, [QueryRows(2, 4)], 1)], EVERY_LAYER, ScoreType.parse("segments_3_1"))
    with pytest.raises(ValueError, match="context"):
        ask(SHAPE.decoder, [some(cache, [QueryRows(2, 4)], 1, context=8)], EVERY_LAYER, kind)


def test_a_question_beyond_the_models_positions_is_refused() -> None:
    """Prefix 2, 3 frames of 4 tokens, 5 words: position 18 is the last."""
    for positions in (19, 18):
        shape = shape_of(positions=positions)
        cache = shape.decoder.prefill(shape.schedule, shape.rows(2), shape.video(3))
        inquiry = some(cache, [QueryRows(2, 4), QueryRows(2, 5)])
        if positions == 19:
            ask(shape.decoder, [inquiry], EVERY_LAYER, WHOLE)
        else:
            with pytest.raises(ValueError, match=r"question: 19 positions are needed, .* 18"):
                ask(shape.decoder, [inquiry], EVERY_LAYER, WHOLE)
