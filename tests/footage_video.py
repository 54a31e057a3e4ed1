"""Videos for tests: small ones drawn by ffmpeg, the bundled ones, and an independent way to read them."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from standwatch.pipeline.codec import encode_chunk
from standwatch.pipeline.cutting import cut
from standwatch.pipeline.ffmpeg import find_ffmpeg
from standwatch.pipeline.types import Chunk, Record, SourceOffset, UInt8Array

FOOTAGE = Path(__file__).resolve().parents[1] / "standwatch" / "footage"
BUNDLED = ("bottle-detection.mp4", "one-by-one-person-detection.mp4")
START_MS = 1_790_000_000_333
TOPIC = "video.chunks.v1"


@dataclass(frozen=True)
class Shown:
    """One picture of a file and its time in milliseconds since the first."""

    at_ms: int
    pixels: UInt8Array


def draw(path: Path, *options: str, size: str = "64x36", seconds: int = 5) -> Path:
    """Draw a moving test picture at 10 frames/s; without options as H.264 with a key frame a second."""
    encode = options or ("-c:v", "libx264", "-g", "10")
    return convert(path, "-f", "lavfi", "-i", f"testsrc=size={size}:rate=10:duration={seconds}", *encode)


def convert(path: Path, *options: str) -> Path:
    subprocess.run([find_ffmpeg(), "-y", "-v", "error", *options, str(path)], check=True, stdin=subprocess.DEVNULL)
    return path


def chunks(video: Path, feed: str = "camera", **options: int) -> list[Chunk]:
    """The file's chunks as a consumer gets them, at offsets 0, 1, ... of partition 0."""
    cuts = cut(str(video), feed, START_MS, **options)
    return [numbered(chunk, offset) for offset, chunk in enumerate(cuts)]


def numbered(chunk: Chunk, offset: int) -> Chunk:
    at = SourceOffset(TOPIC, 0, offset)
    return Chunk(
        chunk.feed_id, at, chunk.start_ms, chunk.duration_ms, chunk.content_type, chunk.payload, chunk.seq, chunk.fps
    )


def record(chunk: Chunk) -> Record:
    """The record that carries a chunk, at the chunk's own place."""
    out = encode_chunk(chunk, chunk.at.topic, chunk.start_ms)
    return Record(chunk.at, out.timestamp_ms, out.key, out.value, out.headers)


def shown(video: Path, side: int = 448) -> list[Shown]:
    """Every picture of a file, in one ffmpeg call that shares nothing with our decoding."""
    size = [f"max(1,round({a}*min(1,{side}/max(iw,ih))))" for a in ("iw", "ih")]
    filters = f"settb=1/1000000,showinfo,scale=w='{size[0]}':h='{size[1]}':flags=bicubic,format=rgb24"
    output = ["-map", "0:v:0", "-fps_mode", "passthrough", "-vf", filters, "-f", "image2pipe", "-c:v", "ppm", "-"]
    done = subprocess.run([find_ffmpeg(), "-i", str(video), *output], capture_output=True, check=True)
    times = [int(time) for time in re.findall(rb" pts: *(-?\d+)", done.stderr)]
    pictures = _ppm(done.stdout)
    assert len(times) == len(pictures)
    return [Shown(round((time - times[0]) / 1000), picture) for time, picture in zip(times, pictures, strict=True)]


def sampled(pictures: Sequence[Shown], fps: float, start_ms: int = START_MS) -> list[Shown]:
    """The first picture of each slot of 1/fps seconds since the epoch."""
    kept: dict[int, Shown] = {}
    for picture in pictures:
        kept.setdefault(int((start_ms + picture.at_ms) * fps // 1000), picture)
    return list(kept.values())


def _ppm(data: bytes) -> list[UInt8Array]:
    found, at = [], 0
    while at < len(data):
        magic, size = data[at : at + 40].split(b"\n")[:2]
        assert magic == b"P6"
        width, height = map(int, size.split())
        start = at + data[at : at + 40].index(b"255\n") + 4
        at = start + 3 * width * height
        found.append(np.frombuffer(data[start:at], np.uint8).reshape(height, width, 3))
    return found
