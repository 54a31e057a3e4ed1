"""Decides which matrix products take the step after them along: those in bfloat16 on a CPU with AVX-512.

There a product is so fast that writing its result and reading it again for the next step is a noticeable part of the
whole; oneDNN applies the step while the result is still in the cache. In float32 PyTorch's own products (MKL) are
faster than oneDNN's by more than the step costs, so nothing is fused. On a GPU the plain steps are used.
The operators are those of PyTorch's compiled code (Inductor); they have no public name and no gradient.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

AVX512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise")  # not in every build of PyTorch


def linear_gelu(rows: Tensor, linear: nn.Linear) -> Tensor:
    """The exact (erf) GELU of `linear(rows)`."""
    if _fuses(rows) and type(linear) is nn.Linear:  # what learns has additions, which are no part of its weight
        fused: Tensor = torch.ops.mkldnn._linear_pointwise(rows, linear.weight, linear.bias, "gelu", [], "none")
        return fused
    inner: Tensor = linear(rows)
    # In place where nobody looks back: a second result of this size costs more in fresh memory than its arithmetic.
    return F.gelu(inner) if torch.is_grad_enabled() else torch.ops.aten.gelu_(inner)


def linear_plus(rows: Tensor, linear: nn.Linear, residual: Tensor) -> Tensor:
    """`residual + linear(rows)`, a new tensor."""
    if _fuses(rows):
        fused: Tensor = torch.ops.mkldnn._linear_pointwise.binary(rows, residual, linear.weight, linear.bias, "add")
        return fused
    added: Tensor = residual + linear(rows)
    return added


def linear_biased(rows: Tensor, linear: nn.Linear, bias: Tensor) -> Tensor:
    """`linear(rows)` with a bias that the layer does not hold."""
    if _fuses(rows):
        fused: Tensor = torch.ops.mkldnn._linear_pointwise(rows, linear.weight, bias, "none", [], "")
        return fused
    return F.linear(rows, linear.weight, bias)


def is_quick(tensor: Tensor) -> bool:
    """Whether oneDNN multiplies what is of this tensor's device and precision faster than anything else."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.bfloat16 and AVX512 and ONEDNN


def _fuses(rows: Tensor) -> bool:
    return is_quick(rows) and not torch.is_grad_enabled()
