"""Sends a file, a live stream or a rendered world to a topic, chunk by chunk, as a camera would."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

from standwatch.configs.schema import BrokerConfig, TopicsConfig
from standwatch.pipeline import feedclock
from standwatch.pipeline.backoff import Backoff
from standwatch.pipeline.clock import now_ms
from standwatch.pipeline.codec import encode_chunk
from standwatch.pipeline.cutting import cut, is_live
from standwatch.pipeline.errors import BadInput, Unavailable
from standwatch.pipeline.ports import Sink
from standwatch.pipeline.types import Chunk, Outgoing

Pace = Literal["live", "fast"]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where chunks go: the broker and the topics there."""

    broker: BrokerConfig
    topics: TopicsConfig


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """One feed to publish. `start_ms` is the time of a file's first frame; live streams carry their own."""

    source: str
    feed_id: str
    topic: str
    pace: Pace
    loop: bool
    start_ms: int
    max_record_bytes: int


@dataclass(frozen=True, slots=True)
class Published:
    """What was sent so far."""

    chunks: int
    bytes: int
    last_ms: int
    reconnects: int


def destination(text: str) -> Destination:
    """Read `spool:DIR` or `kafka://HOST:PORT/TOPIC`. Raises `BadInput` that shows both forms."""
    if text.startswith("spool:") and len(text) > len("spool:"):
        return Destination(BrokerConfig(kind="spool", spool_dir=text.removeprefix("spool:")), TopicsConfig())
    parts = urlsplit(text)
    topic = parts.path.strip("/")
    if parts.scheme == "kafka" and parts.netloc and topic and "/" not in topic:
        broker = BrokerConfig(kind="kafka", bootstrap_servers=parts.netloc)
        return Destination(broker, TopicsConfig(chunks=topic))
    raise BadInput(f"--to: {text!r} is not a destination; write spool:DIR or kafka://HOST:PORT/TOPIC")


def publish(
    request: PublishRequest,
    sink: Sink,
    stop: threading.Event,
    on_chunk: Callable[[Published], None] = lambda _: None,
) -> Published:
    """Publish until the source ends (or `stop`); a live stream that breaks is opened again with backoff and jitter.

    A file that is looped continues its own timeline: each pass starts where the last one ended. A broker or stream
    that cannot be reached for the first chunk is an error; later it is waited for, and nothing is left out.
    """
    done = Published(0, 0, request.start_ms, 0)
    recording = feedclock.Pace(request.start_ms, now_ms())  # a recording of last year plays at its own speed too
    backoff = Backoff(first_s=1.0, cap_s=30.0)
    while not stop.is_set():
        try:
            for chunk in _chunks(request, done):
                if (
                    request.pace == "live"
                    and not is_live(request.source)
                    and _wait_until(recording.due_ms(chunk.start_ms, chunk.duration_ms), stop)
                ):
                    return done
                if not _deliver(encode_chunk(chunk, request.topic), sink, stop, done.chunks > 0):
                    return done
                done = replace(
                    done,
                    chunks=chunk.seq + 1,
                    bytes=done.bytes + len(chunk.payload),
                    last_ms=chunk.start_ms + chunk.duration_ms,
                )
                on_chunk(done)
                backoff.reset()
                if stop.is_set():
                    return done
            if not request.loop:
                break
        except Unavailable:
            if not done.chunks or not is_live(request.source):
                raise
            done = replace(done, reconnects=done.reconnects + 1)
            stop.wait(backoff.next_s())
    return done


def _chunks(request: PublishRequest, done: Published) -> Iterator[Chunk]:
    """The source from its beginning, behind what is done."""
    if request.source.startswith("world:"):
        from standwatch.actors.world_feed import film  # draws: only this source needs what that takes

        return film(request.source, request.feed_id, done.last_ms, done.chunks, request.max_record_bytes)
    return cut(request.source, request.feed_id, done.last_ms, done.chunks, request.max_record_bytes)


def _deliver(record: Outgoing, sink: Sink, stop: threading.Event, patient: bool) -> bool:
    """Send one chunk and wait until it is safe: at most one is ever at risk, and none is sent twice.

    When asked to stop, what is in hand is still tried once; False when it is not known to be safe then.
    """
    backoff = Backoff(first_s=0.5, cap_s=15.0)
    accepted = False
    while True:
        try:
            if not accepted:
                sink.send(record)
                accepted = True
            sink.flush()
            return True
        except Unavailable:
            if not patient:
                raise
            if stop.wait(backoff.next_s()):
                return False


def _wait_until(due_ms: int, stop: threading.Event) -> bool:
    """Wait until a camera would have finished a chunk; True when asked to stop meanwhile."""
    return stop.wait(max(0, due_ms - now_ms()) / 1000)
