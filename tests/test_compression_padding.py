"""Many samples in one attention call attend as each of them does alone."""

import pytest
import torch

from standwatch.compression.attention import Sight, attend_each
from standwatch.compression.labels import Layout
from standwatch.compression.padding import Rectangle

HEADS, KV_HEADS, HEAD_DIM = 6, 2, 8
LAYOUTS = (Layout(3, 2, 4, (5, 1, 7)), Layout(2, 1, 3), Layout(1, 5, 0, (2, 2)), Layout(2, 4, 0, (3, 1), 3))


def drawn(rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(rows)
    return tuple(
        torch.randn(heads, rows, HEAD_DIM, generator=chance, dtype=torch.float64, requires_grad=True)
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    )


def alone(layout: Layout, n: int, parts: list[torch.Tensor]) -> torch.Tensor:
    trunk = layout.trunk(n)
    own = [Sight(*(part[:, :trunk] for part in parts))]
    if layout.own:
        queries, keys, values = parts
        own.append(Sight(queries[:, trunk:], keys, values, layout.seen(n, queries.device)))
    return torch.cat(attend_each(own), 1)


@pytest.mark.parametrize(
    "layouts", [LAYOUTS, LAYOUTS[:1], LAYOUTS[1:2], LAYOUTS[3:]], ids=["many", "texts", "one text", "context"]
)
@pytest.mark.parametrize("n", [1, 4])
def test_a_rectangle_attends_as_each_sample_does_alone(layouts: tuple[Layout, ...], n: int) -> None:
    counts = [layout.rows(n) for layout in layouts]
    parts = drawn(sum(counts))
    together = Rectangle(layouts, n, parts[0]).attend(*parts)
    apart = torch.cat(
        [
            alone(layout, n, list(own))
            for layout, own in zip(
                layouts, zip(*(torch.split(one, counts, 1) for one in parts), strict=True), strict=True
            )
        ],
        1,
    )
    torch.testing.assert_close(together, apart)
    weights = torch.randn(apart.shape, generator=torch.Generator().manual_seed(0), dtype=apart.dtype)
    for ours, theirs in zip(
        torch.autograd.grad((together * weights).sum(), parts),
        torch.autograd.grad((apart * weights).sum(), parts),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
