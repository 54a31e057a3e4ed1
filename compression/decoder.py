"""Decides what one language model layer computes, and what it remembers: a plain Qwen2 decoder (spec §6)."""

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from standwatch.configs.schema import LanguageConfig

# Called inside every layer with (layer, queries [H, m, hd], keys [Hkv, S, hd]), both already rotated;
# the keys end with those of the m rows.
Observer: TypeAlias = Callable[[int, Tensor, Tensor], None]


class Rotary:
    """Rotate-half position embedding for positions 0..length-1."""

    def __init__(self, length: int, head_dim: int, theta: float, like: Tensor) -> None:
        frequencies = rotary_frequencies(head_dim, theta, torch.float32).to(like.device)
        angles = torch.arange(length, device=like.device)[:, None] * frequencies
        angles = torch.cat((angles, angles), -1)  # [length, hd]
        self._cos, self._sin = angles.cos().to(like.dtype), angles.sin().to(like.dtype)

    def at(self, rows: Tensor, position: int) -> Tensor:
        """Rotate rows [H, m, hd] standing at `position`, `position` + 1, ..."""
        end = position + rows.shape[1]
        return rotate(rows, self._cos[position:end], self._sin[position:end])


def rotary_frequencies(head_dim: int, theta: float, dtype: torch.dtype) -> Tensor:
    """Radians per position of each rotated pair, [head_dim/2]."""
    return 1 / theta ** (torch.arange(0, head_dim, 2, dtype=dtype) / head_dim)


def rotate(rows: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = rows.chunk(2, -1)
    return rows * cos + torch.cat((-second, first), -1) * sin


class LayerCache:
    """Keys and values [Hkv, length, hd] that one layer has seen, in storage allocated once."""

    def __init__(self, config: LanguageConfig, capacity: int, like: Tensor) -> None:
        self._keys = like.new_empty(config.kv_heads, capacity, config.head_dim)
        self._values = torch.empty_like(self._keys)
        self.length = 0

    @property
    def room(self) -> int:
        """Positions that can still be appended."""
        return self._keys.shape[1] - self.length

    @property
    def keys(self) -> Tensor:
        return self._keys[:, : self.length]

    @property
    def values(self) -> Tensor:
        return self._values[:, : self.length]

    def append(self, keys: Tensor, values: Tensor) -> None:
        end = self.length + keys.shape[1]
        self._keys[:, self.length : end] = keys
        self._values[:, self.length : end] = values
        self.length = end


class RmsNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, rows: Tensor) -> Tensor:
        wide = rows.float()
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * normed.to(rows.dtype)


class SelfAttention(nn.Module):
    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        query_width, kv_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.width, query_width, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.width, kv_width, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.width, kv_width, bias=config.qkv_bias)
        self.o_proj = nn.Linear(query_width, config.width, bias=False)

    def heads(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values [H, m, hd] of rows [m, D]."""
        queries, keys, values = (
            proj(rows).unflatten(-1, (-1, self.head_dim)).transpose(0, 1)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        return queries, keys, values

    def mix(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Causal attention of the last m positions, queries [H, m, hd], over all S keys; back to [m, D]."""
        attended = F.scaled_dot_product_attention(
            queries[None],
            keys[None],
            values[None],
            attn_mask=_causal_tail_mask(queries.shape[1], keys.shape[1], queries.device),
            is_causal=queries.shape[1] == keys.shape[1],
            enable_gqa=True,
        )[0]
        mixed: Tensor = self.o_proj(attended.transpose(0, 1).flatten(1))
        return mixed


def _causal_tail_mask(rows: int, keys: int, device: torch.device) -> Tensor | None:
    """None where the kernel needs no mask tensor: a whole causal sequence, or one row that sees everything."""
    if rows in (1, keys):
        return None
    return torch.ones(rows, keys, dtype=torch.bool, device=device).tril_(keys - rows)


class GatedMlp(nn.Module):
    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.mlp_width, bias=False)
        self.up_proj = nn.Linear(config.width, config.mlp_width, bias=False)
        self.down_proj = nn.Linear(config.mlp_width, config.width, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        projected: Tensor = self.down_proj(F.silu(self.gate_proj(rows)) * self.up_proj(rows))
        return projected


class DecoderLayer(nn.Module):
    def __init__(self, config: LanguageConfig, index: int) -> None:
        super().__init__()
        self.index = index
        self.self_attn = SelfAttention(config)
        self.mlp = GatedMlp(config)
        self.input_layernorm = RmsNorm(config.width, config.rms_eps)
        self.post_attention_layernorm = RmsNorm(config.width, config.rms_eps)

    def forward(self, rows: Tensor, cache: LayerCache, rotary: Rotary, observe: Observer | None) -> Tensor:
        """Rows [m, D] standing right behind what `cache` holds; appends their keys and values to it."""
        assert len(rows) <= cache.room, "the decoder checks for room before it runs its layers"
        position = cache.length
        queries, keys, values = self.self_attn.heads(self.input_layernorm(rows))
        queries = rotary.at(queries, position)
        cache.append(rotary.at(keys, position), values)
        if observe is not None:
            observe(self.index, queries, cache.keys)
        rows = rows + self.self_attn.mix(queries, cache.keys, cache.values)
        gated: Tensor = self.mlp(self.post_attention_layernorm(rows))
        return rows + gated
