"""Publishing: where to, at whose pace, through outages, over and over, and from a playlist."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from standwatch.actors.publisher import Pace, Published, PublishRequest, destination, publish
from standwatch.pipeline.codec import read_chunk
from standwatch.pipeline.cutting import cut
from standwatch.pipeline.errors import BadInput, Unavailable
from standwatch.pipeline.types import Chunk
from tests.fakes import MovingSink
from tests.footage_video import START_MS, draw
from tests.questions_world import as_read
from tests.system import standwatch

CHUNKS = 3  # of two, two and one seconds
LENGTH_MS = 5_000


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("film") / "film.mp4")


def request(source: str | Path, loop: bool = False, start_ms: int = START_MS, pace: Pace = "fast") -> PublishRequest:
    return PublishRequest(str(source), "yard", "video.chunks.v1", pace, loop, start_ms, 10 * 1024 * 1024)


def delivered(sink: MovingSink) -> list[Chunk]:
    return [read_chunk(as_read(record)) for record in sink.safe]


def assert_is_the_film(sink: MovingSink, film: Path) -> None:
    """Every chunk of the film was delivered, once, in order."""
    expected = list(cut(str(film), "yard", START_MS))
    assert [(c.seq, c.start_ms, c.payload) for c in delivered(sink)] == [
        (c.seq, c.start_ms, c.payload) for c in expected
    ]
    assert len(expected) == CHUNKS


def test_a_spool_and_a_kafka_topic_are_destinations() -> None:
    spool = destination("spool:/data/my spool")
    assert (spool.broker.kind, spool.broker.spool_dir, spool.topics.chunks) == (
        "spool",
        "/data/my spool",
        "video.chunks.v1",
    )
    kafka = destination("kafka://broker:9092/site.chunks")
    assert (kafka.broker.kind, kafka.broker.bootstrap_servers, kafka.topics.chunks) == (
        "kafka",
        "broker:9092",
        "site.chunks",
    )


@pytest.mark.parametrize(
    "text",
    ["", "spool:", "runs/spool", "kafka://broker:9092", "kafka:///topic", "kafka://broker:9092/a/b", "http://x/y"],
)
def test_anything_else_is_refused_with_both_forms(text: str) -> None:
    with pytest.raises(BadInput, match=r"--to: .*spool:DIR or kafka://HOST:PORT/TOPIC"):
        destination(text)


def test_a_film_is_published_whole_and_counted(film: Path) -> None:
    sink = MovingSink()
    told: list[Published] = []
    done = publish(request(film), sink, threading.Event(), told.append)
    assert_is_the_film(sink, film)
    assert done == Published(CHUNKS, sum(len(c.payload) for c in delivered(sink)), START_MS + LENGTH_MS, 0)
    assert [one.chunks for one in told] == [1, 2, 3]
    assert told[-1] == done


@pytest.mark.parametrize(
    "away", [{("send", 2)}, {("flush", 2)}, {("flush", 2), ("flush", 3)}, {("send", 2), ("flush", 2), ("flush", 4)}]
)
def test_through_an_outage_nothing_is_lost_or_doubled_and_order_is_kept(film: Path, away: set[tuple[str, int]]) -> None:
    sink = MovingSink(lambda port, call: (port, call) in away)
    done = publish(request(film), sink, threading.Event())
    assert done.chunks == CHUNKS
    assert_is_the_film(sink, film)


@pytest.mark.parametrize("port", ["send", "flush"])
def test_a_broker_that_is_away_from_the_beginning_is_an_error(film: Path, port: str) -> None:
    sink = MovingSink(lambda at, call: at == port)
    with pytest.raises(Unavailable, match="broker: away"):
        publish(request(film), sink, threading.Event())
    assert sink.safe == []


def test_asked_to_stop_while_the_broker_is_away_it_counts_only_what_is_safe(film: Path) -> None:
    stop = threading.Event()

    def away(port: str, call: int) -> bool:
        if port == "flush" and call == 2:
            stop.set()
        return port == "flush" and call >= 2

    sink = MovingSink(away)
    done = publish(request(film), sink, stop)
    assert done.chunks == len(sink.safe) == 1


def test_asked_to_stop_with_a_chunk_in_hand_it_delivers_that_chunk(film: Path) -> None:
    stop = threading.Event()

    def stops_at_the_second(port: str, call: int) -> bool:
        if (port, call) == ("send", 2):
            stop.set()
        return False

    sink = MovingSink(stops_at_the_second)
    done = publish(request(film), sink, stop)
    assert done.chunks == len(sink.safe) == 2


def test_asked_to_stop_before_the_first_chunk_it_publishes_nothing(film: Path) -> None:
    stop = threading.Event()
    stop.set()
    sink = MovingSink()
    assert publish(request(film), sink, stop).chunks == 0
    assert sink.accepted == []


def test_at_a_cameras_pace_a_film_of_the_past_is_not_waited_for(film: Path) -> None:
    sink = MovingSink()
    publish(request(film, pace="live", start_ms=START_MS - 10**9), sink, threading.Event())
    assert len(sink.safe) == CHUNKS


def test_a_looped_film_continues_its_own_time_line(film: Path) -> None:
    sink, stop = MovingSink(), threading.Event()
    done = publish(request(film, loop=True), sink, stop, lambda so_far: stop.set() if so_far.chunks == 7 else None)
    found = delivered(sink)
    assert [chunk.seq for chunk in found] == list(range(7))
    assert [chunk.start_ms - START_MS for chunk in found] == [0, 2_000, 4_000, 5_000, 7_000, 9_000, 10_000]
    assert done.last_ms == START_MS + 2 * LENGTH_MS + 2_000
    assert found[0].payload == found[3].payload == found[6].payload


def test_a_looped_film_keeps_its_time_line_through_an_outage(film: Path) -> None:
    stop = threading.Event()
    sink = MovingSink(lambda port, call: (port, call) == ("flush", 4))
    publish(request(film, loop=True), sink, stop, lambda so_far: stop.set() if so_far.chunks == 6 else None)
    assert [c.start_ms - START_MS for c in delivered(sink)] == [0, 2_000, 4_000, 5_000, 7_000, 9_000]


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The folder over HTTP on a port of its own."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_finished_playlist_is_published_and_ends_by_itself(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    options = ("-c:v", "libx264", "-g", "10", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0")
    draw(folder / "film.m3u8", *options, seconds=3)
    with serving(folder) as site:
        done = standwatch("publish", f"{site}/film.m3u8", "--feed", "yard", "--to", f"spool:{tmp_path}/s", "--json")
        gone = standwatch("publish", f"{site}/other.m3u8", "--feed", "yard", "--to", f"spool:{tmp_path}/s", code=1)
    assert json.loads(done.stdout)["chunks"] == 2
    assert "404" in gone.stderr


def test_a_playlists_chunks_follow_each_other_in_the_time_of_arrival(tmp_path: Path) -> None:
    options = ("-c:v", "libx264", "-g", "10", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0")
    draw(tmp_path / "film.m3u8", *options, seconds=3)
    sink = MovingSink()
    with serving(tmp_path) as site:
        done = publish(request(f"{site}/film.m3u8"), sink, threading.Event())
    found = delivered(sink)
    assert [chunk.duration_ms for chunk in found] == [2_000, 1_000]
    assert found[0].start_ms >= START_MS
    assert found[1].start_ms >= found[0].start_ms + 2_000
    assert (done.chunks, done.reconnects) == (2, 0)


def test_a_playlist_whose_server_goes_away_has_broken_off_and_not_ended(tmp_path: Path) -> None:
    options = ("-c:v", "libx264", "-g", "10", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0")
    draw(tmp_path / "film.m3u8", *options, seconds=9)
    with serving(tmp_path) as site:
        chunks = cut(f"{site}/film.m3u8", "yard")
        first = next(chunks)
    with pytest.raises(Unavailable, match="broke off"):
        list(chunks)
    assert first.duration_ms == 2_000
