"""Video that is written instead of filmed: records whose payload names the times of their frames, and its decoder."""

import random
from collections.abc import Sequence

import numpy as np

from standwatch.configs.schema import DecodeConfig
from standwatch.pipeline.decode import Decoded, Outcome, Refused
from standwatch.pipeline.types import Chunk, Record, SourceOffset, UInt8Array
from tests.footage_video import record

TOPIC = "video.chunks.v1"
DECODE = DecodeConfig(sample_fps=10.0, thumbnail_side_px=0)
FEEDS = {"a": 0, "b": 0, "c": 1}  # and their partitions


class WrittenDecoder:
    """Reads frames off the payload: `0 100 200` are their times in the chunk, `x2` a width, `bad` a reason.

    Pictures of different times differ.
    """

    def decode(self, feeds: Sequence[Sequence[Chunk]]) -> list[list[Outcome]]:
        return [[self._one(chunk) for chunk in feed] for feed in feeds]

    def _one(self, chunk: Chunk) -> Outcome:
        words = chunk.payload.decode().split()
        if words[0] == "bad":
            return Refused("payload: bad")
        width = next((int(word[1:]) for word in words if word[0] == "x"), 1)
        times = [chunk.start_ms + int(word) for word in words if word[0] != "x"]
        return Decoded(np.array(times, np.int64), tuple(_picture(at, width) for at in times))


def _picture(at_ms: int, width: int) -> UInt8Array:
    return np.full((1, width, 3), (at_ms % 256, at_ms // 256 % 256, at_ms // 65536 % 256), np.uint8)


def written(offset: int, feed: str, start_ms: int, payload: str, duration_ms: int = 1000, partition: int = 0) -> Record:
    at = SourceOffset(TOPIC, partition, offset)
    return record(Chunk(feed, at, start_ms, duration_ms, "video/h264", payload.encode(), offset, 10.0))


def random_records(noise: random.Random) -> list[Record]:
    """Three feeds on two partitions, with gaps, changes of size, damage and clocks that go backwards."""
    clocks = {feed: noise.randrange(5_000) for feed in sorted(FEEDS)}
    offsets = [0, 0]
    records = []
    for _ in range(60):
        feed = noise.choice(sorted(FEEDS))
        partition = FEEDS[feed]
        start_ms = clocks[feed] - (5_000 if noise.random() < 0.05 and clocks[feed] > 6_000 else 0)
        times = sorted(noise.sample(range(1000), noise.randrange(1, 8)))
        payload = "bad" if noise.random() < 0.05 else " ".join([f"x{noise.choice((1, 1, 1, 2))}", *map(str, times)])
        records.append(written(offsets[partition], feed, start_ms, payload, partition=partition))
        offsets[partition] += 1
        clocks[feed] += noise.choice((1000, 1000, 1000, 30_000))
    return records
