"""The pure step: batches, short clips, segments, two representations, refusals, and what a token space is."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import gelu

from standwatch.compression.compressor import Compressor, FeedClip, Float16Array
from standwatch.compression.fingerprint import token_space
from standwatch.compression.preprocess import preprocess
from standwatch.compression.schedule import Schedule
from standwatch.compression.segments import OpenSegments, SegmentBuilder
from standwatch.compression.xcomp import XComp, build
from standwatch.configs.schema import LanguageConfig, ModelConfig, VisionConfig
from tests.plain_xcomp import PlainXComp
from tests.tiny_models import QUICK, normal, tiny_xcomp

FULL = ModelConfig(
    vision=VisionConfig(image_px=96, patch_px=16, width=32, heads=2, blocks=2, mlp_width=64, frames_per_clip=4),
    language=LanguageConfig(layers=12, width=24, mlp_width=32, heads=2, kv_heads=1, head_dim=12, vocab=300),
    segment_frames=16,
)
ONE = replace(FULL, frame_tokens=1)
PREFIX = normal(5, 24, seed=8)


def clip(frames: int, height: int = 96, width: int = 96, seed: int = 0, first: int = 0) -> FeedClip:
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    return FeedClip(pixels, np.arange(first, first + frames, dtype=np.int64))


def segments_of(model: XComp) -> SegmentBuilder:
    return SegmentBuilder(model.decoder, model.segment_schedule, PREFIX, model.config.segment_frames)


def compressor_of(config: ModelConfig) -> Compressor:
    model = tiny_xcomp(config)
    return Compressor(model, segments_of(model))


PLAIN = Compressor(tiny_xcomp(FULL), None)
IN_SEGMENTS, ONE_TOKEN = compressor_of(FULL), compressor_of(ONE)
EVERY = pytest.mark.parametrize(
    "compressor", [PLAIN, IN_SEGMENTS, ONE_TOKEN], ids=["without segments", "16 tokens", "1 token"]
)


def tokens_of(compressor: Compressor, clips: Sequence[FeedClip]) -> tuple[OpenSegments, Float16Array]:
    """A feed's state after its clips, and all their tokens."""
    state, found = compressor.start(), []
    for one in clips:
        state, tokens = compressor.step(state, one)
        found.append(tokens)
    return state, np.concatenate(found)


def near(one: Float16Array, other: Float16Array) -> None:
    assert one.dtype == other.dtype == np.float16
    np.testing.assert_allclose(one.astype(np.float32), other.astype(np.float32), atol=4e-3)


def caches(state: OpenSegments) -> list[Tensor]:
    return [tensor for segment in state.segments for tensor in segment.cache.save().values()]


@EVERY
def test_a_batch_of_mixed_lengths_and_sizes_equals_one_clip_at_a_time(compressor: Compressor) -> None:
    """Of feeds with pasts of their own."""
    states = [tokens_of(compressor, [clip(n, seed=50 + n)])[0] for n in (1, 2, 3, 4)] + [compressor.start()]
    clips = [
        clip(4, 90, 120, 1, 4),
        clip(2, 96, 96, 2, 20),
        clip(4, 40, 300, 3, 7),
        clip(1, 96, 96, 4, 5),
        clip(4, 96, 96, 5, -3),
    ]
    batched = compressor.step_batch(states, clips)
    assert len(batched) == len(clips)
    for state, one, (after, tokens) in zip(states, clips, batched, strict=True):
        alone_after, alone = compressor.step(state, one)
        assert tokens.shape == (len(one.frames), 1 if compressor is ONE_TOKEN else 16, 24)
        near(tokens, alone)
        assert [s.slots.tolist() for s in after.segments] == [s.slots.tolist() for s in alone_after.segments]
        for mine, theirs in zip(caches(after), caches(alone_after), strict=True):
            torch.testing.assert_close(mine, theirs, atol=4e-3, rtol=0)
    assert compressor.step_batch([], []) == []


def test_clips_of_a_batch_do_not_see_each_other() -> None:
    model = tiny_xcomp(FULL)
    pixels = torch.stack([preprocess(clip(4, seed=seed).frames, 96) for seed in range(4)])
    together = model.compress(pixels)
    alone = torch.cat([model.compress(one[None]) for one in pixels])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@EVERY
def test_order_of_frames_matters_and_tokens_are_finite(compressor: Compressor) -> None:
    one = clip(4)
    turned = replace(one, frames=one.frames[::-1])
    (_, forward), (_, backward) = tokens_of(compressor, [one]), tokens_of(compressor, [turned])
    assert np.isfinite(forward).all()
    assert not np.array_equal(forward, backward)


def test_sixteen_tokens_are_the_projectors_with_segments_and_without() -> None:
    clips = [clip(4, seed=seed, first=4 * seed) for seed in range(5)]
    state, tokens = tokens_of(IN_SEGMENTS, clips)
    stateless, same = tokens_of(PLAIN, clips)
    assert np.array_equal(tokens, same)
    assert stateless == OpenSegments()
    pixels = torch.stack([preprocess(one.frames, 96) for one in clips])
    near(tokens.reshape(5, 4, 16, 24), tiny_xcomp(FULL).compress(pixels).half().numpy())
    assert [segment.number for segment in state.segments] == [1, 2]


def test_open_segments_hold_what_memory_will_give_back() -> None:
    """Tokens went through float16, so a segment that is read from memory later is the open one."""
    clips = [clip(4, seed=seed, first=4 * seed) for seed in range(5)]
    state, tokens = tokens_of(IN_SEGMENTS, clips)
    builder = segments_of(tiny_xcomp(FULL))
    for segment in state.segments:
        (built,) = builder.build([(segment.number, segment.slots, torch.from_numpy(tokens[segment.slots]).float())])
        for mine, theirs in zip(segment.cache.save().values(), built.cache.save().values(), strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=0)


def test_one_token_is_the_readout_of_what_a_third_of_the_layers_leave_of_a_frame_in_its_segment() -> None:
    """Frame by frame from the book: the older of the frame's two segments, one forward over it, the readout."""
    model, clips = tiny_xcomp(ONE), [clip(4, seed=seed, first=4 * seed) for seed in range(6)]
    _, tokens = tokens_of(ONE_TOKEN, clips)
    assert tokens.shape == (24, 1, 24)
    pixels = torch.stack([preprocess(one.frames, 96) for one in clips])
    video = model.compress(pixels).flatten(0, 1).half().float()
    plain = PlainXComp(model.decoder, Schedule(model.lpcomp_schedule.kept[:5]))  # four layers of twelve
    assert model.readout is not None
    for half in range(3):
        frames = range(max(0, 8 * (half - 1)), 8 * (half + 1))
        forward = plain.forward(PREFIX, video[list(frames)], torch.empty(0, 24))
        left = forward.hidden[len(PREFIX) :].float().unflatten(0, (len(frames), -1))
        hidden = gelu(model.readout.mlp[0](model.readout.standard(left)))
        read = model.readout.mlp[-1](hidden.max(1).values)
        near(tokens[8 * half : 8 * half + 8, 0], read[-8:].half().numpy())


def test_one_token_depends_on_the_frames_before_it_in_its_segment_and_on_no_earlier_one() -> None:
    """Segments of 16 begin every 8: slots 16 to 23 are read in the one that holds 8 to 15."""
    last = clip(4, seed=9, first=16)
    _, alone = tokens_of(ONE_TOKEN, [last])
    _, after = tokens_of(ONE_TOKEN, [clip(4, seed=1, first=8), last])
    _, after_other = tokens_of(ONE_TOKEN, [clip(4, seed=2, first=8), last])
    _, long_after = tokens_of(ONE_TOKEN, [clip(4, seed=1, first=0), last])
    assert not np.allclose(alone, after[-4:], atol=4e-3)
    assert not np.allclose(after[-4:], after_other[-4:], atol=4e-3)
    near(alone, long_after[-4:])
    _, projected = tokens_of(IN_SEGMENTS, [clip(4, seed=1, first=8), last])
    _, projected_alone = tokens_of(IN_SEGMENTS, [last])
    assert np.array_equal(projected[-4:], projected_alone), "16 tokens depend on nothing but their clip"


@pytest.mark.parametrize("compressor", [IN_SEGMENTS, ONE_TOKEN], ids=["16 tokens", "1 token"])
def test_a_replay_from_the_segments_start_leads_to_the_same_state_and_tokens(compressor: Compressor) -> None:
    """From the start of the segment that the last frame is read in; what lay before makes no difference."""
    clips = [clip(4, seed=seed, first=4 * seed) for seed in range(9)]
    state, tokens = tokens_of(compressor, clips)
    replayed, again = tokens_of(compressor, clips[6:])  # slot 35 is read in segment 3, which begins at 24
    near(tokens[32:], again[8:])
    assert [s.slots.tolist() for s in replayed.segments] == [s.slots.tolist() for s in state.segments]
    coming = clip(4, seed=77, first=36)
    near(compressor.step(state, coming)[1], compressor.step(replayed, coming)[1])


@QUICK
@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.sampled_from((IN_SEGMENTS, ONE_TOKEN)))
def test_the_state_is_bounded_whatever_the_clips(lengths: list[int], compressor: Compressor) -> None:
    """By two open segments, as large from the first frame on as ever, and the one that was closed last."""
    state, first = compressor.start(), 0
    opened = compressor.step(compressor.start(), clip(1))[0].nbytes
    for length in lengths:
        state, _ = compressor.step(state, clip(length, first=first))
        first += length
        assert state.nbytes == (opened if state.closed is None else opened * 3 // 2) > 0


@pytest.mark.parametrize(
    ("frames", "problem"),
    [
        (np.full((4, 96, 96, 3), np.nan, dtype=np.float32), "uint8"),
        ([[1, 2]], "uint8"),
        (np.zeros((0, 96, 96, 3), dtype=np.uint8), "non-empty"),
        (np.zeros((4, 96, 96), dtype=np.uint8), "shape"),
        (np.zeros((4, 3, 96, 96), dtype=np.uint8), "shape"),
        (np.zeros((5, 96, 96, 3), dtype=np.uint8), "frames_per_clip=4"),
    ],
)
@EVERY
def test_bad_frames_are_refused_by_name(compressor: Compressor, frames: np.ndarray, problem: str) -> None:
    bad = FeedClip(frames, np.arange(len(frames), dtype=np.int64))
    with pytest.raises(ValueError, match=f"frames: .*{problem}"):
        compressor.step_batch([compressor.start()] * 2, [clip(4), bad])


@pytest.mark.parametrize("compressor", [IN_SEGMENTS, ONE_TOKEN], ids=["16 tokens", "1 token"])
@pytest.mark.parametrize("slots", [[3, 4], [4, 4], [5, 4], [4], [4, 5, 6]])
def test_after_a_clip_that_does_not_follow_the_states_are_as_good_as_before(
    compressor: Compressor, slots: list[int]
) -> None:
    state, _ = tokens_of(compressor, [clip(4)])
    before = [tensor.clone() for tensor in caches(state)]
    bad = replace(clip(2, seed=3), slots=np.array(slots, np.int64))
    with pytest.raises(ValueError, match="slots: "):
        compressor.step_batch([compressor.start(), state], [clip(4), bad])
    assert all(map(torch.equal, caches(state), before))
    after, tokens = compressor.step(state, clip(2, seed=3, first=4))
    expected, same = tokens_of(compressor, [clip(4), clip(2, seed=3, first=4)])
    near(tokens, same[4:])
    assert [s.slots.tolist() for s in after.segments] == [s.slots.tolist() for s in expected.segments]


def test_states_and_clips_must_pair_up() -> None:
    with pytest.raises(ValueError, match="pair up"):
        IN_SEGMENTS.step_batch([IN_SEGMENTS.start()], [])


def test_one_token_per_frame_cannot_be_made_without_segments() -> None:
    with pytest.raises(ValueError, match="frame_tokens: 1 token"):
        Compressor(tiny_xcomp(ONE), None)


def test_preprocessing_leaves_its_input_alone_and_takes_any_size() -> None:
    frames = clip(2).frames
    before = frames.copy()
    preprocess(frames, 96)
    assert np.array_equal(frames, before)
    assert preprocess([clip(1, 30, 50).frames[0], frames[0]], 96).shape == (2, 3, 96, 96)


@pytest.mark.parametrize("config", [FULL, ONE], ids=["16 tokens", "1 token"])
def test_the_seed_decides_the_weights_and_with_them_the_token_space(config: ModelConfig) -> None:
    model, again, other = build(config), build(config), build(replace(config, seed=1))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    space = token_space(config, model.state_dict())
    assert space == token_space(config, again.state_dict())
    assert space != token_space(config, other.state_dict())


def test_another_process_draws_the_same_weights_and_token_space() -> None:
    code = (
        "from standwatch.configs.schema import *\n"
        "from standwatch.compression.xcomp import build\n"
        "from standwatch.compression.fingerprint import token_space\n"
        f"config = {ONE!r}\n"
        "print(token_space(config, build(config).state_dict()))"
    )
    root = Path(__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == token_space(ONE, build(ONE).state_dict())


def test_the_space_of_the_projectors_tokens_follows_what_makes_them_and_not_the_language_model() -> None:
    weights = tiny_xcomp(FULL).state_dict()
    space = token_space(FULL, weights)
    longer_clips = replace(FULL, vision=replace(FULL.vision, frames_per_clip=8))
    assert space != token_space(longer_clips, weights)
    assert space == token_space(replace(FULL, segment_frames=64, keep="uniform"), weights)
    assert space == token_space(FULL, changed(weights, "model.layers"))
    assert space != token_space(FULL, changed(weights, "mm_projector"))
    with pytest.raises(ValueError, match="weights"):
        token_space(FULL, {})


def test_the_space_of_one_token_follows_all_that_it_was_compressed_by() -> None:
    weights = tiny_xcomp(ONE).state_dict()
    space = token_space(ONE, weights)
    shared = {name: tensor for name, tensor in weights.items() if not name.startswith("readout")}
    assert space != token_space(FULL, shared), "mixing the two is refused by this"
    assert space != token_space(replace(ONE, segment_frames=64), weights)
    assert space != token_space(replace(ONE, keep="uniform"), weights)
    for part in ("readout", "model.layers.11.mlp", "model.norm", "embed_tokens", "mm_projector", "vision_tower"):
        assert space != token_space(ONE, changed(weights, part)), part


def changed(weights: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    found = {name: tensor + 1 if part in name else tensor for name, tensor in weights.items()}
    assert any(part in name for name in weights)
    return found


def test_loading_is_strict_and_ignores_the_tied_head() -> None:
    model = tiny_xcomp(FULL)
    weights = {**model.state_dict(), "lm_head.weight": torch.zeros(1)}
    fresh = XComp(FULL)
    fresh.load(weights)
    assert torch.equal(fresh.decoder.norm.weight, model.decoder.norm.weight)
    with pytest.raises(ValueError, match=r"missing model\.norm\.weight"):
        fresh.load({name: tensor for name, tensor in weights.items() if name != "model.norm.weight"})
    with pytest.raises(ValueError, match="unknown extra"):
        fresh.load({**weights, "extra": torch.zeros(1)})
    with pytest.raises(ValueError, match="instead of"):
        fresh.load({**weights, "model.norm.weight": torch.zeros(3)})


def test_too_few_patches_for_the_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="image_px"):
        XComp(replace(FULL, vision=replace(FULL.vision, image_px=48)))


def test_too_few_layers_for_the_tokens_are_refused() -> None:
    """Tokens would have to be dropped before the first layer (spec §7.2)."""
    for layers, refused in ((8, True), (12, False)):
        config = replace(FULL, language=replace(FULL.language, layers=layers))
        if refused:
            with pytest.raises(ValueError, match=r"layers: 8 .* too few for tokens_per_frame=16"):
                XComp(config)
        else:
            XComp(config)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("config", [FULL, ONE], ids=["16 tokens", "1 token"])
def test_half_precision_gives_nearly_the_same_tokens(config: ModelConfig, dtype: str) -> None:
    """Near in direction: merging may join other patches where two pairs are almost equally alike."""
    exact, half = tiny_xcomp(config), XComp(replace(config, dtype=dtype)).to(getattr(torch, dtype))
    half.load_state_dict(exact.state_dict())
    in_half = replace(segments_of(half), prefix=PREFIX.to(getattr(torch, dtype)))
    clips = [clip(4), clip(2, seed=1, first=4)]
    _, tokens = tokens_of(Compressor(half.requires_grad_(False), in_half), clips)
    _, expected = tokens_of(Compressor(exact, segments_of(exact)), clips)
    assert tokens.dtype == np.float16
    assert np.isfinite(tokens).all()
    likeness = torch.cosine_similarity(*(torch.from_numpy(t).float().mean(1) for t in (tokens, expected)), -1)
    assert likeness.min() > 0.95
