"""Publishes a rendered world as a camera would: frames are drawn, encoded as H.264, and cut at key frames.

A feed's address says everything about it: `world:yard?seed=7&minutes=120&per_minute=2`. The same address always gives
the same film, so that the truth about a published feed can be computed anywhere: `scene_of(address)`.
"""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import parse_qsl

from standwatch.actors.drawings import TRAINING, load_drawings
from standwatch.compression.world.artwork import Artwork
from standwatch.compression.world.camera import Camera
from standwatch.compression.world.director import direct
from standwatch.compression.world.script import Scene
from standwatch.compression.world.sites import SITES
from standwatch.pipeline.chunking import BoxSplitter, FragmentReader
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.ffmpeg import excerpt, find_ffmpeg, kill_group, scratch_file
from standwatch.pipeline.naming import check_feed_id
from standwatch.pipeline.types import Chunk, SourceOffset

T = TypeVar("T")

_SCHEME = "world:"
_STDERR_BYTES = 64 * 1024
_HEADER_BYTES = 4096  # of a record, with its key
_CHUNK_S = 2.0
_QUALITY = 27  # x264's constant rate factor: about what a surveillance camera sends
_FORM = "world:SITE?seed=1&minutes=60&per_minute=2&once=ACT_OR_KIND&size=448x448&fps=10&style=SET"


@dataclass(frozen=True, slots=True)
class WorldAddress:
    """What an address asks for."""

    site: str
    seed: int = 1
    minutes: float = 60.0
    per_minute: float = 2.0
    once: str = ""
    width: int = 448
    height: int = 448
    fps: float = 10.0
    style: str = TRAINING


def read_address(source: str) -> WorldAddress:
    """Raises `BadInput` that names the part that is wrong and shows the form."""
    site, _, query = source.removeprefix(_SCHEME).partition("?")
    if not source.startswith(_SCHEME) or site not in SITES:
        raise BadInput(f"world: {site!r} is no site; choose one of {', '.join(SITES)}, as in {_FORM}")
    default, asked = WorldAddress(site), dict(parse_qsl(query, keep_blank_values=True))
    width, height = _take(asked, "size", _size, (default.width, default.height))
    found = WorldAddress(
        site=site,
        seed=_take(asked, "seed", int, default.seed),
        minutes=_take(asked, "minutes", float, default.minutes),
        per_minute=_take(asked, "per_minute", float, default.per_minute),
        once=_take(asked, "once", str, default.once),
        width=width,
        height=height,
        fps=_take(asked, "fps", float, default.fps),
        style=_take(asked, "style", str, default.style),
    )
    if asked:
        raise BadInput(f"world: {min(asked)!r} cannot be set; the form is {_FORM}")
    return found


def scene_of(source: str) -> Scene:
    """The scene that an address names. Its times count from the start of the feed. Raises `BadInput`."""
    asked = read_address(source)
    try:
        return direct(
            asked.seed,
            asked.site,
            asked.minutes,
            asked.per_minute,
            once=asked.once,
            width=asked.width,
            height=asked.height,
            fps=asked.fps,
        )
    except ValueError as error:
        raise BadInput(f"world: {error}") from None


def film(source: str, feed_id: str, start_ms: int, first_seq: int, max_record_bytes: int) -> Iterator[Chunk]:
    """The chunks of a world from its beginning to its end, as `cutting.cut` gives those of a file.

    Raises `BadInput` for an address or size that cannot be, `Unavailable` where its drawings cannot be fetched.
    """
    check_feed_id(feed_id)
    scene = scene_of(source)
    camera = Camera(scene, Artwork(load_drawings(read_address(source).style)))
    return film_camera(camera, feed_id, start_ms, first_seq, max_record_bytes)


def film_camera(
    camera: Camera, feed_id: str, start_ms: int, first_seq: int = 0, max_record_bytes: int = 10 * 1024 * 1024
) -> Iterator[Chunk]:
    """The same of any camera."""
    seq = first_seq
    splitter, reader = BoxSplitter(max_record_bytes), FragmentReader()
    with closing(_Encoder(camera)) as encoder:
        for data in encoder.output():
            for box in splitter.feed(data):
                piece = reader.add(box)
                if piece is None:
                    continue
                if len(piece.payload) > max_record_bytes - _HEADER_BYTES:
                    raise BadInput(f"world: {len(piece.payload)} bytes in {_CHUNK_S:g} s; make the picture smaller")
                at_ms = start_ms + round(piece.first * 1000 / piece.track.timescale)
                place = SourceOffset("", -1, -1)
                yield Chunk(feed_id, place, at_ms, piece.duration_ms, "video/mp4", piece.payload, seq, piece.fps)
                seq += 1


class _Encoder:
    """One ffmpeg that a thread feeds with frames; owns both."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._failure: Exception | None = None
        self._said = scratch_file("stderr")  # and not a pipe: nobody has to read while it runs
        lens, fps = camera.scene.stage.lens, camera.scene.fps
        options = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{lens.width}x{lens.height}", "-r", f"{fps:g}"]
        gap = str(max(1, round(fps * _CHUNK_S)))
        encode = ["-c:v", "libx264", "-preset", "veryfast", "-crf", str(_QUALITY), "-pix_fmt", "yuv420p", "-bf", "0"]
        encode += ["-g", gap, "-keyint_min", gap, "-sc_threshold", "0", "-threads", "1"]
        pieces = ["-f", "mp4", "-movflags", "frag_keyframe+empty_moov+default_base_moof", "pipe:1"]
        self._process = subprocess.Popen(
            [find_ffmpeg(), "-hide_banner", "-v", "error", *options, "-i", "pipe:0", *encode, *pieces],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            start_new_session=True,
        )
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        self._feeder.start()

    def output(self) -> Iterator[bytes]:
        """What ffmpeg writes, to its end. Raises what went wrong while drawing or encoding."""
        process = self._process
        assert process.stdout is not None
        while data := os.read(process.stdout.fileno(), 1 << 18):
            yield data
        self._feeder.join()
        if self._failure is not None:
            raise self._failure
        if process.wait() != 0:
            said = excerpt(os.pread(self._said, _STDERR_BYTES, 0).decode("utf-8", "replace"))
            raise BadInput(f"world: cannot be encoded: {said or f'ffmpeg ended with code {process.returncode}'}")

    def close(self) -> None:
        if self._process.poll() is None:
            kill_group(self._process)
        self._feeder.join()
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        os.close(self._said)

    def _feed(self) -> None:
        assert self._process.stdin is not None
        try:
            with self._process.stdin as pipe:
                for _, frame in self._camera.frames():
                    pipe.write(frame.data)
        except BrokenPipeError:
            pass  # it was stopped, or has said why it ended
        except Exception as error:  # noqa: BLE001 (whatever it is, who reads the film is told)
            self._failure = error


def _take(asked: dict[str, str], name: str, read: Callable[[str], T], default: T) -> T:
    """The value of a name, which is taken out of what was asked."""
    text = asked.pop(name, None)
    if text is None:
        return default
    try:
        return read(text)
    except ValueError:
        raise BadInput(f"world: {name}={text!r} is no value for it; the form is {_FORM}") from None


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)
