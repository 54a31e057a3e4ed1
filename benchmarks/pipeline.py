"""Four feeds through everything on Ray against the bare compressor in a loop: same frames, same threads.

The threads are as many as the machine has cores, so that decoding, Ray and the disk take their time from the very
cores the model runs on. Everything: spool, ffmpeg, sampling, thumbnails, Ray's object store, compression, durable
memory. The bare loop gets the very same clips, already decoded and in memory, and does nothing but compress them.
Both use one process of the model. The pipeline's time runs from the first durable frames to the last (starting Ray
and loading the model are not in it); the bare loop is timed before and after it, and the mean counts.
"""

import os
import tempfile
import time
from pathlib import Path

from benchmarks.workload import configuration, publish_feeds
from standwatch.actors.freed_memory import give_back
from standwatch.actors.inference import Inference
from standwatch.actors.topics import open_source
from standwatch.actors.topology import LARGE_TENSOR, SystemStatus, start
from standwatch.configs.schema import StandwatchConfig
from standwatch.pipeline.clock import now_ms
from standwatch.pipeline.decode import ChunkDecoder
from standwatch.pipeline.flow import IngestFlow
from standwatch.pipeline.types import Clip, Rewind

FEEDS, TARGET = 4, 0.85
THREADS = os.cpu_count() or 1


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="standwatch-bench-") as root:
        config = configuration(
            Path(root),
            "flow.shards=1",
            f"model.threads={THREADS}",
            "topics.partitions=4",
            "memory.commit_ms=250",
        )
        publish_feeds(config, FEEDS)
        clips = decoded(config)
        frames = sum(len(clip.frame_ms) for clip in clips)
        print(f"{FEEDS} feeds, {frames} sampled frames, {THREADS} model threads")
        give_back(LARGE_TENSOR)  # as the worker does
        model = Inference(config.model, config.reading, config.decode.sample_fps)
        before = bare(model, clips, config.flow.batch_clips)
        piped = pipeline(config, frames)
        after = bare(model, clips, config.flow.batch_clips)
    alone = (before + after) / 2
    print(f"bare compressor {before:.2f} and {after:.2f} frames/s, pipeline {piped:.2f} frames/s")
    ratio = piped / alone
    print(f"pipeline {ratio:.3f} target {TARGET} {'ok' if ratio >= TARGET else 'short'}")
    return 0 if ratio >= TARGET else 1


def decoded(config: StandwatchConfig) -> list[Clip]:
    """All clips of the topic, as the Ingestor makes them."""
    source = open_source(config.broker, config.topics, config.topics.chunks)
    source.assign({partition: None for partition in source.partitions()})
    flow = IngestFlow(
        config.topics.chunks,
        config.decode,
        config.flow,
        config.model.vision.frames_per_clip,
        ChunkDecoder(config.decode),
    )
    flow.rewind(Rewind(0, {}, {}))
    clips: list[Clip] = []
    while records := source.poll(config.flow.poll_records, 200):
        clips.extend(flow.take(records, now_ms()).clips)
    clips.extend(flow.flush(now_ms(), everything=True).clips)
    source.close()
    return clips


def bare(model: Inference, clips: list[Clip], batch: int) -> float:
    """Frames per second of the compressor alone."""
    model.forget()
    model.compress(clips[:batch])
    model.forget()
    began = time.perf_counter()
    for first in range(0, len(clips), batch):
        model.compress(clips[first : first + batch])
    return sum(len(clip.frame_ms) for clip in clips) / (time.perf_counter() - began)


def pipeline(config: StandwatchConfig, frames: int) -> float:
    """Frames per second of the whole pipeline, between the first durable frames and the last."""
    seen: list[tuple[float, int]] = []

    def tick(status: SystemStatus) -> bool:
        held = sum(feed.frames for feed in status.feeds)
        if held and (not seen or held > seen[-1][1]):
            seen.append((time.perf_counter(), held))
        return held < frames

    with start(config) as running:
        running.run(until_idle=False, tick=tick, every_s=0.1)
    (t0, first), (t1, last) = seen[0], seen[-1]
    assert last == frames, f"{last} of {frames} frames arrived"
    return (last - first) / (t1 - t0)


if __name__ == "__main__":
    raise SystemExit(main())
