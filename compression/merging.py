"""Decides which patch features are averaged together: token merging and the projector (spec §4, ToMe)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Merged:
    """Tokens after a merging step: features [B, p, W] and how many patches each one averages [B, p]."""

    features: Tensor
    sizes: Tensor


def merge_schedule(tokens: int, target: int) -> tuple[int, ...]:
    """How many tokens each step removes to go from `tokens` to `target`; a step removes at most half (spec §4).

    Raises ValueError if there are fewer tokens than the target.
    """
    if not 1 <= target <= tokens:
        raise ValueError(
            f"token merging cannot make {target} tokens out of {tokens} patches: "
            "use a larger image_px, a smaller patch_px or fewer tokens_per_frame"
        )
    steps = []
    while tokens > target:
        steps.append(min(tokens - target, tokens // 2))
        tokens -= steps[-1]
    return tuple(steps)


def merge_steps(features: Tensor, heads: int, target: int) -> Iterator[Merged]:
    """Merge [B, p, W] down to `target` tokens, yielding the tokens before the first step and after each one.

    Survivors are ordered [unmerged of the even positions, most similar first | odd positions in order].
    """
    merged = Merged(features, features.new_ones(features.shape[:2]))
    yield merged
    for removed in merge_schedule(features.shape[1], target):
        merged = _merge(merged, heads, removed)
        yield merged


def merge(features: Tensor, heads: int, target: int) -> Tensor:
    """Patch features [B, p, W] -> [B, target, W]."""
    *_, last = merge_steps(features, heads, target)
    return last.features


def _merge(tokens: Merged, heads: int, removed: int) -> Merged:
    metric = F.normalize(torch.unflatten(tokens.features, -1, (heads, -1)).mean(2), dim=-1)  # [B, p, W/heads]
    best, partner = (metric[:, ::2] @ metric[:, 1::2].transpose(1, 2)).max(-1)  # [B, |A|] both
    sizes = tokens.sizes[..., None]
    sums = tokens.features * sizes
    if removed == best.shape[1]:  # every source is merged and their order means nothing
        sums, sizes = (_added(values[:, 1::2], values[:, ::2], partner) for values in (sums, sizes))
    else:
        order = best.argsort(stable=True, dim=-1, descending=True)
        sums, sizes = (_added_in_order(values, order, partner, removed) for values in (sums, sizes))
    return Merged(sums / sizes, sizes[..., 0])


def _added_in_order(values: Tensor, order: Tensor, partner: Tensor, removed: int) -> Tensor:
    """The first `removed` sources by `order` go into their partners, the others stand before these: [B, p, C]."""
    sources = values[:, ::2].gather(1, order[..., None].expand(-1, -1, values.shape[-1]))
    kept = _added(values[:, 1::2], sources[:, :removed], partner.gather(1, order)[:, :removed])
    return torch.cat((sources[:, removed:], kept), 1)


def _added(kept: Tensor, sources: Tensor, partner: Tensor) -> Tensor:
    """[B, q, C] with each of the sources [B, r, C] added to its partner [B, r]."""
    return kept.scatter_add(1, partner[..., None].expand_as(sources), sources)


class Projector(nn.Module):
    """From merged vision features, or cells, to the language model's input space."""

    def __init__(self, vision_width: int, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(vision_width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, merged: Tensor) -> Tensor:
        """[..., vision_width] -> [..., width]."""
        tokens: Tensor = self.mlp(merged)
        return tokens
