"""The vision tower and token merging: their formulas, batches, precisions, ties, and pixels that are refused."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from standwatch.compression.merging import merge, merge_steps
from standwatch.compression.vision import CPU_RESULT_BYTES, VisionTower, check_clips, position_table
from standwatch.compression.xcomp import XComp, build
from standwatch.configs.schema import LanguageConfig, ModelConfig, VisionConfig

SMALL = VisionConfig(image_px=96, patch_px=16, width=32, heads=2, blocks=2, mlp_width=64, frames_per_clip=4)
# Its MLP makes more than one clip's worth of CPU_RESULT_BYTES, so that batches and rows are taken in parts.
WIDE = VisionConfig(image_px=96, patch_px=16, width=32, heads=2, blocks=1, mlp_width=65_536, frames_per_clip=4)
LANGUAGE = LanguageConfig(layers=12, width=24, mlp_width=32, heads=2, kv_heads=1, head_dim=12, vocab=300)


def tower(config: VisionConfig) -> VisionTower:
    torch.manual_seed(0)
    made = VisionTower(config)
    for bias in (weight for name, weight in made.named_parameters() if name.endswith("bias")):
        torch.nn.init.normal_(bias)
    return made


def pixels(clips: int, frames: int = 4) -> Tensor:
    return torch.randn(clips, frames, 3, 96, 96, generator=torch.Generator().manual_seed(1))


def written_out(made: VisionTower, clips: Tensor) -> Tensor:
    """Spec §3 line by line, in float64."""
    made, config = copy.deepcopy(made).double(), made.config
    encoder, clips = made.encoder, clips.double()
    hidden = encoder.patch_embed.proj(clips.transpose(1, 2)).flatten(2).transpose(1, 2)
    hidden = hidden + position_table(clips.shape[1], config.image_px // config.patch_px, config.width)
    for block in encoder.blocks:
        attention, normed = block.attn, block.norm1(hidden)
        weights = attention.qkv.weight.chunk(3)
        biases = (attention.q_bias, None, attention.v_bias)
        q, k, v = (
            F.linear(normed, weight, bias).unflatten(2, (config.heads, -1)).transpose(1, 2)
            for weight, bias in zip(weights, biases, strict=True)
        )
        seen = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(-1) @ v
        hidden = hidden + attention.proj(seen.transpose(1, 2).flatten(2))
        hidden = hidden + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(hidden))))
    return encoder.vision_layernorm(hidden)


@pytest.mark.parametrize("config", [SMALL, WIDE], ids=["small", "wide"])
@pytest.mark.parametrize("frames", [1, 3, 4])
def test_features_are_those_of_the_formulas(config: VisionConfig, frames: int) -> None:
    made, clips = tower(config), pixels(2, frames)
    with torch.no_grad():
        torch.testing.assert_close(made(clips), written_out(made, clips).float(), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_in_bfloat16_features_are_right_to_its_resolution() -> None:
    made = tower(SMALL).bfloat16()
    clips = pixels(2).bfloat16()
    exact = written_out(made, clips)
    error = made(clips).double() - exact
    assert made(clips).dtype == torch.bfloat16
    assert error.abs().max() < 8 * 2**-8 * exact.abs().max()
    assert error.square().mean().sqrt() < 2 * 2**-8 * exact.square().mean().sqrt()


@torch.inference_mode()
def test_a_batch_that_is_taken_in_parts_equals_its_clips_one_by_one() -> None:
    made, clips = tower(WIDE), pixels(3)
    assert 4 * WIDE.patches_per_frame * WIDE.mlp_width * clips.element_size() > CPU_RESULT_BYTES
    torch.testing.assert_close(made(clips), torch.cat([made(clip[None]) for clip in clips]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_reach_pixels_and_weights(dtype: torch.dtype) -> None:
    made, clips = tower(SMALL).to(dtype), pixels(2).to(dtype).requires_grad_()
    made(clips).float().square().sum().backward()
    for name, tensor in [("pixels", clips), *made.named_parameters()]:
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name
        assert tensor.grad.any(), name


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_pixel_that_is_no_number_is_refused_with_its_clip_and_frame(bad: float) -> None:
    clips = pixels(3)
    clips[1, 2, 0, 5, 7] = bad
    with pytest.raises(ValueError, match=r"^clips: clip 1 has NaN or infinite pixels in its frame 2"):
        tower(SMALL)(clips)


def test_pixels_too_large_to_sum_are_numbers_all_the_same() -> None:
    check_clips(torch.full((1, 4, 3, 96, 96), 3e38), SMALL)


@pytest.mark.parametrize(
    ("clips", "problem"),
    [
        (torch.zeros(1, 5, 3, 96, 96), "frames_per_clip=4 frames, got 5"),
        (torch.zeros(1, 0, 3, 96, 96), "frames_per_clip=4 frames, got 0"),
        (torch.zeros(1, 4, 3, 80, 80), r"image_px=96"),
        (torch.zeros(1, 4, 3, 96, 80), r"image_px=96"),
        (torch.zeros(1, 4, 1, 96, 96), r"\[1, 4, 1, 96, 96\]"),
        (torch.zeros(4, 3, 96, 96), r"\[4, 3, 96, 96\]"),
        (torch.zeros(0, 4, 3, 96, 96), "at least one clip"),
        (torch.zeros(1, 4, 3, 96, 96, dtype=torch.uint8), "floating-point"),
    ],
)
def test_pixels_of_another_shape_are_refused(clips: Tensor, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^clips: .*{problem}"):
        tower(SMALL)(clips)


def test_the_whole_model_refuses_what_the_tower_refuses() -> None:
    model: XComp = build(ModelConfig(vision=SMALL, language=LANGUAGE))
    clips = pixels(2)
    clips[1, 0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"^clips: clip 1 has NaN"):
        model.compress(clips)


def test_merging_keeps_the_sum_of_all_patches() -> None:
    features = torch.randn(2, 150, 32, generator=torch.Generator().manual_seed(2))
    for merged in merge_steps(features, 4, 13):
        torch.testing.assert_close(
            (merged.features * merged.sizes[..., None]).sum(1), features.sum(1), atol=1e-4, rtol=1e-4
        )
        assert merged.sizes.sum(1).tolist() == [150, 150]
    assert merged.features.shape == (2, 13, 32)


def test_survivors_are_the_unmerged_by_similarity_and_then_the_odd_positions() -> None:
    angles = torch.tensor([0.3, 0.0, 1.1, 1.0, 2.2, 2.0, 3.05, 3.0])  # even ones are 0.3, 0.1, 0.2 and 0.05 off an odd
    features = torch.stack((angles.cos(), angles.sin()), -1)[None]
    merged = merge(features, 1, 7)
    assert torch.equal(merged[0, :3], features[0, [2, 4, 0]])
    assert torch.equal(merged[0, 3:6], features[0, [1, 3, 5]])
    torch.testing.assert_close(merged[0, 6], features[0, 6:].mean(0))


def test_among_equals_the_first_merge_first_and_into_the_first() -> None:
    # Heads that average to the same direction: all similarities are exactly 1, the features still differ.
    own = torch.arange(6.0)
    features = torch.stack((1 + own, torch.zeros(6), 1 - own, torch.zeros(6)), -1)[None]
    merged = merge(features, 2, 4)  # positions 0 and 2 go into position 1
    expected = [features[0, 4], features[0, :3].mean(0), features[0, 3], features[0, 5]]
    torch.testing.assert_close(merged[0], torch.stack(expected))


def test_clips_merge_without_seeing_each_other() -> None:
    features = torch.randn(3, 64, 32, generator=torch.Generator().manual_seed(3))
    together, alone = merge(features, 4, 16), [merge(one[None], 4, 16) for one in features]
    torch.testing.assert_close(together, torch.cat(alone))


def test_patches_without_a_direction_merge_to_numbers() -> None:
    assert merge(torch.zeros(1, 64, 32), 4, 16).isfinite().all()
