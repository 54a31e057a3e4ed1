"""Decides where rows of many samples stand when all of them attend in one kernel call, as suits a GPU.

Rows come one after the other, sample by sample. For attention they are laid out as a rectangle of the longest sample's
length, and its rows are taken out of it again: a few gathers and one call, whatever the number of samples.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from standwatch.compression.labels import Layout

_MULTIPLE = 8  # rows: memory-efficient attention wants its mask's rows to begin at aligned addresses
_CONTEXT, _PADDING = -1, -2  # where a text's number would be


class Rectangle:
    """The rows of some samples where every frame has n tokens, and what each of them sees.

    A row sees those of its own sample that are not after it, but no other text's own rows, and no text sees context.
    """

    def __init__(self, layouts: Sequence[Layout], n: int, like: Tensor) -> None:
        counts = [layout.rows(n) for layout in layouts]
        self._samples, self._longest = len(layouts), -(-max(counts) // _MULTIPLE) * _MULTIPLE
        texts = np.full((self._samples, self._longest), _PADDING, np.int16)  # 0 is the trunk, which all of them see
        for own, layout in zip(texts, layouts, strict=True):
            trunk = layout.trunk(n)
            own[:trunk] = 0
            own[layout.hidden(n)] = _CONTEXT
            own[trunk : layout.rows(n)] = np.repeat(np.arange(1, len(layout.own) + 1), layout.own)
        filled = np.flatnonzero(texts.ravel() != _PADDING)
        source = np.arange(texts.size) % len(filled)  # padding takes any rows, but not all the same: gradients add up
        source[filled] = np.arange(len(filled))
        self._filled = torch.from_numpy(filled).to(like.device)
        self._source = torch.from_numpy(source).to(like.device)
        text = torch.from_numpy(texts).to(like.device)
        row, column = text[:, :, None], text[:, None]
        seen = ((column == 0) | (column == row) | ((column == _CONTEXT) & (row == 0))).tril_()
        self._hidden = like.new_zeros(seen.shape).masked_fill_(~seen, -torch.inf)[:, None]

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Queries [H, R, hd], keys and values [Hkv, R, hd] of all rows -> what they attend to, [H, R, hd]."""
        group = len(queries) // len(keys)  # of query heads; kernels that take a mask do not know of groups
        keys, values = keys.repeat_interleave(group, 0), values.repeat_interleave(group, 0)
        attended = F.scaled_dot_product_attention(
            self._laid_out(queries), self._laid_out(keys), self._laid_out(values), attn_mask=self._hidden
        )
        return attended.transpose(0, 1).flatten(1, 2).index_select(1, self._filled)

    def _laid_out(self, rows: Tensor) -> Tensor:
        """[H, R, hd] -> [B, H, L, hd]."""
        laid_out = torch.unflatten(rows.index_select(1, self._source), 1, (self._samples, self._longest))
        return laid_out.transpose(0, 1)
