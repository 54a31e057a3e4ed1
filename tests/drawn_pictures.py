"""Pictures that come out the same everywhere, drawn with whole numbers only."""

import numpy as np
import numpy.typing as npt


def pictures(side: int = 224) -> npt.NDArray[np.uint8]:
    """Two pictures uint8 [2, side, side, 3]: discs on a slope of grey, and a chequered floor under a coloured sky."""
    y, x = np.mgrid[:side, :side].astype(np.int64)
    discs = np.stack([(x + y) * 96 // side] * 3, -1)
    for row, column, radius, colour in (
        (70, 60, 40, (220, 40, 30)),
        (150, 160, 50, (30, 90, 210)),
        (60, 180, 25, (250, 220, 40)),
    ):
        discs[(y - row) ** 2 + (x - column) ** 2 < radius**2] = colour
    floor = np.stack([40 + y // 2, 90 + x // 3, 230 - y // 2], -1)
    below = y >= side // 2
    chequer = ((x // 28 + (y - side // 2) // 16) % 2 * 160 + 40)[..., None]
    floor = np.where(below[..., None], chequer, floor)
    return np.stack([discs, floor]).astype(np.uint8)
