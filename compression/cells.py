"""Decides how a frame's patches become few tokens where nothing is merged by likeness: figures of square cells.

A cell is its patches' mean and their deviation from it: what is small hardly moves a mean, but stands out.
"""

from math import isqrt

import torch
from torch import Tensor, nn

from standwatch.compression.merging import Projector

_LEAST_SPREAD = 1e-3  # of a channel; what says less is no louder for it


def check_cells(patches: int, cells: int) -> None:
    """Raise ValueError unless a square of that many patches can be cut into that many equal squares."""
    side, cells_side = isqrt(patches), isqrt(cells)
    if cells < 1 or side * side != patches or cells_side * cells_side != cells or side % cells_side:
        raise ValueError(
            f"tokens_per_frame: {cells} equal squares cannot be cut from {patches} patches; "
            f"use a square number whose root divides {side}, or another image_px"
        )


def describe_cells(features: Tensor, cells: int) -> Tensor:
    """Patch features [..., p, W] of square pictures, row by row -> their cells [..., cells, 2*W], row by row.

    Of each cell the mean of its patches, then their standard deviation (population). Raises ValueError if the picture
    cannot be cut that way.
    """
    check_cells(features.shape[-2], cells)
    cells_side = isqrt(cells)
    patches_side = isqrt(features.shape[-2]) // cells_side  # of a cell
    cut = torch.unflatten(features, -2, (cells_side, patches_side, cells_side, patches_side))
    # Copied cell by cell first: over patches that lie apart the same sums take three times as long.
    inside = cut.transpose(-4, -3).flatten(-5, -4).flatten(-3, -2)  # [..., cells, patches of it, W]
    mean = inside.mean(-2)
    deviation = (inside - mean[..., None, :]).square_().mean(-2).sqrt_()
    return torch.cat((mean, deviation), -1)


class Standard(nn.Module):
    """Brings every channel to mean 0 and spread 1, as they were measured on many frames; until then it does nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, cells: Tensor) -> Tensor:
        """[..., width] -> the same in the precision of the weights, computed in float32."""
        return ((cells.float() - self.bias.float()) * self.weight.float()).to(self.weight.dtype)

    @torch.no_grad()
    def measure(self, cells: Tensor) -> None:
        """Take mean and spread of every channel from cells [..., width]."""
        spread, mean = torch.std_mean(cells.float().flatten(0, -2), 0)
        self.bias.copy_(mean)
        self.weight.copy_(1 / spread.clamp_min(_LEAST_SPREAD))


class CellProjector(Projector):
    """From cells to the language model's input space."""

    def __init__(self, feature_width: int, width: int) -> None:
        super().__init__(2 * feature_width, width)
        self.standard = Standard(2 * feature_width)

    def forward(self, cells: Tensor) -> Tensor:
        """[..., 2*feature_width] -> [..., width]."""
        return super().forward(self.standard(cells))
