"""Sixteen feeds in one batch against feed by feed: their next clips, and one question of each.

Every feed's open segment has another length, 4 to 60 frames. `feeds_16`: a clip of 4 frames appended to each, all in
one call, against a call for each. `questions_feeds_16`: a question of 50 rows about each segment, likewise. Speed-up;
never slower is the target on a CPU, where the gain is that weights are read once for all. No GPU was at hand.
2B proportions at reduced width, float32, same threads, in turns; medians.

    python -m benchmarks.feeds
"""

import os
import statistics
import sys

import torch

from benchmarks.matmuls import in_turns
from benchmarks.models import PREFIX, PUBLISHED, model, rows, schedule, verdict
from benchmarks.questions import LAYERS, ROWS, SHARED, TEXT, WHOLE
from standwatch.compression.asking import Inquiry, ask
from standwatch.compression.lpcomp import Decoder
from standwatch.compression.videocache import VideoCache

WIDTH = 384
FEEDS, SEGMENT, CLIP = 16, 64, 4


def segments(decoder: Decoder) -> list[VideoCache]:
    """Open segments of all feeds, each with room for one clip more."""
    prefix = rows(decoder, PREFIX)
    found = []
    for feed in range(FEEDS):
        video = rows(decoder, min(CLIP * (feed + 1), SEGMENT - CLIP), PUBLISHED.tokens_per_frame)
        empty = decoder.empty(schedule(), prefix, SEGMENT)
        found.append(decoder.append([empty], [video]).caches[0])
    return found


@torch.inference_mode()
def main() -> int:
    """Print what was measured; 1 when a figure is short of its target."""
    torch.set_num_threads(os.cpu_count() or 1)
    decoder = model(WIDTH).decoder
    caches = segments(decoder)
    clips = [rows(decoder, CLIP, PUBLISHED.tokens_per_frame) for _ in caches]
    shared = rows(decoder, SHARED)
    asked = [Inquiry(cache, shared, (rows(decoder, TEXT - SHARED),), (ROWS,)) for cache in caches]
    spent = in_turns(
        {
            "clips together": lambda: decoder.append(caches, clips),
            "clips alone": lambda: [decoder.append([cache], [clip]) for cache, clip in zip(caches, clips, strict=True)],
            "questions together": lambda: ask(decoder, asked, LAYERS, WHOLE),
            "questions alone": lambda: [ask(decoder, [one], LAYERS, WHOLE) for one in asked],
        },
        5,
    )
    middle = {name: statistics.median(seconds) for name, seconds in spent.items()}
    print(", ".join(f"{name} {seconds:.3f} s" for name, seconds in middle.items()), flush=True)
    good = [
        verdict("feeds_16", middle["clips alone"] / middle["clips together"], 1, at_least=True),
        verdict("questions_feeds_16", middle["questions alone"] / middle["questions together"], 1, at_least=True),
    ]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
