"""The whole model, from uint8 frames to tokens, and the checkpoint's layout, against the reference."""

import json
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from standwatch.compression.frame_sampling import time_message
from standwatch.compression.generation import generate
from standwatch.compression.preprocess import preprocess
from standwatch.compression.prompt import prompt_text
from standwatch.compression.xcomp import XComp
from standwatch.configs.schema import ModelConfig, VisionConfig
from tests.golden.golden_file import HERE, embed_mod_vocab, golden_file

pytestmark = pytest.mark.golden
GOLDEN = golden_file()


def whole_model(case: dict[str, Any]) -> XComp:
    weights, shape = GOLDEN.weights(case["tag"]), GOLDEN.json["cases"]["model"]["vision"]
    tower = "model.vision_tower.vision_tower.encoder"
    vision = VisionConfig(
        image_px=case["image_size"],
        patch_px=weights[f"{tower}.patch_embed.proj.weight"].shape[-1],
        width=weights[f"{tower}.vision_layernorm.bias"].shape[0],
        heads=shape["heads"],
        blocks=shape["blocks_run"],
        mlp_width=weights[f"{tower}.blocks.0.mlp.fc1.bias"].shape[0],
        frames_per_clip=case["frames_per_clip"],
    )
    config = ModelConfig(
        vision=vision,
        language=GOLDEN.language(case["tag"]),
        tokens_per_frame=GOLDEN.json["llm_config"]["tokens_per_frame"],
    )
    model = XComp(config)
    model.load(weights)
    return model.requires_grad_(False)


@pytest.mark.parametrize("case", GOLDEN.cases("e2e"))
def test_frames_become_the_references_pixels_features_and_tokens(case: dict[str, Any]) -> None:
    tag, model = case["tag"], whole_model(case)
    pixels = preprocess(GOLDEN.tensor(f"{tag}/frames_uint8").numpy(), case["image_size"])
    for match in GOLDEN.matches(rf"{tag}/pixel_values_first(\d+)"):
        GOLDEN.assert_close(pixels[: int(match[1])], GOLDEN.tensor(match[0]))
    clips = pixels.unflatten(0, (-1, case["frames_per_clip"]))
    expected = GOLDEN.tensor(f"{tag}/vit_out_first_clip")
    GOLDEN.assert_close(model.vision(clips[:1]).reshape(expected.shape), expected)
    GOLDEN.assert_close(model.compress(clips).flatten(1, 2), GOLDEN.tensor(f"{tag}/projected"))


@pytest.mark.parametrize("case", GOLDEN.cases("e2e"))
def test_frames_become_the_references_answer(case: dict[str, Any]) -> None:
    tag, model = case["tag"], whole_model(case)
    seconds = re.search(r"lasts for ([\d.]+) seconds", case["time_message"])
    assert seconds
    assert time_message(float(seconds[1]), case["num_frames"]) == case["time_message"]
    assert prompt_text(case["question"], float(seconds[1]), case["num_frames"]) == case["prompt"]

    pixels = preprocess(GOLDEN.tensor(f"{tag}/frames_uint8").numpy(), case["image_size"])
    video = model.compress(pixels.unflatten(0, (-1, case["frames_per_clip"]))).flatten(0, 1)  # [F, n, D]
    expected, decoder, ids = GOLDEN.tensor(f"{tag}/answer_tokens").tolist(), model.decoder, GOLDEN.ids(tag)
    placeholder = ids.index(-200)
    text = embed_mod_vocab(decoder, ids[placeholder + 1 :])
    room = len(text) + len(expected)
    cache = decoder.prefill(model.lpcomp_schedule, embed_mod_vocab(decoder, ids[:placeholder]), video, room)

    def following(rows: Tensor) -> Tensor:
        nonlocal cache
        hidden, cache = decoder.extend(cache, rows)
        return decoder.logits(hidden[-1:])[0]

    first = following(text)
    GOLDEN.assert_close(first, GOLDEN.tensor(f"{tag}/first_step_logits"))
    written = generate(
        first,
        lambda token: following(decoder.embed([token])),
        max_tokens=len(expected),
        repetition_penalty=1.0,
        stop_ids=(),
    )
    assert written == expected


def test_the_default_shape_has_exactly_the_checkpoints_weights() -> None:
    layout = json.loads((HERE / "xcomp_state_dict.json").read_text())["keys"]
    with torch.device("meta"):
        model = XComp(ModelConfig())
    own = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    expected = {name: shape for name, shape in layout.items() if name != "lm_head.weight"}
    assert own == expected
