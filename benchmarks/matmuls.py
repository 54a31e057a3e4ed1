"""The limit that the model's figures are held against: matrix products and attention calls alone, in a bare loop.

A product is `torch.mm(x, w.T, out=y)`: no bias, no activation, nothing allocated; each has a weight matrix of its own,
laid out as `nn.Linear` keeps it. An attention call is PyTorch's `scaled_dot_product_attention` on contiguous queries,
keys and values. Inputs are random and never change: what one call computes is not what the next one reads.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from standwatch.actors.tuned_weights import quick_dtype


@dataclass(frozen=True)
class Product:
    """[rows, inner] times [inner, outer]."""

    rows: int
    inner: int
    outer: int


@dataclass(frozen=True)
class Attention:
    """In each head, `queries` rows look at `keys` rows. Clips of a batch count as further heads.

    A causal call has as many queries as keys; PyTorch's own flag aligns others to the wrong end.
    """

    heads: int
    queries: int
    keys: int
    head_dim: int
    causal: bool

    def __post_init__(self) -> None:
        if self.causal and self.queries != self.keys:
            raise ValueError(f"causal: needs as many queries as keys, got {self.queries} and {self.keys}")


def bare_loop(calls: Sequence[Product | Attention], dtype: torch.dtype) -> Callable[[], None]:
    """A function that makes all the calls once, in their order. Activations of equal shape share their memory."""
    activations: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def activation(role: str, *shape: int) -> Tensor:
        if (role, shape) not in activations:
            activations[role, shape] = torch.randn(shape).to(dtype)
        return activations[role, shape]

    def product(call: Product) -> Callable[[], object]:
        rows, result = activation("rows", call.rows, call.inner), activation("result", call.rows, call.outer)
        weight = (torch.randn(call.outer, call.inner) * call.inner**-0.5).to(dtype)
        return lambda: torch.mm(rows, weight.T, out=result)

    def attention(call: Attention) -> Callable[[], object]:
        query = activation("query", 1, call.heads, call.queries, call.head_dim)
        key, value = (activation(role, 1, call.heads, call.keys, call.head_dim) for role in ("key", "value"))
        return lambda: F.scaled_dot_product_attention(query, key, value, is_causal=call.causal)

    steps = [product(call) if isinstance(call, Product) else attention(call) for call in calls]

    @torch.inference_mode()
    def run() -> None:
        for step in steps:
            step()

    return run


def in_turns(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each work in each round, after one that is not counted. Each round goes through them the other way."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name in list(works)[:: 1 if turn % 2 else -1]:
            begin = time.perf_counter()
            works[name]()
            spent[name].append(time.perf_counter() - begin)
    return {name: seconds[1:] for name, seconds in spent.items()}


def counted_dtypes() -> tuple[torch.dtype, ...]:
    """The precisions that figures are taken in: float32, and bfloat16 where the CPU multiplies it natively."""
    return (torch.float32, torch.bfloat16) if quick_dtype() == "bfloat16" else (torch.float32,)
