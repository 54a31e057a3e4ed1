"""What lies beside the weights: shapes, generation settings and the tokenizer, as makers of checkpoints write them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from standwatch.compression.checkpoint_config import (
    read_generation_config,
    read_model_config,
    resolved,
    untrained_parts,
)
from standwatch.compression.tokenizer import TextTokenizer, from_folder
from standwatch.configs.schema import LanguageConfig, ModelConfig, VisionConfig
from tests.checkpoint_folder import CONFIG, MARKERS, TEXT, trained_tokenizer, write_settings

# The keys that count of the published config.json (spec §0, §12).
PUBLISHED = {
    "architectures": ["VideoChatFlashQwenForCausalLM"],
    "eos_token_id": 151645,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "max_position_embeddings": 131072,
    "mm_local_num_frames": 4,
    "mm_projector_type": "tome16_mlp_hd64",
    "mm_vision_tower": "./checkpoints/umt-hd-large",
    "num_attention_heads": 12,
    "num_hidden_layers": 28,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "use_sliding_window": False,
    "vocab_size": 151936,
}


def config_of(folder: Path, base: ModelConfig | None = None, **changes: Any) -> ModelConfig:
    (folder / "config.json").write_text(json.dumps({**PUBLISHED, **changes}))
    return read_model_config(folder, base or ModelConfig())


def test_the_published_configuration_is_our_default(tmp_path: Path) -> None:
    assert config_of(tmp_path) == ModelConfig()


def test_shapes_come_from_the_folder_and_all_else_stays(tmp_path: Path) -> None:
    base = ModelConfig(
        vision=VisionConfig(image_px=96, frames_per_clip=2),
        language=LanguageConfig(layers=40, width=64, vocab=512),
        frame_tokens=1,
        dtype="bfloat16",
        device="cuda",
        threads=3,
        checkpoint="somewhere",
    )
    expected = replace(base, vision=VisionConfig(frames_per_clip=8), language=LanguageConfig())
    assert config_of(tmp_path, base, mm_local_num_frames=8) == expected


def test_a_configuration_is_resolved_from_its_checkpoint_once(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**PUBLISHED, "mm_local_num_frames": 8}))
    (tmp_path / "model.safetensors").touch()
    for path in (tmp_path, tmp_path / "model.safetensors"):
        found = resolved(ModelConfig(checkpoint=str(path)))
        assert found == ModelConfig(checkpoint=str(path), vision=VisionConfig(frames_per_clip=8))
        assert resolved(found) == found
    assert resolved(ModelConfig(seed=3)) == ModelConfig(seed=3)


def test_frames_per_clip_stay_where_the_folder_names_none(tmp_path: Path) -> None:
    base = ModelConfig(vision=VisionConfig(frames_per_clip=8))
    assert config_of(tmp_path, base, mm_local_num_frames=None) == base


def test_tokens_per_frame_follow_the_projector_and_memory_follows_them(tmp_path: Path) -> None:
    found = config_of(tmp_path, mm_projector_type="tome8_mlp")
    assert (found.tokens_per_frame, found.frame_tokens) == (8, 8)
    found = config_of(tmp_path, ModelConfig(frame_tokens=1), mm_projector_type="tome8_mlp")
    assert (found.tokens_per_frame, found.frame_tokens) == (8, 1)


def test_the_tower_that_sees_frames_alone_has_cells_for_tokens(tmp_path: Path) -> None:
    own = {"vision": {"tower": "dinov2", "image_px": 224, "patch_px": 14}}
    found = config_of(tmp_path, standwatch=own, mm_projector_type="cells4_mlp")
    assert found.vision == VisionConfig(tower="dinov2", image_px=224, patch_px=14)
    assert (found.tokens_per_frame, found.frame_tokens) == (4, 4)


def test_a_model_is_made_for_the_positions_that_its_folder_names(tmp_path: Path) -> None:
    assert config_of(tmp_path, max_position_embeddings=8192).language.positions == 8192


def test_parts_that_nobody_trained_are_named_by_who_wrote_the_folder(tmp_path: Path) -> None:
    config_of(tmp_path)
    assert untrained_parts(tmp_path) == ()
    config_of(tmp_path, standwatch={"untrained": ["projector", "readout"]})
    assert untrained_parts(tmp_path) == ("projector", "readout")
    config_of(tmp_path, standwatch={"untrained": True})
    with pytest.raises(ValueError, match=r"^checkpoint: .*config\.json: untrained: True is no list"):
        untrained_parts(tmp_path)


def test_newer_files_keep_rope_in_a_section(tmp_path: Path) -> None:
    section = {"rope_type": "default", "rope_theta": 5000.0}
    assert config_of(tmp_path, rope_theta=None, rope_parameters=section).language.rope_theta == 5000.0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hidden_size": None}, "hidden_size: is not there"),
        ({"hidden_size": "1536"}, "hidden_size: '1536' is no int"),
        ({"num_hidden_layers": True}, "num_hidden_layers: True is no int"),
        ({"num_hidden_layers": 0}, "layers: must be at least 1"),
        ({"num_key_value_heads": 5}, "heads: must be a multiple of kv_heads"),
        ({"mm_projector_type": "mlp2x_gelu"}, "mm_projector_type: 'mlp2x_gelu' is no merging projector"),
        ({"mm_vision_tower": "umt-large"}, "mm_vision_tower: 'umt-large' is no umt-hd tower"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope_scaling: 'yarn' is not known here"),
        (
            {"mm_projector_type": "cells16_mlp"},
            "mm_projector_type: 'cells16_mlp' is no merging projector such as tome16",
        ),
        ({"standwatch": {"vision": {"depth": 3}}}, "standwatch.vision: depth is unknown here"),
        ({"standwatch": {"vision": {"tower": "clip"}}}, "tower: 'clip' is neither 'umt' nor 'dinov2'"),
        ({"standwatch": {"vision": {"tower": 2}}}, "tower: 2 is no str"),
        (
            {"standwatch": {"vision": {"tower": "dinov2"}}},
            "mm_projector_type: 'tome16_mlp_hd64' is no merging projector such as cells16_mlp",
        ),
        ({"standwatch": 3}, "standwatch: 3 is no dict"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_with_file_and_key(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=r"^checkpoint: ") as refusal:
        config_of(tmp_path, **changes)
    assert f"{tmp_path / 'config.json'}: {named}" in str(refusal.value)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"\xff\xfe"])
def test_a_configuration_that_is_no_json_object_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"^checkpoint: .*config\.json .*; copy it"):
        read_model_config(tmp_path, ModelConfig())


@pytest.mark.parametrize(
    ("generation", "penalty", "eos_ids"),
    [
        ({"repetition_penalty": 1.1, "eos_token_id": [151645, 151643]}, 1.1, (151645, 151643)),
        ({"repetition_penalty": 2, "eos_token_id": 7}, 2.0, (7,)),
        ({"do_sample": False}, 1.0, (151645,)),
        (None, 1.0, (151645,)),
    ],
)
def test_generation_settings_are_the_folders(
    tmp_path: Path, generation: dict[str, object] | None, penalty: float, eos_ids: tuple[int, ...]
) -> None:
    config_of(tmp_path)
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    found = read_generation_config(tmp_path)
    assert (found.repetition_penalty, found.eos_ids) == (penalty, eos_ids)


@pytest.mark.parametrize(
    "generation",
    [{"repetition_penalty": 0}, {"repetition_penalty": "a"}, {"eos_token_id": ["x"]}, {"eos_token_id": -1}],
)
def test_generation_settings_that_cannot_be_are_refused(tmp_path: Path, generation: dict[str, object]) -> None:
    config_of(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    with pytest.raises(ValueError, match=rf"^checkpoint: .*generation_config\.json: {next(iter(generation))}: "):
        read_generation_config(tmp_path)


def split(tokenizer: Tokenizer, folder: Path, described: bool = True) -> None:
    """The same tokenizer in the older form: vocabulary, merges, and the added tokens apart."""
    tokenizer.model.save(str(folder))
    ids = {marker: tokenizer.token_to_id(marker) for marker in MARKERS}
    if described:
        decoder = {str(ids[marker]): {"content": marker, "special": True, "normalized": False} for marker in MARKERS}
        (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    else:
        (folder / "added_tokens.json").write_text(json.dumps(ids))


PHRASES = (
    *TEXT,
    f"{MARKERS[1]}user\nIs it 3 o'clock?{MARKERS[2]}\n",
    "  a  b\n\n\n c\t",
    "e\u0301te\u0301 \U0001f984",
    "",
)


@pytest.mark.parametrize("described", [True, False])
def test_vocabulary_and_merges_give_the_same_ids_as_the_whole_file(tmp_path: Path, described: bool) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    trained = trained_tokenizer()
    trained.save(str(whole / "tokenizer.json"))
    split(trained, parts, described)
    one, other = from_folder(whole), from_folder(parts)
    assert one.vocab_size == other.vocab_size == trained.get_vocab_size()
    assert (one.im_start_id, one.im_end_id) == (other.im_start_id, other.im_end_id)
    for phrase in PHRASES:
        assert one.encode(phrase) == trained.encode(phrase).ids
        assert other.tokenize(phrase) == one.tokenize(phrase)
        assert other.decode(one.encode(phrase)) == one.decode(one.encode(phrase))
    assert len(one.encode(TEXT[0])) < len(TEXT[0])  # merges were learnt, and are used


def test_markers_are_single_tokens_and_left_out_of_words(tmp_path: Path) -> None:
    split(trained_tokenizer(), tmp_path)
    tokenizer = from_folder(tmp_path)
    ids = tokenizer.encode(f"{MARKERS[1]}user")
    assert ids[0] == tokenizer.im_start_id
    assert tokenizer.decode(ids) == "user"


def test_a_saved_limit_of_length_is_not_ours(tmp_path: Path) -> None:
    trained = trained_tokenizer()
    trained.enable_truncation(4)
    trained.enable_padding(length=64)
    trained.save(str(tmp_path / "tokenizer.json"))
    trained.no_truncation()
    trained.no_padding()
    assert from_folder(tmp_path).encode(TEXT[0]) == trained.encode(TEXT[0]).ids


def test_a_folder_without_a_tokenizer_says_what_to_copy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^checkpoint: .* no tokenizer; copy tokenizer\.json, or vocab\.json with"):
        from_folder(tmp_path)
    split(trained_tokenizer(), tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(ValueError, match="no tokenizer"):
        from_folder(tmp_path)


def test_files_that_are_no_tokenizer_are_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\nx y\n")
    with pytest.raises(ValueError, match=r"^checkpoint: .*vocab\.json and merges\.txt do not fit"):
        from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"^checkpoint: .*tokenizer\.json cannot be read"):
        from_folder(tmp_path)


def test_a_tokenizer_without_chat_markers_is_refused(tmp_path: Path) -> None:
    trained_tokenizer().model.save(str(tmp_path))
    with pytest.raises(ValueError, match=r"^checkpoint: .*no token '<\|im_start\|>'"):
        from_folder(tmp_path)


def test_added_tokens_that_do_not_follow_the_vocabulary_are_refused(tmp_path: Path) -> None:
    trained_tokenizer().model.save(str(tmp_path))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<|im_start|>": 400}))
    with pytest.raises(ValueError, match=r"'<\|im_start\|>' should have id 400"):
        from_folder(tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<|im_start|>": "400"}))
    with pytest.raises(ValueError, match=r"added_tokens\.json: <\|im_start\|>: '400' is no int"):
        from_folder(tmp_path)


def test_the_small_configuration_of_these_tests_reads_back(tmp_path: Path) -> None:
    write_settings(tmp_path)
    found: TextTokenizer = from_folder(tmp_path)
    config = read_model_config(tmp_path, ModelConfig())
    assert config.language.width == CONFIG["hidden_size"]
    assert found.vocab_size <= config.language.vocab
