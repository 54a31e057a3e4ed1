"""Decides how a language model stored for llama.cpp (GGUF, architecture "llama") becomes one of ours.

llama.cpp turns neighbouring pairs of channels where our decoder turns the two halves of a head against each other, so
whoever wrote such a file reordered the rows of q and k; here they go back. Quantised weights are given as the numbers
they stand for, in float32. Anything in a file that would make another model of it is refused, never left out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from gguf import GGUFReader, ReaderTensor
from gguf.quants import dequantize
from tokenizers import Tokenizer
from torch import Tensor

from standwatch.compression.gguf_tokenizer import tokenizer_of
from standwatch.compression.json_files import entry
from standwatch.configs.schema import LanguageConfig

_ARCHITECTURE = "llama"
_WHOLE = {"token_embd": "embed_tokens", "output_norm": "norm"}
_OF_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A language model as it was stored: shape, weights under our decoder's names in float32, and its words."""

    config: LanguageConfig
    weights: Mapping[str, Tensor]
    tokenizer: Tokenizer
    eos_id: int


def read_gguf(path: Path) -> LanguageModel:
    """The language model in a GGUF file. Whether all of its weights are there shows when a decoder takes them.

    Raises ValueError naming the file and what cannot be: no GGUF, another architecture, weights or a tokenizer that
    are not known here.
    """
    try:
        reader = GGUFReader(path)
        metadata = {name: field.contents() for name, field in reader.fields.items()}
        config = _shape(metadata)
        weights = dict(_weight(tensor, config) for tensor in reader.tensors)
        eos_id = entry(metadata, "tokenizer.ggml.eos_token_id", int, None)
        return LanguageModel(config, weights, tokenizer_of(metadata), eos_id)
    except (ValueError, IndexError, KeyError, OverflowError) as error:  # of a damaged file
        raise ValueError(f"{path}: {error or 'is damaged'}") from None


def _shape(metadata: Mapping[str, object]) -> LanguageConfig:
    architecture = entry(metadata, "general.architecture", str, None)
    if architecture != _ARCHITECTURE:
        raise ValueError(f"general.architecture: {architecture!r} is not known here, only {_ARCHITECTURE!r} is")
    if scaled := sorted(name for name in metadata if name.startswith(f"{_ARCHITECTURE}.rope.scaling.")):
        raise ValueError(f"{scaled[0]}: scaled positions are not known here; take a model without them")
    width = _number(metadata, "embedding_length")
    heads = _number(metadata, "attention.head_count")
    return LanguageConfig(
        layers=_number(metadata, "block_count"),
        width=width,
        mlp_width=_number(metadata, "feed_forward_length"),
        heads=heads,
        kv_heads=_number(metadata, "attention.head_count_kv", heads),
        head_dim=_number(metadata, "rope.dimension_count", width // max(1, heads)),
        vocab=len(entry(metadata, "tokenizer.ggml.tokens", list, None)),
        rope_theta=_as_written(metadata, "rope.freq_base", 10_000.0),
        rms_eps=_as_written(metadata, "attention.layer_norm_rms_epsilon", None),
        qkv_bias=False,
        positions=_number(metadata, "context_length"),
    )


def _number(metadata: Mapping[str, object], key: str, default: int | None = None) -> int:
    return entry(metadata, f"{_ARCHITECTURE}.{key}", int, default)


def _as_written(metadata: Mapping[str, object], key: str, default: float | None) -> float:
    """A number that was rounded to float32, as its makers wrote it: 1e-5, not 9.999999747378752e-06."""
    return float(f"{entry(metadata, f'{_ARCHITECTURE}.{key}', float, default):.7g}")


def _weight(stored: ReaderTensor, config: LanguageConfig) -> tuple[str, Tensor]:
    values = torch.tensor(dequantize(stored.data, stored.tensor_type), dtype=torch.float32)
    if not (found := re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.weight", stored.name)):
        raise ValueError(f"{stored.name}: is not known here; only weights of a plain llama are")
    layer, kind = found.groups()
    name = (_WHOLE if layer is None else _OF_LAYER).get(kind)
    if name is None:
        reason = "the head of ours is the embedding" if kind == "output" else "only weights of a plain llama are"
        raise ValueError(f"{stored.name}: is not known here; {reason}")
    if kind in ("attn_q", "attn_k"):
        values = halves(values, config.heads if kind == "attn_q" else config.kv_heads)
    return f"layers.{layer}.{name}.weight" if layer else f"{name}.weight", values


def halves(paired: Tensor, heads: int) -> Tensor:
    """Rows [heads * hd, D] whose rotated pairs are neighbours -> the same with each pair half a head apart."""
    return torch.unflatten(paired, 0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)
