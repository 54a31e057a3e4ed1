"""Decides how a model learns without changing what it was: additions of low rank (LoRA, arXiv 2106.09685).

Every linear layer of the layers that learn gets one. What is released of a tuned model is these additions alone, some
megabytes; whoever has the base model adds them to its weights once and has an ordinary model.
"""

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SCALE = 2.0  # of what is added, so that one learning rate serves the additions and all else
_DOWN, _UP = ".down", ".up"


class Adapted(nn.Module):
    """A frozen linear layer and its addition: x W' + scale * x down' up'. It adds nothing until `up` has learnt.

    The addition is kept in float32, whatever the layer is in: its steps are smaller than what bfloat16 can tell.
    """

    def __init__(self, linear: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        down = torch.empty(rank, linear.in_features).normal_(0, linear.in_features**-0.5, generator=generator)
        self.down = nn.Parameter(down.to(linear.weight.device))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank, device=linear.weight.device))

    def forward(self, rows: Tensor) -> Tensor:
        low = F.linear(rows, self.down.to(rows.dtype))
        added: Tensor = self.linear(rows) + F.linear(low, self.up.to(rows.dtype) * _SCALE)
        return added


def adapt(model: nn.Module, layers: Iterable[nn.Module], rank: int, seed: int) -> None:
    """Give every linear layer of these layers of a model an addition, and freeze all else of it.

    The model computes the same as before. Raises ValueError for a rank below 1.
    """
    if rank < 1:
        raise ValueError(f"rank: {rank} must be at least 1")
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for layer in layers:
        for module in list(layer.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Linear) and not isinstance(module, Adapted):
                    setattr(module, name, Adapted(child, rank, generator))


def additions(model: nn.Module) -> dict[str, Tensor]:
    """What was learnt: by the name of the linear layer's weight, with `.down` and `.up` behind it."""
    return {name: tensor.detach() for name, tensor in _learning(model).items()}


def restore(model: nn.Module, learnt: Mapping[str, Tensor]) -> None:
    """Put `additions` back into an adapted model. Raises ValueError unless they are those of this model."""
    own = _learning(model)
    if {name: tensor.shape for name, tensor in own.items()} != {name: one.shape for name, one in learnt.items()}:
        raise ValueError("additions: they are of another model, or of another rank")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(learnt[name])


def merged(weights: Mapping[str, Tensor], learnt: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the base model with the additions in them, each in the precision it had.

    Raises ValueError naming an addition that does not fit.
    """
    found = dict(weights)
    for name in sorted(name.removesuffix(_DOWN) for name in learnt if name.endswith(_DOWN)):
        up, down = learnt.get(name + _UP), learnt[name + _DOWN]
        if name not in weights or up is None or (len(up), down.shape[1]) != tuple(weights[name].shape):
            raise ValueError(f"additions: {name} does not fit the base model's weights; use the base they were made on")
        found[name] = (weights[name].float() + _SCALE * up.float() @ down.float()).to(weights[name].dtype)
    if len(learnt) != 2 * sum(name.endswith(_DOWN) for name in learnt):
        raise ValueError("additions: some are neither '.down' nor '.up' of a weight; the file is of another kind")
    return found


def _learning(model: nn.Module) -> dict[str, nn.Parameter]:
    found: dict[str, nn.Parameter] = {}
    for name, module in model.named_modules():
        if isinstance(module, Adapted):
            found |= {f"{name}.weight{_DOWN}": module.down, f"{name}.weight{_UP}": module.up}
    return found
