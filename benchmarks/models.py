"""Decides what the figures of LP-Comp and of questions are taken on: the 2B proportions at reduced width.

Every width is the published one times `width / 1536`: decoder, key and value heads, MLP, vocabulary, vision tower. What
counts things stays: 28 layers, 6 query heads to a key head, 16 tokens per frame, 14 rows of prefix, 23 blocks, 784
patches per frame. Heads are 64 wide throughout, as the tower's are; the published decoder's are 128. So attention
weighs more beside the products than at full width, by the factor of the reduction. Weights and tokens are random.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.matmuls import Attention, Product
from standwatch.compression.lpcomp import Decoder
from standwatch.compression.schedule import SUFFIX, Schedule, runnable_schedule
from standwatch.compression.xcomp import XComp, build
from standwatch.configs.schema import LanguageConfig, ModelConfig, VisionConfig

PREFIX = 14
PUBLISHED = ModelConfig()
HEAD_DIM = 64


def reduced(width: int, dtype: torch.dtype = torch.float32) -> ModelConfig:
    """The published shape with a decoder of that width, a multiple of 384."""
    language, vision = PUBLISHED.language, PUBLISHED.vision

    def scaled(size: int) -> int:
        assert size * width % language.width == 0, "the width must keep every proportion"
        return size * width // language.width

    return ModelConfig(
        vision=VisionConfig(
            width=scaled(vision.width), heads=scaled(vision.width) // HEAD_DIM, mlp_width=scaled(vision.mlp_width)
        ),
        language=LanguageConfig(
            width=width,
            mlp_width=scaled(language.mlp_width),
            heads=width // HEAD_DIM,
            kv_heads=scaled(language.kv_heads * language.head_dim) // HEAD_DIM,
            head_dim=HEAD_DIM,
            vocab=scaled(language.vocab),
        ),
        dtype=str(dtype).removeprefix("torch."),
    )


def model(width: int, dtype: torch.dtype = torch.float32) -> XComp:
    return build(reduced(width, dtype))


def schedule() -> Schedule:
    """The published one."""
    return runnable_schedule(PUBLISHED.language.layers, PUBLISHED.tokens_per_frame, SUFFIX)


def rows(decoder: Decoder, *shape: int) -> Tensor:
    """Random rows [*shape, D] of the size that embedded words and projected frames have after a norm."""
    weight = decoder.embed_tokens.weight
    return torch.randn(*shape, decoder.config.width).to(weight)


def prefill_calls(config: LanguageConfig, rows_by_layer: Sequence[int]) -> list[Product | Attention]:
    """All products and attention calls of a causal pass in which layer l has rows_by_layer[l] rows."""
    width, query_width = config.width, config.heads * config.head_dim
    calls: list[Product | Attention] = []
    for count in rows_by_layer:
        calls += [
            Product(count, width, query_width),
            *[Product(count, width, config.kv_heads * config.head_dim)] * 2,
            Attention(config.heads, count, count, config.head_dim, causal=True),
            Product(count, query_width, width),
            *[Product(count, width, config.mlp_width)] * 2,
            Product(count, config.mlp_width, width),
        ]
    return calls


def flops(calls: Sequence[Product | Attention]) -> int:
    """Two for each multiplication; of a causal call, the half of the products that it needs, with the diagonal."""
    return sum(_flops(call) for call in calls)


def _flops(call: Product | Attention) -> int:
    if isinstance(call, Product):
        return 2 * call.rows * call.inner * call.outer
    seen = call.queries * (call.queries + 1) // 2 if call.causal else call.queries * call.keys
    return 4 * call.heads * call.head_dim * seen


def verdict(name: str, value: float, target: float, *, at_least: bool, digits: int = 2) -> bool:
    """Print a figure's line; whether it reaches its target."""
    reached = value >= target if at_least else value <= target
    wanted = f"{'>=' if at_least else '<='}{target:g}"
    print(f"{name} {value:.{digits}f} target {wanted} {'ok' if reached else 'short'}", flush=True)
    return reached
