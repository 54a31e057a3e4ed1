"""Decides which pictures a chunk holds and when each was taken; ffmpeg decodes, many chunks at a start."""

import mmap
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import ffmpeg  # type: ignore[import-untyped]
import numpy as np

from standwatch.configs.schema import DecodeConfig
from standwatch.pipeline.ffmpeg import Finished, run_ffmpeg, scratch_file, write_all
from standwatch.pipeline.sampling import SampleGrid
from standwatch.pipeline.splice import SPACING_US, Stream, plan_streams
from standwatch.pipeline.types import Chunk, Int64Array, UInt8Array

_PPM_HEADER = re.compile(rb"P6\n(\d+) (\d+)\n255\n")
_PTS = re.compile(rb"\bpts:(-?\d+)")
_KILLED_RETRIES = 2
_RUN_FRAMES = 256  # pictures of one ffmpeg process; bounds what it may write


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """The frames of one chunk that can be the first of their slot; all others were never converted or copied."""

    frame_ms: Int64Array  # [T], increasing
    frames: tuple[UInt8Array, ...]  # T of [H, W, 3] RGB, read-only


@dataclass(frozen=True, slots=True)
class Refused:
    """A chunk that cannot be used; the reason names the field and, where there is one, the fix."""

    reason: str


Outcome = Decoded | Refused


class ChunkDecoder:
    """Decodes runs of chunks in ffmpeg processes of one thread each, `config.parallel` at a time.

    Strict: a chunk in which ffmpeg finds any error is refused as a whole; its neighbours are not.
    """

    def __init__(self, config: DecodeConfig) -> None:
        self._config = config
        self._grid = SampleGrid(config.sample_fps)
        self._threads = ThreadPoolExecutor(config.parallel, thread_name_prefix="decode")

    def decode(self, feeds: Sequence[Sequence[Chunk]]) -> list[list[Outcome]]:
        """One outcome for each chunk, in order. Each inner sequence is one feed's chunks in their order."""
        jobs: list[list[Callable[[], list[Outcome]]]] = [
            [partial(self._run, run) for run in self._runs(chunks)] for chunks in feeds
        ]
        futures = [[self._threads.submit(job) for job in feed] for feed in jobs]
        return [[outcome for future in feed for outcome in future.result()] for feed in futures]

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _runs(self, chunks: Sequence[Chunk]) -> list[list[Chunk]]:
        runs: list[list[Chunk]] = []
        frames = 0.0
        for chunk in chunks:
            expected = chunk.duration_ms * self._config.sample_fps / 1000 + 1
            frames += expected
            if not runs or len(runs[-1]) == self._config.batch_chunks or frames > _RUN_FRAMES:
                runs.append([])
                frames = expected
            runs[-1].append(chunk)
        return runs

    def _run(self, chunks: Sequence[Chunk]) -> list[Outcome]:
        config = self._config
        streams, refused = plan_streams(chunks, config.max_chunk_ms, config.max_source_pixels)
        outcomes: dict[int, Outcome] = {index: Refused(reason) for index, reason in refused.items()}
        if streams:
            decoded = self._ffmpeg(chunks, streams)
            for _ in range(_KILLED_RETRIES):
                if isinstance(decoded, Finished) and decoded.killed:  # by the kernel or a person: no fault of the video
                    decoded = self._ffmpeg(chunks, streams)
            places = [index for stream in streams for index in stream.chunks]
            if not isinstance(decoded, Finished):
                outcomes.update(decoded)
            elif len(places) == 1:
                outcomes[places[0]] = Refused(_reason(decoded))
            else:
                # One of them is bad. Halves find it with few starts; where time ran out, each must have its own.
                size = 1 if decoded.timed_out else -(-len(places) // 2)
                for first in range(0, len(places), size):
                    part = places[first : first + size]
                    outcomes.update(zip(part, self._run([chunks[index] for index in part]), strict=True))
        return [outcomes[index] for index in range(len(chunks))]

    def _ffmpeg(self, chunks: Sequence[Chunk], streams: Sequence[Stream]) -> dict[int, Outcome] | Finished:
        config = self._config
        fds: list[int] = []
        try:
            for stream in streams:
                fds += (scratch_file("video"), scratch_file("times"), scratch_file("pictures"))
                write_all(fds[-3], stream.parts)
            graph = [
                _output(stream, chunks, self._grid, config, *fds[3 * index : 3 * index + 3])
                for index, stream in enumerate(streams)
            ]
            arguments = cast(list[str], ffmpeg.merge_outputs(*graph).get_args())
            per_frame = 3 * config.max_side_px**2 + 64
            frames = _RUN_FRAMES + len(chunks) + int(config.max_chunk_ms * config.sample_fps / 1000) + 2
            finished = run_ffmpeg(
                ["-hide_banner", "-nostdin", "-v", "error", "-xerror", "-copyts", "-filter_threads", "1", *arguments],
                fds,
                config.timeout_s * -(-len(chunks) // 8),
                per_frame * frames,
            )
            if finished.problem:
                return finished
            outcomes: dict[int, Outcome] = {}
            for index, stream in enumerate(streams):
                times, pictures = _times(fds[3 * index + 1]), _pictures(fds[3 * index + 2])
                outcomes.update(_sorted_out(stream, chunks, times, pictures, config))
            return outcomes
        finally:
            for fd in fds:
                os.close(fd)


def _reason(finished: Finished) -> str:
    if finished.killed:
        return f"payload: decoding was {finished.problem} {_KILLED_RETRIES + 1} times; is there enough memory for it?"
    if finished.timed_out:
        return f"payload: decoding was {finished.problem} (timeout_s); send smaller pictures or shorter chunks"
    return f"payload: ffmpeg finds it damaged or not of its content-type: {finished.problem}"


def _output(
    stream: Stream, chunks: Sequence[Chunk], grid: SampleGrid, config: DecodeConfig, video: int, times: int, out: int
) -> Any:  # ffmpeg-python has no types
    """One input and its output: sampled in ffmpeg before scaling, times to one file, pictures to another."""
    source = ffmpeg.input(
        f"pipe:{video}",
        threads=1,
        protocol_whitelist="pipe",
        max_pixels=config.max_source_pixels,
        **stream.options,
    )
    side = config.max_side_px
    size = [f"max(1,round({a}*min(1,{side}/max(iw,ih))))" for a in ("iw", "ih")]
    clock = ["settb=1/1000000"]
    if stream.counted_fps:
        clock.append(f"setpts='N*1000000/{stream.counted_fps!r}'")
    steps = [
        *clock,
        f"select='{_choice(stream, chunks, grid)}'",
        f"scale=w='{size[0]}':h='{size[1]}':flags=bicubic",
        "format=rgb24",
        "metadata=mode=add:key=k:value=1",  # a frame without any is not printed
        f"metadata=mode=print:file='pipe\\:{times}'",
    ]
    return ffmpeg.output(
        source["V:0"], f"pipe:{out}", vf=",".join(steps), fps_mode="passthrough", f="image2pipe", vcodec="ppm"
    )


def _choice(stream: Stream, chunks: Sequence[Chunk], grid: SampleGrid) -> str:
    """ffmpeg's `select` expression: the first frame of each slot, and always the very first frame.

    It never drops a frame that a `Sampler` would keep: what it drops has a slot already taken before.
    """
    starts = [chunks[index].start_ms for index in stream.chunks]
    origin = grid.origin_ms(min(starts))
    shift = [str(starts[0] - origin - (SPACING_US // 1000 if stream.joined else 0))]
    for place in range(1, len(starts)):
        step = starts[place] - starts[place - 1] - SPACING_US // 1000
        shift.append(f"({step})*gte({{pts}},{(place + 1) * SPACING_US})")
    at = "{pts}" if stream.joined else "({pts}-start_pts)"
    slot = f"floor((floor(({at}+500)/1000)+{'+'.join(shift)})*{grid.numerator}/{grid.denominator})"
    now, before = slot.format(pts="pts"), slot.format(pts="prev_selected_pts")
    return f"isnan(prev_selected_pts)+gt({now},{before})"


def _times(fd: int) -> list[int]:
    """Times of the pictures written, in microseconds of the stream."""
    return [int(found) for found in _PTS.findall(os.pread(fd, os.fstat(fd).st_size, 0))]


def _pictures(fd: int) -> list[UInt8Array]:
    """The pictures in order, without a copy: they hold the file's memory until they are dropped."""
    size = os.fstat(fd).st_size
    if size == 0:
        return []
    memory = mmap.mmap(fd, size, access=mmap.ACCESS_READ)
    found, at = [], 0
    while at < size:
        header = _PPM_HEADER.match(memory, at)
        assert header is not None, "ffmpeg wrote something that is not a PPM"
        width, height = int(header[1]), int(header[2])
        start, at = header.end(), header.end() + 3 * width * height
        found.append(np.frombuffer(memory, np.uint8, 3 * width * height, start).reshape(height, width, 3))
    return found


def _sorted_out(
    stream: Stream, chunks: Sequence[Chunk], times: list[int], pictures: list[UInt8Array], config: DecodeConfig
) -> dict[int, Outcome]:
    """Which picture is of which chunk, and when it was taken."""
    if not times or len(times) != len(pictures):
        return {index: Refused("payload: ffmpeg finds no picture in it") for index in stream.chunks}
    found: dict[int, list[tuple[int, UInt8Array]]] = {index: [] for index in stream.chunks}
    for pts, pixels in zip(times, pictures, strict=True):
        place, since_us = 0, pts - times[0]
        if stream.joined:
            place, since_us = (pts + 500) // SPACING_US - 1, (pts + 500) % SPACING_US - 500
        if not 0 <= place < len(stream.chunks):
            return {index: Refused(f"payload: a picture lies at {pts} us, outside") for index in stream.chunks}
        index = stream.chunks[place]
        found[index].append((chunks[index].start_ms + (since_us + 500) // 1000, pixels))
    return {index: _outcome(chunks[index], rows, config) for index, rows in found.items()}


def _outcome(chunk: Chunk, rows: list[tuple[int, UInt8Array]], config: DecodeConfig) -> Outcome:
    if rows and rows[-1][0] - chunk.start_ms > config.max_chunk_ms:
        span_ms = rows[-1][0] - chunk.start_ms
        return Refused(f"duration_ms: the pictures span {span_ms} ms, above max_chunk_ms ({config.max_chunk_ms})")
    frame_ms = np.array([time for time, _ in rows], dtype=np.int64)
    return Decoded(frame_ms, tuple(pixels for _, pixels in rows))
