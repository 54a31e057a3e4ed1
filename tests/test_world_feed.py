"""A rendered world as a feed: its address, real H.264 in chunks, and the same truth for whoever knows the address."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from standwatch.actors import drawings
from standwatch.actors.publisher import PublishRequest, publish
from standwatch.actors.world_feed import WorldAddress, film, film_camera, read_address, scene_of
from standwatch.compression.world.camera import Camera
from standwatch.compression.world.director import direct
from standwatch.configs.schema import DecodeConfig
from standwatch.pipeline.codec import read_chunk
from standwatch.pipeline.decode import ChunkDecoder, Decoded
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.mp4 import boxes, tracks
from standwatch.pipeline.types import Chunk
from tests.drawn_world import PLAIN, plain_svgs
from tests.fakes import MovingSink
from tests.footage_video import START_MS
from tests.questions_world import as_read

WORLD = "world:dock?seed=4&minutes=0.15&per_minute=20&size=128x96"


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which drawings lie already, as plain shapes."""
    import json

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "standwatch" / "drawings"
    folder.mkdir(parents=True)
    (folder / drawings.SETS[drawings.TRAINING].kept).write_text(json.dumps(plain_svgs()))
    return folder


def filmed(seconds: float = 9.0, **options: int) -> tuple[Camera, list[Chunk]]:
    camera = Camera(direct(4, "dock", seconds / 60, 20, width=128, height=96), PLAIN)
    return camera, list(film_camera(camera, "dock", START_MS, **options))


def test_an_address_says_everything() -> None:
    address = "world:shop?seed=9&minutes=30.5&per_minute=0&once=fall&size=320x240&fps=5&style=noto"
    assert read_address(address) == WorldAddress("shop", 9, 30.5, 0.0, "fall", 320, 240, 5.0, "noto")
    assert read_address("world:yard") == WorldAddress("yard")
    scene = scene_of(WORLD)
    assert scene == scene_of(WORLD) == direct(4, "dock", 0.15, 20, width=128, height=96)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("world:moon", "world: 'moon' is no site; choose one of street, yard"),
        ("yard.mp4", "is no site"),
        ("world:yard?speed=2", "world: 'speed' cannot be set; the form is world:SITE"),
        ("world:yard?seed=one", "world: seed='one' is no value"),
        ("world:yard?size=224", "world: size='224' is no value"),
        ("world:yard?size=31x31", "world: size: 31x31 cannot be filmed"),
        ("world:yard?fps=0", "world: fps: 0.0 is not within"),
        ("world:yard?minutes=nan", "world: minutes: nan"),
        ("world:yard?minutes=-1", "world: minutes: -1"),
        ("world:corridor?once=bus", "world: once: 'bus' cannot happen at a corridor"),
    ],
)
def test_a_wrong_address_is_refused_by_the_name_of_its_part(address: str, said: str) -> None:
    with pytest.raises(BadInput) as refusal:
        scene_of(address)
    assert said in str(refusal.value)


def test_a_film_is_h264_in_chunks_that_follow_each_other() -> None:
    _, chunks = filmed()
    assert [chunk.duration_ms for chunk in chunks] == [2_000] * 4 + [1_000]
    assert [chunk.start_ms for chunk in chunks] == [START_MS + 2_000 * place for place in range(5)]
    assert [chunk.seq for chunk in chunks] == list(range(5))
    moov = next(box for box in boxes(chunks[0].payload) if box.kind == b"moov")
    (track,) = tracks(chunks[0].payload, moov)
    assert (track.codec, track.width, track.height) == ("h264", 128, 96)
    assert {chunk.content_type for chunk in chunks} == {"video/mp4"}


def test_every_chunk_shows_what_the_scene_says_of_its_times() -> None:
    camera, chunks = filmed()
    decoder = ChunkDecoder(DecodeConfig(sample_fps=10, thumbnail_side_px=0))
    with closing(decoder):
        outcomes = [outcome for chunk in chunks for (outcome,) in decoder.decode([[chunk]])]
    frames = 0
    for outcome in outcomes:
        assert isinstance(outcome, Decoded), outcome
        for at_ms, frame in zip(outcome.frame_ms.tolist(), outcome.frames, strict=True):
            drawn = camera.frame(at_ms - START_MS).astype(int)
            assert np.abs(drawn - frame).mean() < 6, at_ms - START_MS
            frames += 1
    assert frames == 90
    assert len({camera.seen(time_ms) for time_ms in range(0, 9_000, 500)}) > 5, "something moved"


def test_a_film_that_is_not_read_on_ends_at_once() -> None:
    camera = Camera(direct(4, "dock", 60, 2, width=128, height=96), PLAIN)
    before = threading.active_count()
    chunks: Iterator[Chunk] = film_camera(camera, "dock", START_MS)
    assert len(list(islice(chunks, 1))) == 1
    chunks.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_what_fails_while_drawing_is_not_swallowed() -> None:
    class Broken(Camera):
        def frame(self, t_ms: float) -> np.ndarray:  # type: ignore[type-arg]
            if t_ms > 1_000:
                raise ZeroDivisionError("the pen broke")
            return super().frame(t_ms)

    camera = Broken(direct(4, "dock", 1, 2, width=128, height=96), PLAIN)
    with pytest.raises(ZeroDivisionError, match="the pen broke"):
        list(film_camera(camera, "dock", START_MS))


def test_a_chunk_that_no_record_holds_is_refused() -> None:
    with pytest.raises(BadInput, match=r"world: .*make the picture smaller|source: \d+ bytes"):
        filmed(max_record_bytes=5_000)


def test_a_world_is_published_like_a_file(cached: Path) -> None:
    sink = MovingSink()
    request = PublishRequest(WORLD, "dock", "video.chunks.v1", "fast", False, START_MS, 10 * 1024 * 1024)
    done = publish(request, sink, threading.Event())
    found = [read_chunk(as_read(record)) for record in sink.safe]
    assert [(c.seq, c.start_ms, c.payload) for c in found] == [
        (c.seq, c.start_ms, c.payload) for c in film(WORLD, "dock", START_MS, 0, 10 * 1024 * 1024)
    ]
    assert (done.chunks, done.last_ms) == (5, START_MS + 9_000)


def test_a_looped_world_continues_its_own_time_line(cached: Path) -> None:
    sink, stop = MovingSink(), threading.Event()
    request = PublishRequest(WORLD, "dock", "video.chunks.v1", "fast", True, START_MS, 10 * 1024 * 1024)
    publish(request, sink, stop, lambda so_far: stop.set() if so_far.chunks == 7 else None)
    found = [read_chunk(as_read(record)) for record in sink.safe]
    assert [c.seq for c in found] == list(range(7))
    assert [c.start_ms - START_MS for c in found] == [0, 2_000, 4_000, 6_000, 8_000, 9_000, 11_000]


def test_an_unknown_style_is_refused(cached: Path) -> None:
    sets = "fluent-emoji, fluent-emoji-flat, twemoji, emojione, streamline-emojis, fxemoji, noto"
    with pytest.raises(BadInput, match=f"style: 'crayon' is no set of drawings; choose one of {sets}"):
        list(film(f"{WORLD}&style=crayon", "dock", START_MS, 0, 10**7))
