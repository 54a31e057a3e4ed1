"""Decides how a question learns where to look: at the frames that show what it asks for.

QC-Comp takes those frames for relevant that the question's rows give most weight to, in the middle layers (spec §8,
§9). Answering alone does not bring the weights there: a layer may look anywhere as long as a later one answers. The
renderer knows which frames show it, so in those layers they are to have the weight that all frames get together.
"""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from standwatch.compression.labels import Sample
from standwatch.compression.schedule import Schedule
from standwatch.compression.training import Heard


class Onlooker:
    """Hears queries and keys of a forward pass over some samples, and what their looks cost."""

    def __init__(self, samples: Sequence[Sample], schedule: Schedule, layers: Collection[int]) -> None:
        self._samples, self._schedule, self._layers = samples, schedule, frozenset(layers)
        self._costs: list[Tensor] = []

    def hear(self, heard: Heard) -> None:
        """Of the layers that count, queries and keys of all samples' rows."""
        if heard.layer not in self._layers:
            return
        n, start = self._schedule.tokens_by_layer[heard.layer], 0
        for sample in self._samples:
            layout = sample.layout
            prefix, first = start + layout.prefix, start + layout.hidden(n).stop
            for look in sample.looks:
                end = prefix + layout.frames * n
                seen = torch.cat((heard.keys[:, start:prefix], heard.keys[:, first:end]), 1)
                rows = sample.looking(look, n)
                asking = heard.queries[:, start + rows.start : start + rows.stop]
                self._costs.append(_cost(asking, seen, layout.prefix, n, look.frames))
            start += layout.rows(n)

    def cost(self) -> Tensor:
        """Of a look in a layer on average; 0 where there was none."""
        return torch.stack(self._costs).mean() if self._costs else torch.zeros(())


def _cost(asking: Tensor, seen: Tensor, prefix: int, n: int, frames: Sequence[int]) -> Tensor:
    """How far the share of these frames is from 1, as its logarithm says: of what all frames seen get, by all heads.

    A head that looks at the prefix, as most do that find nothing, has little to say.
    """
    head_dim = asking.shape[-1]
    by_group = asking.reshape(len(seen), -1, head_dim) * head_dim**-0.5
    weights = (by_group @ seen.transpose(1, 2)).float().softmax(-1).mean((0, 1))
    by_frame = torch.unflatten(weights[prefix:], 0, (-1, n)).sum(-1)
    wanted = by_frame[list(frames)].sum()
    return torch.log(by_frame.sum() / wanted.clamp_min(1e-9))
