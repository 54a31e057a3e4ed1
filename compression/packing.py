"""Decides how weights lie in memory: blocked as oneDNN reads them, for bfloat16 on a CPU with AVX-512.

`nn.Linear` keeps rows, and oneDNN copies them into its own blocks in every product: for the 50 rows of a question that
copy takes as long as the product. A worker never changes its weights, so it blocks them once.
"""

import torch
from torch import Tensor, nn

from standwatch.compression.fusion import is_quick


class Packed(nn.Module):
    """A linear layer for inference, with its weight in blocks; it takes a plain one's place, in `fusion` too."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        # Attributes, not buffers: a blocked weight can be neither saved nor moved.
        self.weight: Tensor = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.out_features = linear.out_features

    def forward(self, rows: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, "none", [], "")
        return product


def pack(model: nn.Module) -> None:
    """Block the weights of a model's linear layers where that is quicker; it cannot be saved, moved or trained then."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and is_quick(child.weight):
                setattr(module, name, Packed(child))
