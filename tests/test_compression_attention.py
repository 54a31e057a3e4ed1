"""Sequences attend alike, each by a call of its own or padded into one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from standwatch.compression.attention import Sight, attend, attend_each, attend_learning, attend_padded
from tests.tiny_models import QUICK, normal

HEAD_DIM = 4


def naive(sight: Sight) -> Tensor:
    """Row by row, head by head, in float64."""
    heads, rows, _ = sight.queries.shape
    kv_heads, keys, _ = sight.keys.shape
    attended = torch.empty(heads, rows, HEAD_DIM, dtype=torch.float64)
    for head in range(heads):
        own_keys, own_values = (part[head * kv_heads // heads].double() for part in (sight.keys, sight.values))
        for row in range(rows):
            places = list(range(keys - rows + row + 1))
            if sight.seen is not None:
                places = [place for place in range(keys) if sight.seen[row, place]]
            products = own_keys[places] @ sight.queries[head, row].double() / HEAD_DIM**0.5
            attended[head, row] = products.softmax(0) @ own_values[places]
    return attended


def sight_of(heads: int, kv_heads: int, rows: int, more: int, masked: bool, seed: int) -> Sight:
    """`more`: keys beside those of the rows. Masked, a row sees any places, at least one."""
    queries = normal(heads, rows, HEAD_DIM, seed=seed)
    keys, values = (normal(kv_heads, rows + more, HEAD_DIM, seed=seed + at) for at in (1, 2))
    seen = None
    if masked:
        seen = normal(rows, rows + more, seed=seed + 3) > 0.5
        seen[torch.arange(rows), normal(rows, rows + more, seed=seed + 4).argmax(1)] = True
    return Sight(queries, keys, values, seen)


@st.composite
def ragged(draw: st.DrawFn) -> list[Sight]:
    heads, kv_heads = draw(st.sampled_from(((1, 1), (4, 2), (3, 1))))
    lengths = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.booleans()), min_size=1, max_size=5))
    return [sight_of(heads, kv_heads, *one, seed=10 * place) for place, one in enumerate(lengths)]


@QUICK
@given(ragged())
def test_sequences_padded_together_attend_as_each_alone_does(sights: list[Sight]) -> None:
    for way in (attend_each, attend_learning, attend_padded, attend):
        for sight, attended in zip(sights, way(sights), strict=True):
            assert attended.isfinite().all(), way
            torch.testing.assert_close(attended.double(), naive(sight), atol=1e-5, rtol=0)


@QUICK
@given(ragged(), st.data())
def test_no_sequence_sees_another(sights: list[Sight], data: st.DataObject) -> None:
    """Not even NaN comes over, from rows of padding or from a broken neighbour."""
    broken = data.draw(st.integers(0, len(sights) - 1))
    spoilt = list(sights)
    nothing = torch.full_like(sights[broken].values, torch.nan)
    spoilt[broken] = Sight(sights[broken].queries, sights[broken].keys, nothing, sights[broken].seen)
    for way in (attend_each, attend_learning, attend_padded):
        before, after = way(sights), way(spoilt)
        for place, (one, other) in enumerate(zip(before, after, strict=True)):
            if place == broken:
                assert other.isnan().all()
            else:
                assert torch.equal(one, other)


def test_nothing_comes_back_from_padding_either() -> None:
    """Gradients of keys and values, which rows of padding look at as well."""
    found = []
    for way in (attend_each, attend_learning, attend_padded):
        sights = [sight_of(4, 2, rows, more, masked, 9) for rows, more, masked in ((5, 3, False), (1, 2, True))]
        leaves = [part.requires_grad_() for s in sights for part in (s.queries, s.keys, s.values)]
        torch.cat([attended.flatten() for attended in way(sights)]).square().sum().backward()
        found.append([leaf.grad for leaf in leaves])
    for each, *others in zip(*found, strict=True):
        for other in others:
            torch.testing.assert_close(each, other, atol=1e-5, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu_padded_is_each_alone() -> None:
    sights = [sight_of(4, 2, rows, more, masked, 9) for rows, more, masked in ((5, 3, False), (1, 8, True))]
    on_gpu = [
        Sight(*(part.cuda() for part in (s.queries, s.keys, s.values)), None if s.seen is None else s.seen.cuda())
        for s in sights
    ]
    for sight, attended in zip(sights, attend(on_gpu), strict=True):
        torch.testing.assert_close(attended.cpu().double(), naive(sight), atol=1e-4, rtol=0)
