"""Saving a model: what is written loads again bit for bit, and is there complete or not at all."""

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from standwatch.compression.checkpoint import load_model
from standwatch.compression.checkpoint_saving import save
from standwatch.compression.xcomp import XComp, build
from standwatch.configs.schema import ModelConfig
from tests.checkpoint_folder import SMALL, drawn, trained_tokenizer, write_settings, write_weights

BYTES = sum(weight.nbytes for weight in drawn(head=False).values())


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    folder = tmp_path / "origin"
    write_weights(folder, drawn())
    write_settings(folder)
    return folder


def bits(weights: dict[str, Tensor]) -> dict[str, list[int]]:
    return {name: weight.flatten().view(torch.uint8).tolist() for name, weight in weights.items()}


def again(folder: Path, model: XComp, dtype: str = "float32") -> XComp:
    config = ModelConfig(checkpoint=str(folder), dtype=dtype, frame_tokens=model.config.frame_tokens)
    return load_model(config).model


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("max_shard_bytes", [10**9, BYTES // 4])
def test_what_was_saved_loads_bit_for_bit(tmp_path: Path, origin: Path, dtype: str, max_shard_bytes: int) -> None:
    model = build(replace(SMALL, dtype=dtype))
    save(model, tmp_path / "saved", origin=origin, max_shard_bytes=max_shard_bytes)
    found = again(tmp_path / "saved", model, dtype)
    assert bits(found.state_dict()) == bits(model.state_dict())
    assert found.config == replace(model.config, checkpoint=str(tmp_path / "saved"))


def test_shards_are_at_most_as_large_as_asked_and_the_index_finds_them(tmp_path: Path, origin: Path) -> None:
    model = build(SMALL)
    save(model, tmp_path / "saved", origin=origin, max_shard_bytes=BYTES // 4)
    shards = sorted(path.name for path in (tmp_path / "saved").glob("*.safetensors"))
    assert len(shards) >= 4
    assert shards[0] == f"model-00001-of-{len(shards):05}.safetensors"
    index = json.loads((tmp_path / "saved" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == BYTES
    assert index["weight_map"].keys() == model.state_dict().keys()
    for name in shards:
        with safe_open(tmp_path / "saved" / name, "pt") as shard:
            assert sum(shard.get_tensor(key).nbytes for key in shard.keys()) <= BYTES // 4  # noqa: SIM118
            assert shard.metadata() == {"format": "pt"}


def test_a_weight_larger_than_a_shard_has_one_of_its_own(tmp_path: Path, origin: Path) -> None:
    model = build(SMALL)
    save(model, tmp_path / "saved", origin=origin, max_shard_bytes=1)
    assert len(list((tmp_path / "saved").glob("*.safetensors"))) == len(model.state_dict())
    assert bits(again(tmp_path / "saved", model).state_dict()) == bits(model.state_dict())


def test_a_readout_has_a_file_of_its_own(tmp_path: Path, origin: Path) -> None:
    model = build(replace(SMALL, frame_tokens=1))
    save(model, tmp_path / "saved", origin=origin)
    with safe_open(tmp_path / "saved" / "standwatch.safetensors", "pt") as added:
        readout = set(added.keys())
    assert readout == {name for name in model.state_dict() if name.startswith("readout.")}
    assert readout
    assert bits(again(tmp_path / "saved", model).state_dict()) == bits(model.state_dict())
    assert again(tmp_path / "saved", build(SMALL)).state_dict().keys() == model.state_dict().keys() - readout


def test_what_the_origin_knows_besides_shapes_is_taken_over(tmp_path: Path, origin: Path) -> None:
    write_settings(origin, bos_token_id=151643, hidden_size=4096)
    save(build(SMALL), tmp_path / "saved", origin=origin)
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architectures"] == ["VideoChatFlashQwenForCausalLM"]
    assert config["bos_token_id"] == 151643
    assert config["hidden_size"] == 12
    found = load_model(ModelConfig(checkpoint=str(tmp_path / "saved")))
    assert found.generation.repetition_penalty == 1.1
    assert found.tokenizer.encode("the yellow zone") == trained_tokenizer().encode("the yellow zone").ids


def test_every_shape_that_matters_survives(tmp_path: Path, origin: Path) -> None:
    config = replace(
        SMALL,
        keep="uniform",
        tokens_per_frame=4,
        frame_tokens=4,
        vision=replace(SMALL.vision, frames_per_clip=2, image_px=64, patch_px=8, blocks=2),
        language=replace(SMALL.language, qkv_bias=False, rope_theta=10_000.0, rms_eps=1e-5, head_dim=6),
    )
    save(build(config), tmp_path / "saved", origin=origin)
    assert again(tmp_path / "saved", build(SMALL)).config == replace(config, checkpoint=str(tmp_path / "saved"))


def test_others_may_read_what_was_saved(tmp_path: Path, origin: Path) -> None:
    save(build(SMALL), tmp_path / "saved", origin=origin)
    (origin / "made_here").touch()
    usual = stat.S_IMODE((origin / "made_here").stat().st_mode)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "saved").iterdir()} == {usual}


def test_a_failed_save_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.json is not there"):
        save(build(SMALL), tmp_path / "saved", origin=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path, origin: Path) -> None:
    held = sorted(origin.iterdir())
    with pytest.raises(ValueError, match=r"^folder: .* is not empty"):
        save(build(SMALL), origin)
    assert sorted(origin.iterdir()) == held
    assert list(tmp_path.iterdir()) == [origin]
    (tmp_path / "empty").mkdir()
    save(build(SMALL), tmp_path / "empty")
    assert (tmp_path / "empty" / "model.safetensors").is_file()


def test_shards_of_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^max_shard_bytes: "):
        save(build(SMALL), tmp_path / "saved", max_shard_bytes=0)
