"""Checkpoint folders as others write them: the published layout of 646 weights at a width that costs nothing."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from standwatch.compression.checkpoint_saving import save
from standwatch.compression.xcomp import XComp
from standwatch.configs.schema import LanguageConfig, ModelConfig, VisionConfig

SMALL = ModelConfig(
    vision=VisionConfig(image_px=96, width=16, heads=2, blocks=23, mlp_width=24),
    language=LanguageConfig(layers=28, width=12, mlp_width=20, heads=3, kv_heads=1, head_dim=4, vocab=512),
)
# What the makers' own config.json says, at this width; the vision tower stands where our files keep it.
CONFIG: dict[str, object] = {
    "architectures": ["VideoChatFlashQwenForCausalLM"],
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_hidden_layers": 28,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "vocab_size": 512,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-06,
    "mm_local_num_frames": 8,
    "mm_projector_type": "tome16_mlp_hd64",
    "mm_vision_tower": "umt-hd-large",
    "tie_word_embeddings": True,
    "standwatch": {"vision": {"image_px": 96, "width": 16, "heads": 2, "mlp_width": 24}},
}
MARKERS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXT = (
    "Is a forklift inside the yellow zone? It's 12:45, they're loading\n\n  two pallets.",
    "What happened at the dock in the last hour? The door isn't shut.\r\n\tÄrger naïve 你好 Ǖ",
)


def meta(config: ModelConfig = SMALL) -> XComp:
    with torch.device("meta"):
        return XComp(config)


@cache
def shapes_of(config: ModelConfig) -> Mapping[str, torch.Size]:
    return {name: weight.shape for name, weight in meta(config).state_dict().items()}


def drawn(config: ModelConfig = SMALL, dtype: torch.dtype = torch.float32, head: bool = True) -> dict[str, Tensor]:
    """Weights under the published names, each different from every other; the head is no copy of the embedding."""
    generator = torch.Generator().manual_seed(3)
    shapes = {**shapes_of(config)}
    if head:
        shapes["lm_head.weight"] = shapes["model.embed_tokens.weight"]
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def write_weights(folder: Path, weights: Mapping[str, Tensor], kind: str = "safetensors", shards: int = 1) -> None:
    """One file, or shards with an index, as `kind` "safetensors" or "bin"."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = {"safetensors": "model", "bin": "pytorch_model"}[kind]
    names = list(weights)
    places = {}
    for number in range(shards):
        file = f"{stem}.{kind}" if shards == 1 else f"{stem}-{number + 1:05}-of-{shards:05}.{kind}"
        part = {name: weights[name] for name in names[number::shards]}
        if kind == "bin":
            torch.save(part, folder / file)
        else:
            save_file(part, folder / file)
        places.update(dict.fromkeys(part, file))
    if shards > 1:
        index = {"metadata": {}, "weight_map": places}
        (folder / f"{stem}.{kind}.index.json").write_text(json.dumps(index))


def write_settings(folder: Path, **changes: object) -> None:
    """config.json with some keys changed, or left out where None, and what belongs to it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    generation = {"repetition_penalty": 1.1, "eos_token_id": [259, 257]}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    trained_tokenizer().save(str(folder / "tokenizer.json"))


def save_with_tokenizer(model: XComp, folder: Path) -> None:
    """A model as a checkpoint that can be loaded with the tokenizer of its origin."""
    origin = folder.with_name(f"origin of {folder.name}")
    origin.mkdir()
    (origin / "config.json").write_text("{}")
    trained_tokenizer().save(str(origin / "tokenizer.json"))
    save(model, folder, origin=origin)


def trained_tokenizer() -> Tokenizer:
    """A byte-level BPE as Qwen2's is made, with merges learnt from `TEXT` and the chat markers behind them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(WORDS), "isolated"), byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False, min_frequency=1)
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.add_special_tokens([AddedToken(marker, special=True, normalized=False) for marker in MARKERS])
    return tokenizer
