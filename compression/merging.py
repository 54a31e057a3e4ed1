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
    weighted = torch.cat((tokens.features * tokens.sizes[..., None], tokens.sizes[..., None]), -1)  # [B, p, W+1]
    sources, kept = weighted[:, ::2], weighted[:, 1::2].contiguous()
    unmerged = sources[:, :0]
    if removed < sources.shape[1]:  # otherwise every source is merged and their order means nothing
        order = best.argsort(stable=True, dim=-1, descending=True)
        sources = sources.gather(1, order[..., None].expand_as(sources))
        partner = partner.gather(1, order)
        sources, unmerged = sources[:, :removed], sources[:, removed:]
    kept.scatter_add_(1, partner[:, :removed, None].expand_as(sources), sources)
    joined = torch.cat((unmerged, kept), 1)
    return Merged(joined[..., :-1] / joined[..., -1:], joined[..., -1])


class Projector(nn.Module):
    """From merged vision features to the language model's input space."""

    def __init__(self, vision_width: int, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(vision_width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, merged: Tensor) -> Tensor:
        """[..., vision_width] -> [..., width]."""
        tokens: Tensor = self.mlp(merged)
        return tokens
