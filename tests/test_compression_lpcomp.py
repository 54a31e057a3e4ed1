"""LP-Comp in pieces: whatever the pieces and whoever goes through with them, a frame becomes what it always becomes."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from standwatch.compression.decoder import DecoderLayer
from standwatch.compression.lpcomp import Decoder
from standwatch.compression.schedule import runnable_schedule
from standwatch.compression.videocache import VideoCache
from tests.plain_xcomp import PlainXComp
from tests.tiny_models import QUICK, Shape, cut, normal, pieces, shape_of, shapes, tiny_decoder

TOLERANCE = 1e-4
SHAPE = shape_of()


def grown(decoder: Decoder, cache: VideoCache, parts: Sequence[Tensor]) -> tuple[VideoCache, Tensor]:
    """The cache after all parts, one call each, and the final states of every frame."""
    frames = []
    for part in parts:
        appended = decoder.append([cache], [part])
        (cache,) = appended.caches
        frames += appended.frames
    return cache, torch.cat(frames)


def used(cache: VideoCache, layer: int) -> tuple[Tensor, Tensor]:
    end = cache.length(layer)
    return cache.keys[layer][:, :end], cache.values[layer][:, :end]


def assert_same(one: VideoCache, other: VideoCache, tolerance: float = TOLERANCE) -> None:
    assert one.lengths == other.lengths
    for layer in range(len(one.keys)):
        for mine, theirs in zip(used(one, layer), used(other, layer), strict=True):
            torch.testing.assert_close(mine, theirs, atol=tolerance, rtol=0)


@QUICK
@given(shapes(), pieces(), st.integers(1, 6), st.integers(1, 5))
def test_any_grouping_of_clips_is_the_whole_video_at_once(
    shape: Shape, lengths: tuple[int, ...], prefix_rows: int, text_rows: int
) -> None:
    decoder, frames = shape.decoder, sum(lengths)
    prefix, video, text = shape.rows(prefix_rows), shape.video(frames), shape.rows(text_rows, seed=3)
    cache, states = grown(decoder, decoder.empty(shape.schedule, prefix, frames, text_rows), cut(video, lengths))
    once = decoder.append([decoder.empty(shape.schedule, prefix, frames, text_rows)], [video])
    assert_same(cache, once.caches[0])
    torch.testing.assert_close(states, once.frames[0], atol=TOLERANCE, rtol=0)

    book = PlainXComp(decoder, shape.schedule).forward(prefix, video, text)
    for layer, n in enumerate(shape.schedule.tokens_by_layer):
        keys, values = used(cache, layer)
        assert keys.shape[1] == cache.length(layer) == prefix_rows + frames * n
        torch.testing.assert_close(keys.double(), book.keys[layer][:, : keys.shape[1]], atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(values.double(), book.values[layer][:, : keys.shape[1]], atol=TOLERANCE, rtol=0)
    assert once.prefix is not None
    everything = torch.cat((once.prefix, states.flatten(0, 1)))
    torch.testing.assert_close(everything.double(), book.hidden[:-text_rows], atol=TOLERANCE, rtol=0)
    written, _ = decoder.extend(cache, text)
    torch.testing.assert_close(decoder.logits(written).double(), book.logits[-text_rows:], atol=TOLERANCE, rtol=0)


@QUICK
@given(shapes(), st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=5))
def test_a_batch_of_old_and_new_videos_is_each_of_them_alone(shape: Shape, held_and_new: list[tuple[int, int]]) -> None:
    """Caches that hold nothing yet go beside others; the prefix runs once for all that need it."""
    decoder, prefix = shape.decoder, shape.rows(4)
    videos = [shape.video(held + new, seed=10 + i) for i, (held, new) in enumerate(held_and_new)]
    caches, alone = [], []
    for video, (held, _) in zip(videos, held_and_new, strict=True):
        for into in (caches, alone):
            empty = decoder.empty(shape.schedule, prefix, len(video) + 1)
            into.append(decoder.append([empty], [video[:held]]).caches[0] if held else empty)
    together = decoder.append(caches, [video[held:] for video, (held, _) in zip(videos, held_and_new, strict=True)])
    assert (together.prefix is None) == all(held for held, _ in held_and_new)
    for place, (video, (held, new)) in enumerate(zip(videos, held_and_new, strict=True)):
        one = decoder.append([alone[place]], [video[held:]])
        assert together.caches[place].frames == held + new
        assert_same(together.caches[place], one.caches[0])
        torch.testing.assert_close(together.frames[place], one.frames[0], atol=TOLERANCE, rtol=0)
        if together.prefix is not None and one.prefix is not None:
            torch.testing.assert_close(together.prefix, one.prefix, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("keep", ["suffix", "uniform"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_pieces_differ_from_the_whole_no_more_than_rounding_does(
    dtype: torch.dtype, keep: str
) -> None:
    """A state is rounded a few times in each layer, to half a unit in the last place of what it is then.

    In pieces the same sums are taken in another order, and round elsewhere: after l layers such differences have added
    up to at most some l units of the largest value. So much is allowed, and no more.
    """
    shape = shape_of(6, 8, keep=keep)
    decoder = tiny_decoder(shape.config, dtype=dtype)
    prefix, video = shape.rows(5).to(dtype), shape.video(12).to(dtype)
    whole, states = grown(decoder, decoder.empty(shape.schedule, prefix, 12), [video])
    cache, in_pieces = grown(decoder, decoder.empty(shape.schedule, prefix, 12), cut(video, (4, 1, 2, 5)))
    unit = torch.finfo(dtype).eps
    for layer in range(shape.config.layers):
        for mine, theirs in zip(used(cache, layer), used(whole, layer), strict=True):
            assert mine.dtype == dtype
            torch.testing.assert_close(mine, theirs, atol=(layer + 1) * unit * float(theirs.abs().max()), rtol=0)
    bound = shape.config.layers * unit * float(states.abs().max())
    torch.testing.assert_close(in_pieces, states, atol=bound, rtol=0)


def test_older_views_go_on_seeing_what_they_saw() -> None:
    decoder, video = SHAPE.decoder, SHAPE.video(12)
    begun, _ = grown(decoder, decoder.empty(SHAPE.schedule, SHAPE.rows(3), 12), [video[:5]])
    before = [used(begun, layer) for layer in range(6)]
    before = [(keys.clone(), values.clone()) for keys, values in before]
    later, _ = grown(decoder, begun, [video[5:]])
    assert (begun.frames, later.frames, later.first(5).frames) == (5, 12, 5)
    for layer, (keys, values) in enumerate(before):
        for view in (begun, later.first(5)):
            assert torch.equal(used(view, layer)[0], keys)
            assert torch.equal(used(view, layer)[1], values)


def test_a_step_that_breaks_half_way_leaves_the_cache_as_it_was() -> None:
    """As when memory runs out in layer 4: the layers before it have written by then."""
    video = SHAPE.video(9)
    decoder = Decoder(SHAPE.config).requires_grad_(False)
    decoder.load_state_dict(SHAPE.decoder.state_dict())
    cache, _ = grown(decoder, decoder.empty(SHAPE.schedule, SHAPE.rows(3), 9), [video[:4]])
    working = decoder.stack[4]
    decoder.layers[4] = DecoderLayer(replace(SHAPE.config, head_dim=6))
    with pytest.raises(RuntimeError):
        decoder.append([cache], [normal(5, 4, 24, seed=9)])
    decoder.layers[4] = working
    after, _ = grown(decoder, cache, [video[4:]])
    assert_same(after, decoder.prefill(SHAPE.schedule, SHAPE.rows(3), video))


@QUICK
@given(shapes(), st.integers(1, 5), pieces(3))
def test_text_in_pieces_is_the_text_at_once(shape: Shape, frames: int, lengths: tuple[int, ...]) -> None:
    decoder, text = shape.decoder, shape.rows(sum(lengths), seed=3)
    cache = decoder.prefill(shape.schedule, shape.rows(3), shape.video(frames), len(text))
    once, whole = decoder.extend(cache, text)
    parts = []
    for part in torch.split(text, list(lengths)):
        hidden, cache = decoder.extend(cache, part)
        parts.append(hidden)
    assert cache.lengths == whole.lengths
    torch.testing.assert_close(torch.cat(parts), once, atol=TOLERANCE, rtol=0)


def test_rows_that_training_made_and_rows_that_inference_made_share_a_decoder() -> None:
    decoder, text = SHAPE.decoder, SHAPE.rows(2)
    with torch.inference_mode():
        decoder.prefill(SHAPE.schedule, SHAPE.rows(3), SHAPE.video(40))
    video = SHAPE.video(40).requires_grad_()
    hidden = decoder.append([decoder.empty(SHAPE.schedule, text, 40)], [video]).frames[0]
    hidden.sum().backward()
    assert video.grad is not None and bool(video.grad[0].any())


@pytest.mark.parametrize(
    ("video", "problem"),
    [
        (torch.zeros(2, 3, 24), "starts at 4 tokens per frame"),
        (torch.zeros(2, 4, 23), r"\[F, 4, 24\]"),
        (torch.zeros(0, 4, 24), "at least 1"),
        (torch.zeros(8, 24), r"got \[8, 24\]"),
    ],
)
def test_frames_of_another_shape_are_refused(video: Tensor, problem: str) -> None:
    with pytest.raises(ValueError, match=f"video: .*{problem}"):
        SHAPE.decoder.append([SHAPE.decoder.empty(SHAPE.schedule, SHAPE.rows(2), 9)], [video])


def test_what_cannot_be_appended_is_refused_by_name() -> None:
    decoder, schedule = SHAPE.decoder, SHAPE.schedule
    cache = decoder.prefill(schedule, SHAPE.rows(2), SHAPE.video(3), 4)
    with pytest.raises(ValueError, match="frames: 3 and 1 more exceed the capacity of 3"):
        decoder.append([cache], [SHAPE.video(1)])
    _, with_text = decoder.extend(cache, SHAPE.rows(1))
    with pytest.raises(ValueError, match="text"):
        decoder.append([with_text], [SHAPE.video(1)])
    with pytest.raises(ValueError, match="pair up"):
        decoder.append([], [])
    with pytest.raises(ValueError, match="pair up"):
        decoder.append([cache], [])
    with pytest.raises(ValueError, match="prefix"):
        decoder.append([decoder.empty(schedule, SHAPE.rows(2, seed=s), 9) for s in (1, 2)], [SHAPE.video(1)] * 2)
    uniform = runnable_schedule(6, 4, "uniform")
    with pytest.raises(ValueError, match="schedule"):
        decoder.append([decoder.empty(s, SHAPE.rows(2), 9) for s in (schedule, uniform)], [SHAPE.video(1)] * 2)
    with pytest.raises(ValueError, match="schedule: is of 5 layers"):
        decoder.empty(runnable_schedule(5, 4, "suffix"), SHAPE.rows(2), 9)


def test_text_needs_room_and_something_to_stand_behind() -> None:
    decoder = SHAPE.decoder
    _, cache = decoder.extend(decoder.prefill(SHAPE.schedule, SHAPE.rows(2), SHAPE.video(3), 2), SHAPE.rows(1))
    with pytest.raises(ValueError, match="room for 1 more, got 2"):
        decoder.extend(cache, SHAPE.rows(2))
    with pytest.raises(ValueError, match="frames: "):
        decoder.extend(decoder.empty(SHAPE.schedule, SHAPE.rows(2), 3, 2), SHAPE.rows(2))
    part = decoder.prefill(SHAPE.schedule.first(4), SHAPE.rows(2), SHAPE.video(3), 2)
    with pytest.raises(ValueError, match="schedule: ends 2 layers before the decoder does"):
        decoder.extend(part, SHAPE.rows(2))


def test_tokens_outside_the_vocabulary_are_refused() -> None:
    assert SHAPE.decoder.embed([]).shape == (0, 24)
    for ids in ([60], [3, -1]):
        with pytest.raises(ValueError, match=r"token ids must be within 0\.\.59"):
            SHAPE.decoder.embed(ids)


def test_a_cache_without_frames_takes_as_many_as_were_announced() -> None:
    cache = SHAPE.decoder.empty(SHAPE.schedule, SHAPE.rows(2), 5)
    assert not cache.started and set(cache.lengths) == {0}
    full = SHAPE.decoder.append([cache], [SHAPE.video(5)]).caches[0]
    assert full.frames == full.capacity == 5
    assert replace(full, frames=2).lengths == full.first(2).lengths
