"""Vision tower, position tables, token merging and frame sampling against the reference's numbers."""

import re
from typing import Any

import pytest
import torch

from standwatch.compression.frame_sampling import sample_frame_indices, time_message
from standwatch.compression.merging import Projector, merge_schedule, merge_steps
from standwatch.compression.vision import VisionTower, position_table
from standwatch.compression.xcomp import load_strictly
from standwatch.configs.schema import VisionConfig
from tests.golden.golden_file import absent, golden_file

pytestmark = pytest.mark.golden
GOLDEN = golden_file()
VISION_CASES = {case.get("tag", "vision"): case for (case,) in (p.values for p in GOLDEN.cases("vision")) if case}
REAL_POSITIONS = GOLDEN.json["cases"].get("vision_real_pos_embed")


@pytest.mark.parametrize("case", GOLDEN.cases("frame_sampling"))
def test_frames_are_sampled_like_the_reference(case: dict[str, Any]) -> None:
    indices = sample_frame_indices(
        case["total_frames"],
        case["video_fps"],
        sample_fps=case["sample_fps"],
        min_frames=case["min_frames"],
        max_frames=case["max_frames"],
    )
    assert indices == case["frame_indices"]
    assert time_message(case["total_frames"] / case["video_fps"], len(indices)) == case["time_message"]


@pytest.mark.parametrize("case", GOLDEN.cases("tome"))
def test_tokens_merge_and_project_like_the_reference(case: dict[str, Any]) -> None:
    tag, frames = case["tag"], case["frames_per_clip"]
    features = GOLDEN.tensor(f"{tag}/input")
    features = features.reshape(-1, frames * features.shape[1], features.shape[2])
    assert list(merge_schedule(features.shape[1], case["target_tokens"])) == case["r_per_step"]

    _, *steps = merge_steps(features, case["vision_heads"], case["target_tokens"])
    sizes = GOLDEN.matches(rf"{tag}/size_after_step(\d+)")
    assert len(sizes) == len(steps) == len(case["r_per_step"])
    for match in sizes:
        assert torch.equal(steps[int(match[1])].sizes, GOLDEN.tensor(match[0]))
    GOLDEN.assert_close(steps[-1].features, GOLDEN.tensor(f"{tag}/merged_before_mlp"))

    projector = Projector(case["vision_dim"], case["hidden"])
    load_strictly(projector, GOLDEN.weights(tag))
    GOLDEN.assert_close(projector(steps[-1].features), GOLDEN.tensor(f"{tag}/output"))


@pytest.mark.parametrize("tag", GOLDEN.under(r"(vision\w*/\w+)/input") if VISION_CASES else absent("vision"))
def test_vision_tower_equals_the_reference(tag: str) -> None:
    case, weights = VISION_CASES[tag.split("/")[0]], GOLDEN.weights(tag)
    clips = GOLDEN.tensor(f"{tag}/input")
    config = VisionConfig(
        image_px=case["image_size"],
        patch_px=case["patch"],
        width=case["dim"],
        heads=case["heads"],
        blocks=case["blocks_run"],
        mlp_width=len(weights["encoder.blocks.0.mlp.fc1.bias"]),
        frames_per_clip=clips.shape[1],
    )
    tower = VisionTower(config)
    load_strictly(tower, weights)
    positions = position_table(clips.shape[1], config.image_px // config.patch_px, config.width)
    GOLDEN.assert_close(positions, GOLDEN.tensor(f"{tag}/pos_embed"))
    GOLDEN.assert_close(tower(clips), GOLDEN.tensor(f"{tag}/output"))


@pytest.mark.parametrize(
    "name", GOLDEN.under(r"vision_real_pos/(\w+)/sample") if REAL_POSITIONS else absent("vision_real_pos")
)
def test_position_tables_of_the_real_tower_equal_the_reference(name: str) -> None:
    case = REAL_POSITIONS
    _, tokens, width = case[name]["shape"]
    row_step, column_step = (int(step) for step in re.findall(r"0,(\d+),", case["sample"]))
    numbered = re.fullmatch(r"T(\d+)", name)
    frames = int(numbered[1]) if numbered else 1
    table = position_table(frames, int((tokens // frames) ** 0.5), width)
    assert list(table.shape) == case[name]["shape"]
    GOLDEN.assert_close(table[0, ::row_step, ::column_step], GOLDEN.tensor(f"vision_real_pos/{name}/sample"))
    sums = torch.stack((table.double().sum(), table.double().abs().sum()))
    GOLDEN.assert_close(sums, torch.tensor([case[name]["sum"], case[name]["abs_sum"]], dtype=torch.float64))
