"""Decides how rows of several sequences attend at once: one kernel call each, or all padded into one.

Sequences never see each other. On a CPU a call for each is best: nothing is padded, and what a kernel call costs is
small beside its work. On a GPU it is the other way round. To learn on a CPU from not too many rows, plain products
are quickest: their gradients are plain products too, and of few different shapes, as `rounded` makes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

_MOST_PLAIN = 2048  # keys: the weights of each head and row are kept for the gradients
_ROUND = 64


@dataclass(frozen=True, eq=False)
class Sight:
    """One sequence's part of a layer: queries [H, R, hd] over keys and values [Hkv, S, hd].

    Row r sees the keys where `seen` [R, S] is True. None: the queries are the last R of S positions, and each sees
    itself and all before it.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    seen: Tensor | None = None


def attend(sights: Sequence[Sight]) -> list[Tensor]:
    """What the rows of each sequence attend to, [H, R, hd]."""
    if len(sights) > 1 and sights[0].queries.device.type != "cpu":
        return attend_padded(sights)
    return attend_each(sights)


def attend_each(sights: Sequence[Sight]) -> list[Tensor]:
    """A kernel call for each sequence."""
    parts = []
    for sight in sights:
        rows, keys = sight.queries.shape[1], sight.keys.shape[1]
        square = sight.seen is None and rows == keys
        seen = sight.seen if square or rows == 1 or sight.seen is not None else _behind(rows, keys, sight.keys.device)
        parts.append(
            F.scaled_dot_product_attention(
                sight.queries[None],
                sight.keys[None],
                sight.values[None],
                attn_mask=seen,
                is_causal=square,
                enable_gqa=True,
            )[0]
        )
    return parts


def attend_learning(sights: Sequence[Sight]) -> list[Tensor]:
    """The same as `attend_each`, quicker with gradients wherever plain products are few enough."""
    return [_plainly(one) if one.keys.shape[1] <= _MOST_PLAIN else attend_each([one])[0] for one in sights]


def attend_padded(sights: Sequence[Sight]) -> list[Tensor]:
    """One kernel call over sequences padded to the longest."""
    rows, lengths = [s.queries.shape[1] for s in sights], [s.keys.shape[1] for s in sights]
    queries, keys, values = (
        pad_sequence([part.transpose(0, 1) for part in parts], batch_first=True).transpose(1, 2)
        for parts in ([s.queries for s in sights], [s.keys for s in sights], [s.values for s in sights])
    )  # [B, H, longest, hd]
    seen = queries.new_zeros(len(sights), 1, max(rows), max(lengths), dtype=torch.bool)
    for index, sight in enumerate(sights):
        own = sight.seen if sight.seen is not None else _behind(rows[index], lengths[index], queries.device)
        seen[index, 0, : rows[index], : lengths[index]] = own
        seen[index, 0, rows[index] :, 0] = True  # rows of padding must see something, or their softmax is NaN
    attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen, enable_gqa=True)
    return [attended[index, :, :count] for index, count in enumerate(rows)]


def rounded(rows: int) -> int:
    """So many with padding: for every shape that is new to it a CPU's matrix product takes milliseconds to set up."""
    return -(-rows // _ROUND) * _ROUND


def _plainly(sight: Sight) -> Tensor:
    """Heads that share keys are rows of one product."""
    (heads, rows, head_dim), (groups, count, _) = sight.queries.shape, sight.keys.shape
    seen = sight.seen if sight.seen is not None else _behind(rows, count, sight.keys.device)
    queries, keys, values = (
        F.pad(part, (0, 0, 0, rounded(part.shape[1]) - part.shape[1]))
        for part in (sight.queries * head_dim**-0.5, sight.keys, sight.values)
    )
    hidden = queries.new_full((queries.shape[1], keys.shape[1]), -torch.inf)
    hidden[:rows, :count].masked_fill_(seen, 0)
    hidden[rows:, 0] = 0  # rows of padding must see something, or their softmax is NaN
    likeness = queries.reshape(groups, -1, head_dim) @ keys.transpose(1, 2)
    weights = (torch.unflatten(likeness, 1, (heads // groups, len(hidden))) + hidden).softmax(-1).flatten(1, 2)
    attended: Tensor = (weights @ values).view(heads, len(hidden), head_dim)
    return attended[:, :rows]


def _behind(rows: int, keys: int, device: torch.device) -> Tensor:
    """True where a key is not after the row: the rows are the last of the keys' positions."""
    return torch.ones(rows, keys, dtype=torch.bool, device=device).tril_(keys - rows)
