"""LP-Comp's prefill against its own products alone, against no compression, and against appending clip by clip.

`lpcomp`: 576 frames of 16 tokens behind a prefix, in one go, against a bare loop (`benchmarks/matmuls.py`) with the
same products and attention calls: for each of the 28 layers, at the rows which that layer has, queries, keys, values,
one causal attention call, its projection, and the three products of the MLP. The loop has no norm, rotation, gate,
residual, bias, dropped token and no cache; so 1 cannot be reached by writing the rest better.

`lpcomp_gain`: the same prefill against the same decoder under a schedule that keeps all 16 tokens in every layer. The
speed-up is held against the ratio of the two FLOP counts (products and the causal half of attention).

`append_lpcomp`: a segment of 64 frames appended in 8 calls of 8, the clips that are scored, against one call.
`append_576` is the same for 576 frames in 72 calls. The same rows pass through the same layers; what may differ is how
well 8 to 128 rows use the machine, for which every weight is read again, beside 64 to 1,024 and more. In calls of 4,
the clips that the vision tower takes, it has no target. Clips of many feeds in one call do not pay this (`feeds`).
`products_append` has none either: the ratio that append_lpcomp would have if there were nothing but the matrix products
of the decoder's layers, in a bare loop.

`state_bytes`: bytes of keys and values for each frame of a segment's storage, at the published shape in 2-byte
precision, without the prefix: 231 rows, the sum of the schedule.

float32 counts; bfloat16 is printed where the CPU multiplies it natively. All in turns, same threads; medians.

    python -m benchmarks.lpcomp
"""

import os
import statistics
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.matmuls import Product, bare_loop, counted_dtypes, in_turns
from benchmarks.models import PREFIX, PUBLISHED, flops, model, prefill_calls, rows, schedule, verdict
from standwatch.compression.lpcomp import Decoder
from standwatch.compression.schedule import Schedule
from standwatch.compression.videocache import VideoCache

WIDTH = 384
FRAMES, SEGMENT, CLIP, SEEN = 576, 64, 8, 4


def rows_by_layer(kept: Schedule, frames: int) -> list[int]:
    return [PREFIX + frames * n for n in kept.tokens_by_layer]


def by_clips(decoder: Decoder, prefix: Tensor, video: Tensor, frames: int) -> VideoCache:
    """The video's cache, made so many frames at a time in storage for all of it."""
    cache = decoder.empty(schedule(), prefix, len(video))
    for clip in torch.split(video, frames):
        cache = decoder.append([cache], [clip]).caches[0]
    return cache


def uncompressed() -> Schedule:
    """All tokens of every frame in every layer."""
    return Schedule((schedule().kept[0],) * len(schedule().kept))


@torch.inference_mode()
def prefills(decoder: Decoder, rounds: int, *, plain: bool) -> dict[str, float]:
    """Share of the bare loop's speed, and of the FLOP ratio's speed-up if the plain decoder runs too."""
    config, dtype = decoder.config, decoder.embed_tokens.weight.dtype
    prefix, video = rows(decoder, PREFIX), rows(decoder, FRAMES, PUBLISHED.tokens_per_frame)
    calls, all_calls = (prefill_calls(config, rows_by_layer(kept, FRAMES)) for kept in (schedule(), uncompressed()))
    works: dict[str, Callable[[], object]] = {
        "bare": bare_loop(calls, dtype),
        "prefill": lambda: decoder.prefill(schedule(), prefix, video),
    }
    if plain:
        works["plain"] = lambda: decoder.prefill(uncompressed(), prefix, video)
    spent = in_turns(works, rounds)
    for name, seconds in spent.items():
        print(f"{FRAMES} frames, {dtype}, {name}: {statistics.median(seconds):.2f} s", flush=True)
    found = {"lpcomp": _median_ratio(spent, "bare", "prefill")}
    if plain:
        speedup, of_flops = _median_ratio(spent, "plain", "prefill"), flops(all_calls) / flops(calls)
        print(f"compression: {speedup:.2f} times as fast, {of_flops:.2f} times fewer FLOP")
        found["lpcomp_gain"] = speedup / of_flops
    return found


@torch.inference_mode()
def appending(decoder: Decoder, frames: int, clip: int, rounds: int) -> float:
    """Time for clips of so many frames, one after the other, over the time in one go."""
    prefix, video = rows(decoder, PREFIX), rows(decoder, frames, PUBLISHED.tokens_per_frame)
    works = {
        "clips": lambda: by_clips(decoder, prefix, video, clip),
        "one go": lambda: decoder.prefill(schedule(), prefix, video),
    }
    spent = in_turns(works, rounds)
    middle = {name: statistics.median(seconds) for name, seconds in spent.items()}
    print(f"{frames} frames: {clip} at a time {middle['clips']:.3f} s, in one go {middle['one go']:.3f} s", flush=True)
    return _median_ratio(spent, "clips", "one go")


@torch.inference_mode()
def appending_products(decoder: Decoder, frames: int, clip: int, rounds: int) -> float:
    """The same ratio of the bare products alone."""
    later = [clip * n for n in schedule().tokens_by_layer]
    each = [rows_by_layer(schedule(), clip), *[later] * (frames // clip - 1)]
    dtype = decoder.embed_tokens.weight.dtype

    def loop(passes: list[list[int]]) -> Callable[[], None]:
        calls = [call for counts in passes for call in prefill_calls(decoder.config, counts)]
        return bare_loop([call for call in calls if isinstance(call, Product)], dtype)

    works = {"clips": loop(each), "one go": loop([rows_by_layer(schedule(), frames)])}
    return _median_ratio(in_turns(works, rounds), "clips", "one go")


def _median_ratio(spent: dict[str, list[float]], over: str, under: str) -> float:
    return statistics.median(a / b for a, b in zip(spent[over], spent[under], strict=True))


def state_kib() -> float:
    """KiB of storage for each frame of an open segment of the published shape."""
    prefix = torch.empty(PREFIX, PUBLISHED.language.width, dtype=torch.float16, device="meta")
    sizes = [VideoCache.empty(PUBLISHED.language, schedule(), prefix, capacity).nbytes for capacity in (SEGMENT, 1)]
    return (sizes[0] - sizes[1]) / (SEGMENT - 1) / 1024


def main() -> int:
    """Print what was measured; 1 when a figure is short of its target."""
    torch.set_num_threads(os.cpu_count() or 1)
    decoder = model(WIDTH).decoder
    ratios = {frames: appending(decoder, frames, CLIP, rounds) for frames, rounds in ((SEGMENT, 15), (FRAMES, 2))}
    print(f"products_append {appending_products(decoder, SEGMENT, CLIP, 15):.2f}: has no target")
    print(f"{SEEN} at a time {appending(decoder, SEGMENT, SEEN, 15):.2f}: has no target")
    found = prefills(decoder, 3, plain=True)
    for dtype in counted_dtypes()[1:]:
        share = prefills(decoder.to(dtype), 3, plain=False)["lpcomp"]
        print(f"{dtype}: {share:.3f} of the bare loop's speed; does not count")
    good = [
        verdict("lpcomp", found["lpcomp"], 0.85, at_least=True, digits=3),
        verdict("lpcomp_gain", found["lpcomp_gain"], 0.9, at_least=True, digits=3),
        verdict("append_lpcomp", ratios[SEGMENT], 1.3, at_least=False),
        verdict("append_576", ratios[FRAMES], 1.3, at_least=False),
        verdict("state_bytes", state_kib(), 231, at_least=False),
    ]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
