"""How much of the machine the demo's model takes: 4 live feeds at 2 frames per second with the demo's questions.

`demo_load`: seconds of all cores that the model needs for a second of live video, in one process with as many threads
as cores: every clip of 4 frames of every feed as it is complete, all feeds together, and every yes/no question of the
demo about all 4 feeds each time it is due, windows of 8 s. At most two thirds may go, so that decoding, Ray and the
disk have a third. What is measured is the worker's own code (`Inference`); frames are noise, whose content costs the
same as any. The first half of a segment is not counted, so that segments are as long as in a feed that goes on.

Beside it, without a target, what each part does alone: frames per second of the vision tower with projector, frames
per second of LP-Comp (each frame goes through two half-overlapping segments), questions per second on cached segments;
and, on a machine where the demo samples fewer frames, the load at that pace.

    python -m benchmarks.demo_speed
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib.resources import files

import numpy as np
import torch

from benchmarks.matmuls import in_turns
from benchmarks.models import PREFIX, rows, verdict
from benchmarks.questions import ROWS, SHARED, TEXT, WHOLE
from standwatch.actors.freed_memory import give_back
from standwatch.actors.inference import Inference
from standwatch.actors.topology import LARGE_TENSOR
from standwatch.actors.tuned_weights import demo_settings, make_tuned, quick_dtype
from standwatch.compression.asking import Inquiry, ask
from standwatch.compression.checkpoint import load_model
from standwatch.compression.frame_selection import relevant_layers
from standwatch.compression.packing import pack
from standwatch.configs.load import load_config
from standwatch.configs.schema import StandwatchConfig
from standwatch.pipeline.queries import parse_queries
from standwatch.pipeline.types import (
    Clip,
    QueryKind,
    ReadRequest,
    SourceOffset,
    StandingQuery,
    TokenBatch,
    Window,
    WindowTokens,
)

FEEDS, FPS, CLIP, SIDE = 4, 2, 4, 224
SECONDS, WARM_UP = 96, 48
SEGMENT, QUESTIONS = 48, 3  # frames, and yes/no questions of a feed
TARGET = 2 / 3


def main() -> int:
    """Print what was measured; 1 when the load is too high."""
    cores = os.cpu_count() or 1
    tuned = make_tuned(lambda what, done, total: None)
    settings = [*demo_settings(tuned, quick_dtype()), f"model.threads={cores}"]
    own = load_config("demo", None, settings)
    config = load_config("demo", None, [*settings, f"decode.sample_fps={FPS}"])
    give_back(LARGE_TENSOR)  # as the worker does
    torch.set_num_threads(cores)
    parts(config)
    load = live(config)
    if own != config:
        print(f"at the pace of the demo on this machine: {live(own):.3f}")
    return 0 if verdict("demo_load", load, TARGET, at_least=False, digits=3) else 1


@torch.inference_mode()
def parts(config: StandwatchConfig) -> None:
    """Print how fast each part is alone."""
    loaded = load_model(config.model).model
    pack(loaded)
    decoder = loaded.decoder
    pixels = torch.randn(FEEDS, CLIP, 3, SIDE, SIDE).to(decoder.embed_tokens.weight)
    prefix, video = rows(decoder, PREFIX), rows(decoder, SEGMENT, loaded.config.tokens_per_frame)
    empty = [decoder.empty(loaded.lpcomp_schedule, prefix, SEGMENT)] * (2 * FEEDS)

    def appended() -> None:
        caches = empty
        for clip in torch.split(video, CLIP):
            caches = decoder.append(caches, [clip] * len(caches)).caches

    cache = decoder.prefill(loaded.lpcomp_schedule, prefix, video)
    inquiry = Inquiry(cache, rows(decoder, SHARED), (rows(decoder, TEXT - SHARED),) * QUESTIONS, (ROWS,) * QUESTIONS)
    layers = relevant_layers(decoder.config.layers)
    works: dict[str, Callable[[], object]] = {
        "vision and projector, frames/s": lambda: loaded.compress(pixels),
        "LP-Comp, frames/s": appended,
        "questions/s": lambda: ask(decoder, [inquiry] * FEEDS, layers, WHOLE),
    }
    counts = FEEDS * CLIP, FEEDS * SEGMENT, FEEDS * QUESTIONS
    for count, (what, seconds) in zip(counts, in_turns(works, 5).items(), strict=True):
        print(f"{what}: {count / statistics.median(seconds):.1f}", flush=True)


def live(config: StandwatchConfig) -> float:
    """Seconds of computing for each second of video."""
    fps = round(config.decode.sample_fps)
    model = Inference(config.model, config.reading, fps)
    text = (files("standwatch.configs") / "demo-queries.yaml").read_text(encoding="utf-8")
    queries = [one for one in parse_queries(text, "demo-queries.yaml") if one.kind is QueryKind.YES_NO]
    chance = np.random.default_rng(0)
    held: dict[str, list[TokenBatch]] = {f"camera{number}": [] for number in range(FEEDS)}
    clip_s = CLIP // fps
    counted = asked = 0.0
    for second in range(0, SECONDS, clip_s):
        clips = [_clip(feed, second * 1000, fps, chance) for feed in held]
        began = time.perf_counter()
        for batch in model.compress(clips):
            held[batch.feed_id].append(batch)
        until = (second + clip_s) * 1000
        due = tuple(one for one in queries if until // one.every_ms > (until - clip_s * 1000) // one.every_ms)
        requests = [_request(batches, until, due) for batches in held.values() if due and second >= WARM_UP // 2]
        if requests:
            model.read(requests)
        if second >= WARM_UP:
            counted += time.perf_counter() - began
            asked += sum(len(one.queries) for one in requests)
    spell = SECONDS - WARM_UP
    print(
        f"{FEEDS} feeds at {fps} frames/s, {asked / spell:.1f} questions/s: {counted:.1f} s of computing in {spell} s"
    )
    return counted / spell


def _clip(feed: str, start_ms: int, fps: int, chance: np.random.Generator) -> Clip:
    times = start_ms + np.arange(CLIP, dtype=np.int64) * (1000 // fps)
    frames = chance.integers(0, 256, (CLIP, SIDE, SIDE, 3), dtype=np.uint8)
    return Clip(feed, SourceOffset("chunks", 0, start_ms), times, np.zeros(CLIP, np.int64), frames, ())


def _request(batches: list[TokenBatch], until_ms: int, queries: tuple[StandingQuery, ...]) -> ReadRequest:
    window = Window(until_ms - queries[0].window_ms, until_ms)
    times = np.concatenate([batch.frame_ms for batch in batches])
    memory = WindowTokens(
        batches[0].feed_id,
        Window(int(times[0]), until_ms),
        "chunks",
        0,
        times,
        np.concatenate([batch.frame_offset for batch in batches]),
        np.concatenate([batch.tokens for batch in batches]),
        batches[0].token_space,
    )
    return ReadRequest(memory, window, queries)


if __name__ == "__main__":
    sys.exit(main())
