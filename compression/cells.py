"""Decides how a frame's patches become few tokens where nothing is merged by likeness: means over square cells."""

from math import isqrt

import torch
from torch import Tensor


def check_cells(patches: int, cells: int) -> None:
    """Raise ValueError unless a square of that many patches can be cut into that many equal squares."""
    side, cells_side = isqrt(patches), isqrt(cells)
    if cells < 1 or side * side != patches or cells_side * cells_side != cells or side % cells_side:
        raise ValueError(
            f"tokens_per_frame: {cells} equal squares cannot be cut from {patches} patches; "
            f"use a square number whose root divides {side}, or another image_px"
        )


def average_cells(features: Tensor, cells: int) -> Tensor:
    """Patch features [..., p, W] of square pictures, row by row -> means over their cells [..., cells, W], row by row.

    Raises ValueError if the picture cannot be cut that way.
    """
    check_cells(features.shape[-2], cells)
    cells_side = isqrt(cells)
    patches_side = isqrt(features.shape[-2]) // cells_side  # of a cell
    cut = torch.unflatten(features, -2, (cells_side, patches_side, cells_side, patches_side))
    return cut.mean((-4, -2)).flatten(-3, -2)  # of [..., row, y, column, x, W]
