"""The vision tower against its own matrix products and attention calls alone, at the published shape.

The limit is a bare loop (`benchmarks/matmuls.py`) with, for one clip of 4 frames of 448 px: the patch embedding's
product [3136, 768] x [768, 1024], and for each block one product for query, key and value together (1024 to 3072), one
attention call (16 heads, 3136 tokens, 64 wide, not causal), the projection (1024 to 1024) and the two products of the
MLP (1024 to 4096 to 1024). It has no bias, norm, GELU, residual, position or check of the pixels, and allocates nothing
but what attention returns; its attention reads contiguous heads, which the tower's fused product does not give.
So 1 cannot be reached by writing the rest better, only by giving it away.

Tower and loop take turns, same threads, same dtype; the value is the median of the ratios of their speeds. Only
`BLOCKS` of the 23 blocks are built: all are alike, and what the tower does once per clip weighs more, not less.
Where the CPU multiplies bfloat16 natively (AMX or AVX-512), that is measured too, and the worse of the two counts;
elsewhere float32 alone. The demo model's tower is printed beside it and does not count.

    python -m benchmarks.vision
"""

import os
import statistics
import sys

import torch

from benchmarks.matmuls import Attention, Product, bare_loop, counted_dtypes, in_turns
from benchmarks.models import verdict
from standwatch.compression.packing import pack
from standwatch.compression.vision import VisionTower
from standwatch.configs.load import load_config
from standwatch.configs.schema import VisionConfig

TARGET = 0.85
BLOCKS = 2
ROUNDS = {torch.float32: 15, torch.bfloat16: 31}


def calls(config: VisionConfig, clips: int) -> list[Product | Attention]:
    """What the tower multiplies for a batch of whole clips."""
    tokens, width = config.frames_per_clip * config.patches_per_frame, config.width
    rows = clips * tokens
    block: list[Product | Attention] = [
        Product(rows, width, 3 * width),
        Attention(clips * config.heads, tokens, tokens, width // config.heads, causal=False),
        Product(rows, width, width),
        Product(rows, width, config.mlp_width),
        Product(rows, config.mlp_width, width),
    ]
    return [Product(rows, 3 * config.patch_px**2, width), *block * config.blocks]


def built(config: VisionConfig, dtype: torch.dtype) -> VisionTower:
    """As workers run it: packed."""
    torch.manual_seed(0)
    tower = VisionTower(config).to(dtype).eval().requires_grad_(False)
    pack(tower)
    return tower


def pixels(config: VisionConfig, clips: int, dtype: torch.dtype) -> torch.Tensor:
    side = config.image_px
    return torch.randn(clips, config.frames_per_clip, 3, side, side).to(dtype)


@torch.inference_mode()
def ratio(config: VisionConfig, clips: int, dtype: torch.dtype) -> float:
    """Speed of the tower as a share of the bare loop's."""
    tower, batch = built(config, dtype), pixels(config, clips, dtype)
    works = {"bare": bare_loop(calls(config, clips), dtype), "tower": lambda: tower(batch)}
    spent = in_turns(works, ROUNDS[dtype])
    value = statistics.median(bare / ours for bare, ours in zip(spent["bare"], spent["tower"], strict=True))
    middle = {name: 1000 * statistics.median(seconds) for name, seconds in spent.items()}
    print(f"{config.width} wide, {config.image_px} px, {config.blocks} blocks, {clips} clips at once, {dtype}: "
          f"bare loop {middle['bare']:.0f} ms, tower {middle['tower']:.0f} ms, {value:.3f}", flush=True)  # fmt: skip
    return value


def main() -> int:
    """Print what was measured; 1 when it is short of the target."""
    torch.set_num_threads(os.cpu_count() or 1)
    published, demo = VisionConfig(blocks=BLOCKS), load_config("demo", None, []).model.vision
    for dtype in counted_dtypes():
        ratio(demo, 2, dtype)
    value = min(ratio(published, 1, dtype) for dtype in counted_dtypes())
    return 0 if verdict("vision", value, TARGET, at_least=True, digits=3) else 1


if __name__ == "__main__":
    sys.exit(main())
