"""Decides how a compressed frame becomes readable: from the last layer back to the input space (DESIGN §1)."""

from torch import Tensor, nn


class Readout(nn.Module):
    """Final-layer state of a frame's one token -> a soft token of the language model's input space."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, final: Tensor) -> Tensor:
        """[..., D], normed as before the head -> [..., D]."""
        tokens: Tensor = self.mlp(final)
        return tokens
