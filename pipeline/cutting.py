"""Decides how a file or a stream becomes chunks: copied where it can be, re-encoded where it must be."""

import os
import re
import select
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import ffmpeg  # type: ignore[import-untyped]

from standwatch.pipeline.chunking import BoxSplitter, Cut, FragmentReader, copy_problem
from standwatch.pipeline.clock import now_ms
from standwatch.pipeline.errors import BadInput, Unavailable
from standwatch.pipeline.feedclock import FeedClock
from standwatch.pipeline.ffmpeg import excerpt, find_ffmpeg, kill_group
from standwatch.pipeline.naming import check_feed_id
from standwatch.pipeline.types import Chunk, SourceOffset

_HEADER_BYTES = 4096  # of a record, with its key
_NETWORK = {
    "rtsp": "rtsp,rtp,udp,tcp",
    "rtsps": "rtsp,rtsps,rtp,udp,tcp,tls",
    "http": "http,https,tcp,tls,crypto,hls,httpproxy",
    "https": "http,https,tcp,tls,crypto,hls,httpproxy",
}
# What ffmpeg says when a server went away; it then ends as if the stream had. A 404 is a hole or an end, not this.
_BROKE_OFF = re.compile(
    r"Connection to \S+ failed|Connection (reset|timed out)|HTTP error 5\d\d|Server returned 5|ends prematurely"
)


@dataclass(frozen=True, slots=True)
class _Limits:
    chunk_ms: int
    max_chunk_ms: int
    payload_bytes: int
    stall_s: float


def is_live(source: str) -> bool:
    """Whether the source is a network stream; otherwise it is a file."""
    return source.split("://")[0].lower() in _NETWORK if "://" in source else False


def cut(
    source: str,
    feed_id: str,
    start_ms: int | None = None,
    first_seq: int = 0,
    max_record_bytes: int = 10 * 1024 * 1024,
    *,
    topic: str = "",
    chunk_ms: int = 2_000,
    max_chunk_ms: int = 30_000,
    stall_s: float = 30.0,
    wall_ms: Callable[[], int] = now_ms,
) -> Iterator[Chunk]:
    """The chunks of a file or URL, in order, each starting at a key frame; `at` has offset -1.

    A chunk ends at the first key frame at or after `chunk_ms`. A file's first frame is at `start_ms` (None: now).
    A URL's chunks are timed by their arrival, none before `start_ms`: after a reconnect pass the end of the last
    chunk, and times never go backwards. Raises `BadInput` for a source that can never be cut, `Unavailable` when a
    URL is away, silent for `stall_s` or breaks off, or a camera's stream (rtsp) ends. A URL that breaks off is opened
    anew by calling again: a live stream goes on, a recording begins again.
    """
    check_feed_id(feed_id)
    _check_source(source)
    if not 1 <= chunk_ms <= max_chunk_ms:
        raise BadInput(f"chunk_ms: {chunk_ms} is not within 1..max_chunk_ms ({max_chunk_ms})")
    limits = _Limits(chunk_ms, max_chunk_ms, max_record_bytes - _HEADER_BYTES, stall_s)
    live = is_live(source)
    clock = FeedClock(start_ms or 0)
    begin_ms = wall_ms() if start_ms is None else start_ms
    seq, done_ms = first_seq, 0
    for copying in (True, False):
        again, origin = False, None
        with closing(_Ffmpeg(_command(source, limits, copying, done_ms), source, limits)) as process:
            try:
                asked_ms = wall_ms() if live else 0
                for piece in process.cuts():
                    first_ms = piece.first * 1000 / piece.track.timescale
                    origin = first_ms - done_ms if origin is None else origin
                    pts_ms = round(first_ms - origin)
                    problem = copy_problem(piece, limits.max_chunk_ms, limits.payload_bytes)
                    if problem and not copying:
                        raise BadInput(f"source: cannot be cut to {chunk_ms} ms even re-encoded: {problem}")
                    if problem:
                        again, done_ms = True, pts_ms
                        break
                    length_ms = max(
                        1, round(first_ms - origin + piece.duration * 1000 / piece.track.timescale) - pts_ms
                    )
                    at_ms = begin_ms + pts_ms
                    if live:
                        arrival_ms = wall_ms()
                        at_ms = clock.start_ms(pts_ms, length_ms, arrival_ms, arrival_ms - asked_ms)
                    at = SourceOffset(topic, -1, -1)
                    yield Chunk(feed_id, at, at_ms, length_ms, "video/mp4", piece.payload, seq, piece.fps)
                    seq += 1
                    asked_ms = wall_ms() if live else 0
            except _NotForMp4:
                again = copying
                if not copying:
                    raise
        if not again:
            return


class _NotForMp4(BadInput):
    """The stream's codec has no place in an MP4; re-encoded it has."""


def _check_source(source: str) -> None:
    if "://" in source:
        if not is_live(source):
            raise BadInput(f"source: {source[:80]!r} is none of a file, rtsp://, rtsps://, http:// and https://")
        return
    path = Path(source)
    if not path.exists():
        raise BadInput(f"source: there is no file {source!r}")
    if not path.is_file():
        raise BadInput(f"source: {source!r} is not a file")
    if path.stat().st_size == 0:
        raise BadInput(f"source: {source!r} is empty (0 bytes)")


def _command(source: str, limits: _Limits, copying: bool, done_ms: int) -> list[str]:
    """ffmpeg's arguments: the first video stream as fragmented MP4 on standard output."""
    if is_live(source):
        scheme = source.split("://")[0].lower()
        options: dict[str, Any] = {"protocol_whitelist": _NETWORK[scheme]}
        timeout_us = int(limits.stall_s * 1e6)
        if scheme.startswith("rtsp"):
            options |= {"rtsp_transport": "tcp", "timeout": timeout_us}
        else:
            # A playlist is delivered in bursts; read at the speed of the film, arrival tells the time again.
            options |= {"rw_timeout": timeout_us, "readrate": 1}
        video = ffmpeg.input(source, **options)
    else:
        video = ffmpeg.input(f"file:{source}", protocol_whitelist="file,pipe")
    chunk_s = limits.chunk_ms / 1000
    encode: dict[str, Any] = {"vcodec": "copy"}
    if not copying:
        steps = ["pad=w='ceil(iw/2)*2':h='ceil(ih/2)*2'", "format=yuv420p"]
        if done_ms and not is_live(source):
            steps.insert(0, f"select='gte((pts-start_pts)*TB*1000,{done_ms - 4})'")
        encode = {
            "vf": ",".join(steps),
            "vcodec": "libx264",
            "preset": "veryfast",
            "fps_mode": "passthrough",
            # Half of what a record takes, so that a chunk fits however the encoder spends it.
            "maxrate": limits.payload_bytes * 8 * 1000 // limits.chunk_ms // 2,
            "bufsize": limits.payload_bytes * 8 // 2,
            "force_key_frames": f"expr:if(isnan(prev_forced_t),1,gte(t,prev_forced_t+{chunk_s}))",
        }
    output = ffmpeg.output(
        video["V:0"],
        "pipe:1",
        **encode,
        f="mp4",
        movflags="frag_keyframe+empty_moov+default_base_moof",
        min_frag_duration=limits.chunk_ms * 1000,
        # Only where no key frame comes in time; the fragment then shows that copying will not do.
        frag_duration=limits.max_chunk_ms * 1000,
        frag_size=limits.payload_bytes,
    )
    return ["-hide_banner", "-nostdin", "-v", "error", *cast(list[str], output.get_args())]


class _Ffmpeg:
    """One ffmpeg that cuts; owns the process and reads both of its pipes."""

    def __init__(self, arguments: list[str], source: str, limits: _Limits) -> None:
        self._live = is_live(source)
        self._endless = source.lower().startswith("rtsp")  # a playlist may say that it is over, a camera never is
        self._limits = limits
        self._said: deque[bytes] = deque(maxlen=50)
        self._process = subprocess.Popen(
            [find_ffmpeg(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def close(self) -> None:
        if self._process.poll() is None:
            kill_group(self._process)
        self._listener.join()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def cuts(self) -> Iterator[Cut]:
        """All cuts in order. Raises `BadInput` or `Unavailable` where the source does not give them."""
        splitter, reader, found = BoxSplitter(8 * self._limits.payload_bytes), FragmentReader(), 0
        while data := self._read():
            for box in splitter.feed(data):
                piece = reader.add(box)
                if piece is not None:
                    found += 1
                    yield piece
        self._judge(found)

    def _read(self) -> bytes:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        ready, _, _ = select.select([fd], [], [], self._limits.stall_s)
        if not ready:
            raise self._failure(f"nothing came for {self._limits.stall_s:g} s")
        return os.read(fd, 1 << 18)

    def _judge(self, found: int) -> None:
        code = self._process.wait()
        self._listener.join()
        everything = b"".join(self._said).decode("utf-8", "replace")
        said = excerpt(everything)
        if "matches no streams" in said:
            raise BadInput("source: no video stream in it; give a file or URL that contains video")
        if code != 0 and ("Could not find tag" in said or "Could not write header" in said):
            raise _NotForMp4(f"source: {said}")
        if code != 0 or not found:
            raise self._failure(said or f"ffmpeg ended with code {code} and no video")
        if self._live and _BROKE_OFF.search(everything):
            raise Unavailable(f"source: the stream broke off: {said}")
        if self._endless:
            raise Unavailable(f"source: the stream ended{': ' + said if said else ''}")

    def _failure(self, said: str) -> Exception:
        return Unavailable(f"source: {said}") if self._live else BadInput(f"source: cannot be read as video: {said}")

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line[:500])
