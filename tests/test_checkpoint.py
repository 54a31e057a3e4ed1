"""Loading a model: every form a checkpoint of the published layout comes in, and refusals of what does not fit."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from standwatch.compression.checkpoint import fill, load_model
from standwatch.compression.checkpoint_files import open_checkpoint
from standwatch.compression.checkpoint_layout import LISTED, by_parameter, check_layout
from standwatch.compression.fingerprint import token_space
from standwatch.compression.tokenizer import byte_level
from standwatch.compression.xcomp import XComp, build
from standwatch.configs.schema import ModelConfig
from tests.checkpoint_folder import SMALL, drawn, meta, write_settings, write_weights

GOLDEN = Path(__file__).parent / "golden" / "xcomp_state_dict.json"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
EMBEDDING, NORM = "model.embed_tokens.weight", "model.norm.weight"


def loaded(folder: Path, config: ModelConfig = SMALL) -> XComp:
    model = meta(config)
    fill(model, open_checkpoint(folder), DTYPES[config.dtype], "cpu")
    return model


def assert_has(model: XComp, weights: dict[str, torch.Tensor], dtype: torch.dtype = torch.float32) -> None:
    own = model.state_dict()
    assert own.keys() == weights.keys() - {"lm_head.weight"}
    for name, weight in own.items():
        assert weight.dtype == dtype
        assert torch.equal(weight, weights[name].to(dtype)), name


def test_the_published_shape_takes_exactly_the_published_layout() -> None:
    layout = {name: tuple(shape) for name, shape in json.loads(GOLDEN.read_text())["keys"].items()}
    assert len(layout) == 646
    model = meta(ModelConfig())
    check_layout({name: tuple(weight.shape) for name, weight in model.state_dict().items()}, by_parameter(layout))
    assert {weight.device.type for weight in model.state_dict().values()} == {"meta"}
    assert list(model.buffers()) == []  # they would be in no checkpoint, and loading would leave them unset


def test_the_small_checkpoint_of_these_tests_has_the_published_names() -> None:
    assert drawn().keys() == json.loads(GOLDEN.read_text())["keys"].keys()


@pytest.mark.parametrize("head", [True, False], ids=["with head", "without head"])
@pytest.mark.parametrize("stored", DTYPES)
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_every_form_of_a_checkpoint_loads(tmp_path: Path, kind: str, shards: int, stored: str, head: bool) -> None:
    weights = drawn(dtype=DTYPES[stored], head=head)
    write_weights(tmp_path, weights, kind, shards)
    assert_has(loaded(tmp_path), weights)


@pytest.mark.parametrize("wanted", DTYPES)
@pytest.mark.parametrize("stored", DTYPES)
def test_precision_is_the_configurations_whatever_is_stored(tmp_path: Path, stored: str, wanted: str) -> None:
    weights = drawn(dtype=DTYPES[stored])
    write_weights(tmp_path, weights)
    assert_has(loaded(tmp_path, replace(SMALL, dtype=wanted)), weights, DTYPES[wanted])


def test_a_loaded_model_is_ready_for_inference_and_trains_nothing(tmp_path: Path) -> None:
    write_weights(tmp_path, drawn())
    model = loaded(tmp_path)
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())


def test_the_embedding_wins_over_another_head(tmp_path: Path) -> None:
    weights = drawn()
    assert not torch.equal(weights["lm_head.weight"], weights[EMBEDDING])
    write_weights(tmp_path, weights)
    assert torch.equal(loaded(tmp_path).decoder.embed_tokens.weight, weights[EMBEDDING])


def test_the_raw_vision_towers_name_of_its_last_norm_is_understood(tmp_path: Path) -> None:
    weights = drawn()
    raw = {name.replace("encoder.vision_layernorm", "encoder.norm"): weight for name, weight in weights.items()}
    assert raw.keys() != weights.keys()
    write_weights(tmp_path, raw)
    assert_has(loaded(tmp_path), weights)


def test_a_norm_under_both_names_is_refused(tmp_path: Path) -> None:
    tower = "model.vision_tower.vision_tower.encoder"
    write_weights(tmp_path, {**drawn(), f"{tower}.norm.weight": torch.ones(16)})
    with pytest.raises(ValueError, match=r"checkpoint: .* hold .*vision_layernorm\.weight twice"):
        loaded(tmp_path)


def test_a_single_file_loads_with_what_lies_beside_it(tmp_path: Path) -> None:
    weights = drawn()
    write_settings(tmp_path)
    save_file(weights, tmp_path / "step-100.safetensors")
    found = load_model(replace(SMALL, checkpoint=str(tmp_path / "step-100.safetensors")))
    assert_has(found.model, weights)
    assert found.name == tmp_path.name


def test_all_that_does_not_fit_is_in_one_refusal_and_nothing_is_allocated(tmp_path: Path) -> None:
    weights = drawn()
    del weights[NORM]
    write_weights(tmp_path, {**weights, "extra.bias": torch.ones(2), EMBEDDING: torch.ones(512, 11)})
    model = meta()
    with pytest.raises(ValueError, match="1 missing, 1 unknown, 1 misshapen") as refusal:
        fill(model, open_checkpoint(tmp_path), torch.float32, "cpu")
    text = str(refusal.value)
    assert text.startswith(f"checkpoint: {tmp_path}: ")
    assert f"missing {NORM}" in text
    assert "unknown extra.bias" in text
    assert f"{EMBEDDING} has shape [512, 11] instead of [512, 12]" in text
    assert all(weight.is_meta for weight in model.parameters())


def test_a_long_refusal_is_cut_but_its_counts_are_not(tmp_path: Path) -> None:
    write_weights(tmp_path, {"other": torch.ones(1)})
    with pytest.raises(ValueError, match=rf"645 missing, 1 unknown, 0 misshapen.* and {645 - LISTED} more") as refusal:
        loaded(tmp_path)
    assert str(refusal.value).count("model.") == LISTED


@pytest.mark.parametrize(("value", "dtype"), [(float("nan"), "float32"), (float("inf"), "bfloat16"), (1e5, "float16")])
def test_values_that_are_not_finite_in_the_wanted_precision_are_refused(
    tmp_path: Path, value: float, dtype: str
) -> None:
    weights = drawn()
    weights[NORM][3] = value
    write_weights(tmp_path, weights)
    with pytest.raises(ValueError, match=r"model\.norm\.weight has values that are not finite"):
        loaded(tmp_path, replace(SMALL, dtype=dtype))


def test_quantised_weights_are_refused_once_names_and_shapes_fit(tmp_path: Path) -> None:
    weights = {**drawn(), NORM: torch.ones(12, dtype=torch.int8), EMBEDDING: torch.ones(512, 12, dtype=torch.float64)}
    write_weights(tmp_path, {**weights, "model.position_ids": torch.arange(3)})
    with pytest.raises(ValueError, match=r"unknown model\.position_ids"):
        loaded(tmp_path)
    write_weights(tmp_path, weights)
    with pytest.raises(ValueError, match=r"some weights are torch\.float64, torch\.int8; save them as"):
        loaded(tmp_path)


def test_a_readout_is_read_from_the_file_beside_the_published_weights(tmp_path: Path) -> None:
    config = replace(SMALL, frame_tokens=1)
    weights = drawn(config)
    readout = {name: weight for name, weight in weights.items() if name.startswith("readout.")}
    assert readout
    write_weights(tmp_path, {name: weight for name, weight in weights.items() if name not in readout})
    save_file(readout, tmp_path / "standwatch.safetensors")
    assert_has(loaded(tmp_path, config), weights)
    assert_has(loaded(tmp_path), {name: weight for name, weight in weights.items() if name not in readout})


def test_a_missing_readout_is_explained(tmp_path: Path) -> None:
    write_weights(tmp_path, drawn())
    with pytest.raises(ValueError, match=r"missing readout\..*standwatch\.safetensors.*frame_tokens=16"):
        loaded(tmp_path, replace(SMALL, frame_tokens=1))


def test_a_file_that_is_replaced_or_overwritten_later_changes_nothing(tmp_path: Path) -> None:
    weights = drawn()
    for kind, file in (("safetensors", "model.safetensors"), ("bin", "pytorch_model.bin")):
        write_weights(tmp_path / kind, weights, kind)
        model = loaded(tmp_path / kind)
        path = tmp_path / kind / file
        path.write_bytes(bytes(path.stat().st_size))
        assert_has(model, weights)


def test_load_model_takes_shapes_tokenizer_and_generation_from_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "xcomp-small"
    weights = drawn()
    write_weights(folder, weights, shards=2)
    write_settings(folder)
    found = load_model(ModelConfig(checkpoint=str(folder), dtype="bfloat16", segment_frames=128))
    assert_has(found.model, weights, torch.bfloat16)
    assert found.model.config.vision.frames_per_clip == 8
    assert found.model.config.language == SMALL.language
    assert found.model.config.segment_frames == 128
    assert found.tokenizer.decode(found.tokenizer.encode("the yellow zone")) == "the yellow zone"
    assert found.generation.repetition_penalty == 1.1
    assert found.generation.eos_ids == (259, 257, found.tokenizer.im_end_id)
    assert (found.name, found.weights) == ("xcomp-small", str(folder))


def test_without_a_checkpoint_weights_are_drawn_from_the_seed() -> None:
    found = load_model(replace(SMALL, seed=4))
    expected = build(replace(SMALL, seed=4))
    assert_has(found.model, expected.state_dict())
    assert (found.name, found.weights) == ("xcomp-seed-4", "untrained")
    assert found.tokenizer.encode("zone") == byte_level().encode("zone")
    assert found.generation.eos_ids == (byte_level().im_end_id,)


def test_the_token_space_follows_the_weights_not_the_folder(tmp_path: Path) -> None:
    spaces = []
    for name, weights in (
        ("a", drawn()),
        ("b", drawn()),
        ("c", {**drawn(), "model.mm_projector.mlp.0.bias": torch.ones(12)}),
    ):
        write_weights(tmp_path / name, weights)
        write_settings(tmp_path / name)
        model = load_model(ModelConfig(checkpoint=str(tmp_path / name))).model
        spaces.append(token_space(model.config, model.state_dict()))
    assert spaces[0] == spaces[1] != spaces[2]
