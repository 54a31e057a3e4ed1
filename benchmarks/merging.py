"""Token merging against the vision tower on the same clip, at the published shape.

One clip of 4 frames of 448 px: 23 blocks of 1024 wide, 16 heads, make 3136 patch features, and merging takes those in
float32, whatever the tower's precision, down to 64 (spec §4). Its time is held against the whole tower's, because that
is what a clip costs without it. The two take turns, same threads; the value is the median of the ratios. Where the CPU
multiplies bfloat16 natively (AMX or AVX-512) the tower is measured in that too, and the worse of the two counts;
elsewhere float32 alone.

    python -m benchmarks.merging
"""

import os
import statistics
import sys

import torch

from benchmarks.matmuls import counted_dtypes, in_turns
from benchmarks.models import verdict
from benchmarks.vision import built, pixels
from standwatch.compression.merging import merge
from standwatch.configs.schema import ModelConfig

TARGET = 0.10
ROUNDS = 5


@torch.inference_mode()
def ratio(config: ModelConfig, dtype: torch.dtype) -> float:
    """Time of merging as a share of the tower's."""
    vision = config.vision
    tower, batch = built(vision, dtype), pixels(vision, 1, dtype)
    features, target = tower(batch), vision.frames_per_clip * config.tokens_per_frame
    works = {"tower": lambda: tower(batch), "merging": lambda: merge(features.float(), vision.heads, target)}
    spent = in_turns(works, ROUNDS)
    value = statistics.median(ours / whole for ours, whole in zip(spent["merging"], spent["tower"], strict=True))
    middle = {name: 1000 * statistics.median(seconds) for name, seconds in spent.items()}
    print(f"{features.shape[1]} patches to {target} tokens, tower in {dtype}: "
          f"tower {middle['tower']:.0f} ms, merging {middle['merging']:.1f} ms, {value:.4f}", flush=True)  # fmt: skip
    return value


def main() -> int:
    """Print what was measured; 1 when it is short of the target."""
    torch.set_num_threads(os.cpu_count() or 1)
    value = max(ratio(ModelConfig(), dtype) for dtype in counted_dtypes())
    return 0 if verdict("merging", value, TARGET, at_least=False, digits=4) else 1


if __name__ == "__main__":
    sys.exit(main())
