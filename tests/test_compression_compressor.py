"""The pure step: batches, short clips, refusals, and what a token space is."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from standwatch.compression.compressor import Compressor, CompressorState
from standwatch.compression.fingerprint import token_space
from standwatch.compression.preprocess import preprocess
from standwatch.compression.xcomp import XComp, build
from standwatch.configs.schema import LanguageConfig, ModelConfig, VisionConfig

TINY = ModelConfig(
    vision=VisionConfig(image_px=96, patch_px=16, width=32, heads=2, blocks=2, mlp_width=64, frames_per_clip=4),
    language=LanguageConfig(layers=12, width=24, mlp_width=32, heads=2, kv_heads=1, head_dim=12, vocab=300),
)


@pytest.fixture(scope="module")
def model() -> XComp:
    return build(TINY)


def clip(frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def test_a_batch_of_mixed_lengths_and_sizes_equals_one_clip_at_a_time(model: XComp) -> None:
    compressor = Compressor(model)
    clips = [clip(4, 90, 120, 1), clip(2, 96, 96, 2), clip(4, 40, 300, 3), clip(1, 96, 96, 4), clip(4, 96, 96, 5)]
    states = [CompressorState(frames_seen=10 * i) for i in range(len(clips))]
    batched = compressor.step_batch(states, clips)
    for state, frames, (after, tokens) in zip(states, clips, batched, strict=True):
        alone_after, alone = compressor.step(state, frames)
        assert after == alone_after == CompressorState(state.frames_seen + len(frames))
        assert tokens.dtype == np.float16
        assert tokens.shape == (len(frames), 16, 24)
        np.testing.assert_allclose(tokens.astype(np.float32), alone.astype(np.float32), atol=2e-3)


def test_clips_of_a_batch_do_not_see_each_other(model: XComp) -> None:
    pixels = torch.stack([preprocess(clip(4, 96, 96, seed), 96) for seed in range(4)])
    together = model.compress(pixels)
    alone = torch.cat([model.compress(one[None]) for one in pixels])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_order_of_frames_matters_and_tokens_are_finite(model: XComp) -> None:
    compressor = Compressor(model)
    frames = clip(4, 96, 96)
    forward, backward = (compressor.step(compressor.start(), f)[1] for f in (frames, frames[::-1]))
    assert np.isfinite(forward).all()
    assert not np.array_equal(forward, backward)


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
def test_bad_frames_are_refused_by_name(model: XComp, frames: np.ndarray, problem: str) -> None:
    compressor = Compressor(model)
    with pytest.raises(ValueError, match=f"frames: .*{problem}"):
        compressor.step(compressor.start(), frames)


def test_states_and_clips_must_pair_up(model: XComp) -> None:
    with pytest.raises(ValueError, match="pair up"):
        Compressor(model).step_batch([CompressorState()], [])


def test_preprocessing_leaves_its_input_alone_and_takes_any_size() -> None:
    frames = clip(2, 96, 96)
    before = frames.copy()
    preprocess(frames, 96)
    assert np.array_equal(frames, before)
    assert preprocess([clip(1, 30, 50)[0], frames[0]], 96).shape == (2, 3, 96, 96)


def test_the_seed_decides_the_weights_and_with_them_the_token_space(model: XComp) -> None:
    again, other = build(TINY), build(replace(TINY, seed=1))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    space = token_space(TINY, model.state_dict())
    assert space == token_space(TINY, again.state_dict())
    assert space != token_space(TINY, other.state_dict())


def test_another_process_draws_the_same_weights_and_token_space(model: XComp) -> None:
    code = (
        "from standwatch.configs.schema import *\n"
        "from standwatch.compression.xcomp import build\n"
        "from standwatch.compression.fingerprint import token_space\n"
        f"config = {TINY!r}\n"
        "print(token_space(config, build(config).state_dict()))"
    )
    root = Path(__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == token_space(TINY, model.state_dict())


def test_token_space_follows_vision_and_clip_length_but_not_the_language_model(model: XComp) -> None:
    weights = model.state_dict()
    space = token_space(TINY, weights)
    longer_clips = replace(TINY, vision=replace(TINY.vision, frames_per_clip=8))
    assert space != token_space(longer_clips, weights)
    language = {name: tensor + 1 if "model.layers" in name else tensor for name, tensor in weights.items()}
    assert space == token_space(TINY, language)
    projector = {name: tensor + 1 if "mm_projector" in name else tensor for name, tensor in weights.items()}
    assert space != token_space(TINY, projector)
    with pytest.raises(ValueError, match="weights"):
        token_space(TINY, {})


def test_loading_is_strict_and_ignores_the_tied_head(model: XComp) -> None:
    weights = {**model.state_dict(), "lm_head.weight": torch.zeros(1)}
    fresh = XComp(TINY)
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
        XComp(replace(TINY, vision=replace(TINY.vision, image_px=48)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_gives_nearly_the_same_tokens(model: XComp, dtype: str) -> None:
    half = Compressor(build(replace(TINY, dtype=dtype)))
    tokens = half.step(half.start(), clip(1, 96, 96))[1]
    assert tokens.dtype == np.float16
    assert np.isfinite(tokens).all()
