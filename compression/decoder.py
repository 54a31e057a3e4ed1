"""Decides what one language model layer computes: a plain Qwen2 decoder layer in two halves (spec §6).

`project` gives queries, keys and values; `finish` takes what attention made of them. What lies between, which rows see
which, is the caller's: appending frames, asking questions and training differ in nothing else.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from standwatch.configs.schema import LanguageConfig


class Rotary:
    """Rotate-half position embedding: tables of cosines and sines, as long as positions were asked for so far."""

    def __init__(self, head_dim: int, theta: float) -> None:
        self._head_dim, self._theta = head_dim, theta
        self._tables: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def at(self, spans: list[tuple[int, int]], like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [R, hd] of positions first..first+count-1 of each (first, count), one after the other."""
        tables = self._up_to(max(first + count for first, count in spans), like)
        if len(spans) == 1:
            ((first, count),) = spans
            cos, sin = (table[first : first + count] for table in tables)
        else:  # one gather, not a thousand slices
            positions = torch.cat([torch.arange(first, first + count) for first, count in spans]).to(like.device)
            cos, sin = (table.index_select(0, positions) for table in tables)
        return cos, sin

    def of(self, positions: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [R, hd] of any positions [R]."""
        cos, sin = self._up_to(int(positions.max()) + 1, like)
        return cos[positions], sin[positions]

    def _up_to(self, end: int, like: Tensor) -> tuple[Tensor, Tensor]:
        key = like.device, like.dtype
        if key not in self._tables or len(self._tables[key][0]) < end:
            with torch.inference_mode(False), torch.no_grad():  # training may use what inference made
                self._tables[key] = self._table(1 << (end - 1).bit_length(), like)
        return self._tables[key]

    def _table(self, length: int, like: Tensor) -> tuple[Tensor, Tensor]:
        frequencies = rotary_frequencies(self._head_dim, self._theta, torch.float32).to(like.device)
        angles = torch.arange(length, device=like.device)[:, None] * frequencies
        angles = torch.cat((angles, angles), -1)  # [length, hd]
        return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def rotary_frequencies(head_dim: int, theta: float, dtype: torch.dtype) -> Tensor:
    """Radians per position of each rotated pair, [head_dim/2]."""
    return 1 / theta ** (torch.arange(0, head_dim, 2, dtype=dtype) / head_dim)


def rotate(rows: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of [..., hd] by its angle; cos and sin broadcast against it."""
    half = rows.shape[-1] // 2
    turned = rows * cos
    turned[..., :half].addcmul_(rows[..., half:], sin[..., :half], value=-1)
    turned[..., half:].addcmul_(rows[..., :half], sin[..., half:])
    return turned


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
        """Queries [H, R, hd], keys and values [Hkv, R, hd] of rows [R, D]."""
        queries, keys, values = (
            proj(rows).unflatten(-1, (-1, self.head_dim)).transpose(0, 1)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        return queries, keys, values


class GatedMlp(nn.Module):
    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.mlp_width, bias=False)
        self.up_proj = nn.Linear(config.width, config.mlp_width, bias=False)
        self.down_proj = nn.Linear(config.mlp_width, config.width, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        gate, up = self.gate_proj(rows), self.up_proj(rows)
        # The widest tensors of all: without gradients, writing them anew costs as much as a fifth of the products.
        gated = F.silu(gate) * up if torch.is_grad_enabled() else F.silu(gate, inplace=True).mul_(up)
        projected: Tensor = self.down_proj(gated)
        return projected


class DecoderLayer(nn.Module):
    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config)
        self.mlp = GatedMlp(config)
        self.input_layernorm = RmsNorm(config.width, config.rms_eps)
        self.post_attention_layernorm = RmsNorm(config.width, config.rms_eps)

    def project(self, rows: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [H, R, hd], keys and values [Hkv, R, hd] of rows [R, D]; queries and keys stand at their angles."""
        queries, keys, values = self.self_attn.heads(self.input_layernorm(rows))
        return rotate(queries, cos, sin), rotate(keys, cos, sin), values

    def finish(self, rows: Tensor, attended: Tensor) -> Tensor:
        """The layer's output [R, D] from its input and what attention gave, [H, R, hd]."""
        between: Tensor = self.self_attn.o_proj(attended.transpose(0, 1).flatten(1)).add_(rows)
        gated: Tensor = self.mlp(self.post_attention_layernorm(between))
        return gated.add_(between)
