"""The tower that sees each frame alone, against the same sums written out plainly; and what a model makes of it."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from standwatch.compression.cells import Standard, describe_cells
from standwatch.compression.dinov2 import LEARNT_SIDE, FrameTower, resized_positions
from standwatch.compression.fingerprint import token_space
from standwatch.compression.xcomp import XComp, build
from standwatch.configs.schema import ModelConfig, VisionConfig
from tests.tiny_models import TINY, drawn, normal
from tests.weight_files import VISION

SIDE = VISION.image_px // VISION.patch_px
FRAMES_ALONE: ModelConfig = replace(TINY, vision=VISION)


@pytest.fixture(scope="module")
def tower() -> FrameTower:
    made = FrameTower(VISION)
    drawn(made, 3)
    return made


def pixels(*lead: int, seed: int = 0) -> Tensor:
    return normal(*lead, 3, VISION.image_px, VISION.image_px, seed=seed)


def plain_norm(rows: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    centred = rows - rows.mean(-1, keepdim=True)
    spread = (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return centred / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def plain_linear(rows: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    return rows @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def plain_features(frame: Tensor, weights: Mapping[str, Tensor], config: VisionConfig) -> Tensor:
    """One frame [3, S, S] -> features [patches, W], head by head and patch by patch."""
    patch, side = config.patch_px, config.image_px // config.patch_px
    rows = [weights["class_token"] + weights["class_position"]]
    positions = resized_positions(weights["patch_positions"], side)
    for y in range(side):
        for x in range(side):
            square = frame[:, y * patch : (y + 1) * patch, x * patch : (x + 1) * patch]
            seen = (weights["patch_embed.weight"] * square).sum((1, 2, 3)) + weights["patch_embed.bias"]
            rows.append(seen + positions[y * side + x])
    hidden = torch.stack(rows)
    width, head = config.width, config.width // config.heads
    taken = []
    for block in range(config.blocks):
        at = f"blocks.{block}."
        fused = plain_linear(plain_norm(hidden, weights, f"{at}norm1"), weights, f"{at}attention.qkv")
        heads = []
        for start in range(0, width, head):
            q, k, v = (fused[:, part * width + start :][:, :head] for part in range(3))
            heads.append((q @ k.T / math.sqrt(head)).softmax(-1) @ v)
        added = plain_linear(torch.cat(heads, -1), weights, f"{at}attention.out")
        hidden = hidden + added * weights[f"{at}scale1.weight"]
        inner = plain_linear(plain_norm(hidden, weights, f"{at}norm2"), weights, f"{at}mlp.fc1")
        gelu = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
        hidden = hidden + plain_linear(gelu, weights, f"{at}mlp.fc2") * weights[f"{at}scale2.weight"]
        taken.append(plain_norm(hidden, {"1.weight": torch.ones(width), "1.bias": torch.zeros(width)}, "1"))
    if config.taps:
        return torch.cat([taken[tap - 1] for tap in config.taps], -1)[1:]
    return plain_norm(hidden, weights, "norm")[1:]


def test_taps_are_what_those_blocks_leave_side_by_side_and_later_blocks_do_not_run(tower: FrameTower) -> None:
    for taps in ((1,), (1, 2)):
        tapped = FrameTower(replace(VISION, taps=taps))
        tapped.load_state_dict(tower.state_dict())
        ran: list[int] = []
        for number, block in enumerate(tapped.blocks, 1):
            block.register_forward_hook(lambda *_, number=number, ran=ran: ran.append(number))
        frame = pixels(1, 1)
        found = tapped(frame)
        assert found.shape == (1, SIDE * SIDE, VISION.width * len(taps))
        expected = plain_features(frame[0, 0], tower.state_dict(), tapped.config)
        torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-5)
        assert ran == list(range(1, taps[-1] + 1))


@pytest.mark.parametrize("taps", [(0,), (3,), (2, 1), (1, 1)])
def test_taps_that_the_tower_does_not_have_are_refused(taps: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^taps: .* must be increasing numbers of blocks, within 1\.\.2"):
        replace(VISION, taps=taps)
    with pytest.raises(ValueError, match=r"^taps: only the tower 'dinov2' has them"):
        replace(VISION, tower="umt", taps=(1,))


def test_features_are_the_plain_sums_of_each_frame_alone(tower: FrameTower) -> None:
    clips = pixels(2, 3)
    found = tower(clips)
    assert found.shape == (2, 3 * SIDE * SIDE, VISION.width)
    expected = [torch.cat([plain_features(frame, tower.state_dict(), VISION) for frame in clip]) for clip in clips]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-5)


def plain_bicubic(learnt: Tensor, side: int, y: int, x: int) -> Tensor:
    """The position of one patch: 16 neighbours, weighted by the cubic with a = -0.75, the edge repeated."""

    def weights(at: float) -> list[tuple[int, float]]:
        first = math.floor(at) - 1
        found = []
        for index in range(first, first + 4):
            far = abs(at - index)
            near = 1.25 * far**3 - 2.25 * far**2 + 1
            outer = -0.75 * far**3 + 3.75 * far**2 - 6 * far + 3
            found.append((min(max(index, 0), LEARNT_SIDE - 1), near if far <= 1 else outer))
        return found

    scale = LEARNT_SIDE / side
    grid = learnt.view(LEARNT_SIDE, LEARNT_SIDE, -1)
    total = torch.zeros(learnt.shape[-1])
    for row, row_weight in weights((y + 0.5) * scale - 0.5):
        for column, column_weight in weights((x + 0.5) * scale - 0.5):
            total = total + row_weight * column_weight * grid[row, column]
    return total


@pytest.mark.parametrize("side", [16, 40])
def test_positions_are_resized_between_the_centres_of_patches(side: int) -> None:
    learnt = normal(LEARNT_SIDE**2, 3)
    found = resized_positions(learnt, side)
    assert found.shape == (side * side, 3)
    for y, x in ((0, 0), (0, side - 1), (side // 2, 3), (side - 1, side - 2)):
        torch.testing.assert_close(found[y * side + x], plain_bicubic(learnt, side, y, x), rtol=1e-4, atol=1e-4)


def test_positions_for_the_square_they_were_learnt_on_stay_as_they_are() -> None:
    learnt = normal(LEARNT_SIDE**2, 3)
    assert torch.equal(resized_positions(learnt, LEARNT_SIDE), learnt)


def test_pixels_that_no_clip_has_are_refused(tower: FrameTower) -> None:
    with pytest.raises(ValueError, match=r"^clips: a clip has 1 to frames_per_clip=4 frames, got 5"):
        tower(pixels(1, 5))
    with pytest.raises(ValueError, match=r"^clips: clip 1 has NaN or infinite pixels in its frame 2"):
        clips = pixels(2, 3)
        clips[1, 2, 0, 0, 0] = math.nan
        tower(clips)


def test_cells_are_means_and_deviations_of_squares_row_by_row() -> None:
    pictures = normal(2, 3, 36, 5)
    found = describe_cells(pictures, 4)
    assert found.shape == (2, 3, 4, 10)
    squares = pictures.view(2, 3, 6, 6, 5)
    for cell, (y, x) in enumerate(((0, 0), (0, 3), (3, 0), (3, 3))):
        inside = squares[:, :, y : y + 3, x : x + 3].flatten(2, 3)
        mean = inside.mean(2)
        deviation = (inside - mean[:, :, None]).square().mean(2).sqrt()
        torch.testing.assert_close(found[:, :, cell], torch.cat((mean, deviation), -1))
    assert torch.equal(describe_cells(pictures, 36), torch.cat((pictures, torch.zeros_like(pictures)), -1))


def test_channels_are_standard_once_they_were_measured() -> None:
    cells = normal(50, 4, 3) * torch.tensor([5.0, 0.1, 0.0]) + torch.tensor([30.0, -2.0, 7.0])
    standard = Standard(3)
    torch.testing.assert_close(standard(cells), cells)
    standard.measure(cells)
    found = standard(cells).flatten(0, 1)
    torch.testing.assert_close(found.mean(0), torch.zeros(3), rtol=0, atol=1e-3)
    torch.testing.assert_close(found.std(0), torch.tensor([1.0, 1.0, 0.0]), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("patches", "cells"), [(36, 16), (36, 3), (36, 0), (35, 1), (16, 64)])
def test_cells_that_a_picture_does_not_have_are_refused(patches: int, cells: int) -> None:
    with pytest.raises(ValueError, match=rf"^tokens_per_frame: {cells} equal squares cannot be cut from {patches} "):
        describe_cells(normal(patches, 5), cells)
    with pytest.raises(ValueError, match=r"^tokens_per_frame: 9 equal squares cannot be cut from 16 patches"):
        XComp(replace(FRAMES_ALONE, tokens_per_frame=9, frame_tokens=9))


def test_tokens_of_a_frame_are_its_projected_cells_whatever_is_beside_it() -> None:
    model = build(FRAMES_ALONE)
    drawn(model, 4)
    clips = pixels(2, 3, seed=1)
    found = model.compress(clips)
    assert found.shape == (2, 3, 4, FRAMES_ALONE.language.width)
    for clip in range(2):
        for frame in range(3):
            features = plain_features(clips[clip, frame], model.vision.state_dict(), VISION).view(2, 2, 2, 2, -1)
            cells = torch.cat((features.mean((1, 3)), features.std((1, 3), correction=0)), -1)
            expected = model.projector(cells.flatten(0, 1))
            torch.testing.assert_close(found[clip, frame], expected, rtol=1e-4, atol=1e-5)
    alone = model.compress(clips[1:, 2:])
    torch.testing.assert_close(alone[0, 0], found[1, 2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_of_half_precision_makes_the_same_tokens_within_it(dtype: str) -> None:
    model, half = build(FRAMES_ALONE), build(replace(FRAMES_ALONE, dtype=dtype))
    with torch.inference_mode():
        expected, found = model.compress(pixels(1, 2)), half.compress(pixels(1, 2).to(getattr(torch, dtype)))
    assert found.dtype == getattr(torch, dtype)
    error = (found.float() - expected).norm() / expected.norm()
    assert 0 < error < 0.05


def test_a_tower_drawn_from_a_seed_lets_every_block_add_something() -> None:
    model = build(FRAMES_ALONE)
    before = model.compress(pixels(1, 1))
    for name, weight in model.vision.named_parameters():
        if name.startswith("blocks.1.attention.out."):
            weight.zero_()
    assert not torch.allclose(model.compress(pixels(1, 1)), before)


def test_memories_of_the_two_towers_are_not_mixed() -> None:
    alone = build(FRAMES_ALONE)
    mixing = replace(FRAMES_ALONE, vision=replace(VISION, tower="umt"))
    weights = alone.state_dict()
    assert token_space(FRAMES_ALONE, weights) != token_space(mixing, weights)


def test_another_tower_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^tower: 'clip' is neither 'umt' nor 'dinov2'"):
        replace(VISION, tower="clip")
