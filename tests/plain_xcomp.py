"""XComp by the book (spec §6-§8): one sequence, everything at once, naive attention, in float64. Slow and plain.

Nothing is cached, appended, shared or shifted here, so that what does all that has something to be equal to. It knows
of the real code only the names of the weights and the numbers that a schedule keeps.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from standwatch.compression.lpcomp import Decoder
from standwatch.compression.schedule import Schedule

IGNORED = 1e9


@dataclass(frozen=True, eq=False)
class Forward:
    """Everything a forward pass over [prefix | video | text] makes, layer by layer, in float64."""

    inputs: list[Tensor]  # [S_l, D]: what the layer was given, after tokens were dropped
    keys: list[Tensor]  # [Hkv, S_l, hd], rotated
    values: list[Tensor]
    hidden: Tensor  # [S_last, D], normed
    logits: Tensor  # [S_last, vocab]


class PlainXComp:
    def __init__(self, decoder: Decoder, schedule: Schedule) -> None:
        self.config, self.schedule = decoder.config, schedule
        self._weights = {name: weight.double() for name, weight in decoder.state_dict().items()}

    def forward(self, prefix: Tensor, video: Tensor, text: Tensor, hidden_frames: int = 0) -> Forward:
        """One causal pass. Rows of the text do not see the first `hidden_frames` frames; later frames do."""
        first, frames = len(prefix), len(video)
        rows = torch.cat((prefix, video.flatten(0, 1), text)).double()
        inputs, keys, values = [], [], []
        for layer, (before, after) in enumerate(pairwise(self.schedule.kept)):
            labels = [*[None] * first, *before * frames, *[None] * len(text)]
            rows = rows[[place for place, label in enumerate(labels) if label is None or label in after]]
            inputs.append(rows)
            count, n = len(rows), len(after)
            seen = torch.ones(count, count, dtype=torch.bool).tril()
            seen[first + frames * n :, first : first + hidden_frames * n] = False
            weight, rotated, own = self._attention(layer, rows, torch.arange(count), seen)
            keys.append(rotated)
            values.append(own)
            rows = self._finish(layer, rows, weight @ self._for_every_head(own))
        hidden = self._norm(rows, "norm")
        return Forward(inputs, keys, values, hidden, hidden @ self._weights["embed_tokens.weight"].T)

    def whole_scores(
        self, forward: Forward, layer: int, prefix: int, frames: int, asking: range, hidden_frames: int = 0
    ) -> list[float]:
        """ "default" scores of one layer from what it was given: one for each clip of which something is seen.

        Clips are counted from the first frame; nothing sees the first `hidden_frames`. `asking` are rows of the text.
        """
        n = len(self.schedule.kept[layer + 1])
        rows = forward.inputs[layer]
        seen = torch.ones(len(rows), len(rows), dtype=torch.bool)
        seen[:, prefix : prefix + hidden_frames * n] = False
        weight, _, _ = self._attention(layer, rows, torch.arange(len(rows)), seen)
        asked = weight.mean(0)[[prefix + frames * n + row for row in asking]].mean(0)
        clips: dict[int, list[float]] = {}
        for frame in range(hidden_frames, frames):
            start = prefix + frame * n
            clips.setdefault(frame // 8, []).append(float(asked[start : start + n].mean()))
        return [sum(of_clip) / len(of_clip) for of_clip in clips.values()]

    def window_scores(
        self, forward: Forward, layer: int, prefix: int, frames: int, asking: range, window: int, stride: int
    ) -> list[float]:
        """ "segments_A_B" scores of one layer: short sequences of their own, positions from 0, no mask at all."""
        n, clips = len(self.schedule.kept[layer + 1]), frames // 8
        rows = forward.inputs[layer]
        video, text = rows[prefix : prefix + frames * n], rows[prefix + frames * n :]
        found: list[list[float]] = [[] for _ in range(clips)]
        for first in range(0, clips - window + 1, stride):
            inside = video[first * 8 * n : (first + window) * 8 * n]
            short = torch.cat((rows[:prefix], inside, text[: asking.stop]))
            weight, _, _ = self._attention(layer, short, torch.arange(len(short)), None)
            asked = weight.mean(0)[[prefix + len(inside) + row for row in asking]]
            for clip in range(window):
                start = prefix + clip * 8 * n
                found[first + clip].append(float(asked[:, start : start + 8 * n].mean()))
        most = max(len(of_clip) for of_clip in found)
        return [sum(of_clip) / most if len(of_clip) == most else IGNORED for of_clip in found]

    def _attention(
        self, layer: int, rows: Tensor, positions: Tensor, seen: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Weights [H, S, S], and rotated keys and values [Hkv, S, hd]."""
        normed = self._norm(rows, f"layers.{layer}.input_layernorm")
        queries, keys, values = (
            self._linear(normed, f"layers.{layer}.self_attn.{name}_proj")
            .view(len(rows), -1, self.config.head_dim)
            .transpose(0, 1)
            for name in "qkv"
        )
        queries, keys = self._turned(queries, positions), self._turned(keys, positions)
        products = queries @ self._for_every_head(keys).transpose(1, 2) / self.config.head_dim**0.5
        if seen is not None:
            products = products.masked_fill(~seen, -torch.inf)
        return products.softmax(-1), keys, values

    def _finish(self, layer: int, rows: Tensor, attended: Tensor) -> Tensor:
        name = f"layers.{layer}"
        rows = rows + self._linear(attended.transpose(0, 1).flatten(1), f"{name}.self_attn.o_proj")
        normed = self._norm(rows, f"{name}.post_attention_layernorm")
        gate = self._linear(normed, f"{name}.mlp.gate_proj")
        inner = gate * torch.sigmoid(gate) * self._linear(normed, f"{name}.mlp.up_proj")
        return rows + self._linear(inner, f"{name}.mlp.down_proj")

    def _for_every_head(self, of_kv_heads: Tensor) -> Tensor:
        return of_kv_heads.repeat_interleave(self.config.heads // self.config.kv_heads, 0)

    def _linear(self, rows: Tensor, name: str) -> Tensor:
        bias = self._weights.get(f"{name}.bias")
        return rows @ self._weights[f"{name}.weight"].T + (0 if bias is None else bias)

    def _norm(self, rows: Tensor, name: str) -> Tensor:
        size = (rows.square().mean(-1, keepdim=True) + self.config.rms_eps).sqrt()
        return rows / size * self._weights[f"{name}.weight"]

    def _turned(self, heads: Tensor, positions: Tensor) -> Tensor:
        half = self.config.head_dim // 2
        angle = positions[:, None] * self.config.rope_theta ** (-torch.arange(half).double() / half)
        first, second = heads[..., :half], heads[..., half:]
        return torch.cat((first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()), -1)
