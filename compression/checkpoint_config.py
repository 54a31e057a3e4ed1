"""Decides what shapes and habits the files beside the weights ask for: config.json and generation_config.json.

config.json is the one of Qwen2 with VideoChat-Flash's keys (spec §0, §3, §12). The vision tower has no keys there: it
is the published UMT-L. What else our own shapes need stands under the key "standwatch" of the files we write, and
there too which parts of a model nobody has trained yet.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from standwatch.compression.json_files import entry, json_object
from standwatch.configs.schema import LanguageConfig, ModelConfig, VisionConfig

CONFIG, GENERATION = "config.json", "generation_config.json"
_OWN = "standwatch"
_FRAMES = "mm_local_num_frames"
_TOWER = "umt-hd"  # the one that sees 448 pixels; its positions are computed, so weights of another would fit silently
_UNTRAINED = "untrained"
_MERGING = {"umt": "tome", "dinov2": "cells"}  # how the projector's name says that tokens are made, by vision tower


@dataclass(frozen=True)
class GenerationConfig:
    """How the makers of a checkpoint have words written; always greedy (spec §10)."""

    repetition_penalty: float  # 1 is none
    eos_ids: tuple[int, ...]


def folder_of(path: Path) -> Path:
    """Where configuration and tokenizer of a checkpoint lie."""
    return path if path.is_dir() else path.parent


def resolved(config: ModelConfig) -> ModelConfig:
    """`config` with the shapes that its model really has: those of its checkpoint, if it names one. Idempotent.

    Raises ValueError as `read_model_config` does.
    """
    return read_model_config(folder_of(Path(config.checkpoint)), config) if config.checkpoint else config


def read_model_config(folder: Path, base: ModelConfig) -> ModelConfig:
    """`base` with every shape, and the frames per clip, as the folder's config.json has them.

    Device, precision and all else stay. Raises ValueError naming the file and the key that is missing or cannot be.
    """
    path = folder / CONFIG
    content = json_object(path)
    try:
        own: Mapping[str, object] = entry(content, _OWN, dict, {})
        vision = _vision(content, entry(own, "vision", dict, {}), base.vision.frames_per_clip)
        tokens_per_frame = _tokens_per_frame(content, _MERGING[vision.tower], base.tokens_per_frame)
        return replace(
            base,
            language=_language(content, entry(own, "qkv_bias", bool, True)),
            vision=vision,
            tokens_per_frame=tokens_per_frame,
            frame_tokens=1 if base.frame_tokens == 1 else tokens_per_frame,
            keep=entry(own, "keep", str, base.keep),
        )
    except ValueError as error:
        raise ValueError(f"checkpoint: {path}: {error}") from None


def untrained_parts(folder: Path) -> tuple[str, ...]:
    """The parts whose weights nobody has trained, as the one who wrote the folder's config.json says; mostly none.

    Raises ValueError naming the file and the key.
    """
    path = folder / CONFIG
    try:
        own: Mapping[str, object] = entry(json_object(path), _OWN, dict, {})
        listed: Sequence[object] = entry(own, _UNTRAINED, list, [])
    except ValueError as error:
        raise ValueError(f"checkpoint: {path}: {error}") from None
    return tuple(str(part) for part in listed)


def read_generation_config(folder: Path) -> GenerationConfig:
    """What generation_config.json says; without the file no penalty, and config.json's end of text if it has one.

    Raises ValueError naming the file and the key.
    """
    path = folder / GENERATION
    content = json_object(path) if path.is_file() else {}
    ids = content.get("eos_token_id", json_object(folder / CONFIG).get("eos_token_id"))
    listed: list[object] = [] if ids is None else ids if isinstance(ids, list) else [ids]
    eos_ids = tuple(token_id for token_id in listed if isinstance(token_id, int) and token_id >= 0)
    if len(eos_ids) < len(listed):
        raise ValueError(f"checkpoint: {path}: eos_token_id: {ids!r} is neither a token id nor a list of them")
    try:
        penalty = entry(content, "repetition_penalty", float, 1.0)
    except ValueError as error:
        raise ValueError(f"checkpoint: {path}: {error}") from None
    if penalty <= 0:
        raise ValueError(f"checkpoint: {path}: repetition_penalty: {penalty} must be above 0; 1 switches it off")
    return GenerationConfig(penalty, eos_ids)


def config_json(config: ModelConfig, untrained: Sequence[str] = ()) -> dict[str, object]:
    """The keys of a config.json from which `read_model_config` gives these shapes back, `untrained_parts` the parts."""
    language, vision = config.language, asdict(config.vision)
    own = {"vision": vision, "qkv_bias": language.qkv_bias, "keep": config.keep}
    return {
        _FRAMES: vision.pop("frames_per_clip"),
        "hidden_size": language.width,
        "intermediate_size": language.mlp_width,
        "num_hidden_layers": language.layers,
        "num_attention_heads": language.heads,
        "num_key_value_heads": language.kv_heads,
        "head_dim": language.head_dim,
        "vocab_size": language.vocab,
        "rope_theta": language.rope_theta,
        "rms_norm_eps": language.rms_eps,
        "max_position_embeddings": language.positions,
        "tie_word_embeddings": True,
        "mm_hidden_size": config.vision.width,
        "mm_projector_type": f"{_MERGING[config.vision.tower]}{config.tokens_per_frame}_mlp",
        _OWN: {**own, _UNTRAINED: list(untrained)} if untrained else own,
    }


def _language(content: Mapping[str, object], qkv_bias: bool) -> LanguageConfig:
    default = LanguageConfig()
    rope: Mapping[str, object] = entry(content, "rope_parameters", dict, {})
    scaling: Mapping[str, object] = entry(content, "rope_scaling", dict, rope)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind != "default":
        raise ValueError(f"rope_scaling: {kind!r} is not known here; only checkpoints without it can be loaded")
    width, heads = entry(content, "hidden_size", int, None), entry(content, "num_attention_heads", int, None)
    return LanguageConfig(
        layers=entry(content, "num_hidden_layers", int, None),
        width=width,
        mlp_width=entry(content, "intermediate_size", int, None),
        heads=heads,
        kv_heads=entry(content, "num_key_value_heads", int, heads),
        head_dim=entry(content, "head_dim", int, width // max(1, heads)),
        vocab=entry(content, "vocab_size", int, None),
        rope_theta=entry(content, "rope_theta", float, entry(rope, "rope_theta", float, default.rope_theta)),
        rms_eps=entry(content, "rms_norm_eps", float, default.rms_eps),
        qkv_bias=qkv_bias,
        positions=entry(content, "max_position_embeddings", int, default.positions),
    )


def _vision(content: Mapping[str, object], shape: Mapping[str, object], frames_per_clip: int) -> VisionConfig:
    tower = entry(content, "mm_vision_tower", str, _TOWER)
    if not shape and _TOWER not in tower:
        raise ValueError(f"mm_vision_tower: {tower!r} is no {_TOWER} tower; no other is known here")
    known = {field.name for field in fields(VisionConfig)} - {"frames_per_clip"}
    if unknown := sorted(set(shape) - known):
        raise ValueError(f"{_OWN}.vision: {', '.join(unknown)} is unknown here; use the version that wrote it")
    frames_per_clip = entry(content, _FRAMES, int, frames_per_clip)
    sizes = {key: entry(shape, key, int, None) for key in shape if key not in ("tower", "taps")}
    taps = entry(shape, "taps", list, [])
    if not all(isinstance(tap, int) for tap in taps):
        raise ValueError(f"{_OWN}.vision.taps: {taps} are no numbers of blocks")
    return VisionConfig(
        tower=entry(shape, "tower", str, "umt"), **sizes, taps=tuple(taps), frames_per_clip=frames_per_clip
    )


def _tokens_per_frame(content: Mapping[str, object], merging: str, default: int) -> int:
    projector = entry(content, "mm_projector_type", str, f"{merging}{default}_mlp")
    found = re.match(rf"{merging}(\d+)_mlp", projector)
    if found is None:
        raise ValueError(f"mm_projector_type: {projector!r} is no merging projector such as {merging}16_mlp")
    return int(found[1])
