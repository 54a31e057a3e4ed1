"""Decides how a compressed frame becomes one readable token: from inside the decoder to its input space (DESIGN §1).

The last layer is no place to read from: there a frame's last token prepares the next word. What a third of the layers
leave of a frame is some tokens yet, each of a part of it. All go through the same hidden layer, and what is loudest
there in any of them is kept: a mean would blur one thing with another, and which is where
(standwatch/weights/README.md).
"""

from torch import Tensor, nn

from standwatch.compression.cells import Standard
from standwatch.compression.schedule import Schedule

_PART = 3  # of the layers one in so many runs


def readable(schedule: Schedule) -> Schedule:
    """LP-Comp as far as frames go through it to be read."""
    return schedule.first(max(1, schedule.layers // _PART))


class Readout(nn.Module):
    """What LP-Comp leaves of a frame behind the layers of `readable` -> one soft token of the model's input space."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.standard = Standard(width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), _Loudest(), nn.Linear(width, width))

    def forward(self, states: Tensor) -> Tensor:
        """[..., n, D], normed as before the head -> [..., 1, D]."""
        token: Tensor = self.mlp(self.standard(states))
        return token


class _Loudest(nn.Module):
    """Of some tokens' channels the largest, [..., n, D] -> [..., 1, D] (as PointNet reads a set, arXiv 1612.00593)."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.amax(-2, keepdim=True)
