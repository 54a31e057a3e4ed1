"""Sends a file or a live stream to a topic, chunk by chunk, as a camera would."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from standwatch.configs.schema import BrokerConfig, TopicsConfig
from standwatch.pipeline.backoff import Backoff
from standwatch.pipeline.clock import now_ms
from standwatch.pipeline.codec import encode_chunk
from standwatch.pipeline.cutting import cut
from standwatch.pipeline.errors import BadInput, Unavailable
from standwatch.pipeline.ports import Sink
from standwatch.pipeline.types import Chunk

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
    """Publish until the source ends (or `stop`); streams that break are reconnected with backoff and jitter.

    A file that is looped continues its own timeline: each pass starts where the last one ended.
    """
    start_ms, seq, size, reconnects = request.start_ms, 0, 0, 0
    endless = request.source.lower().startswith(("rtsp://", "rtsps://"))
    remote = "://" in request.source
    backoff = Backoff(first_s=1.0, cap_s=30.0)
    done = Published(0, 0, start_ms, 0)
    while not stop.is_set():
        try:
            for chunk in cut(request.source, request.feed_id, start_ms, seq, request.max_record_bytes):
                if request.pace == "live" and not remote and _wait_until(chunk, stop):
                    return done
                sink.send(encode_chunk(chunk, request.topic))
                if request.pace == "live":
                    sink.flush()
                seq, size = chunk.seq + 1, size + len(chunk.payload)
                start_ms = chunk.start_ms + chunk.duration_ms
                done = Published(seq, size, start_ms, reconnects)
                on_chunk(done)
                backoff.reset()
                if stop.is_set():
                    break
            sink.flush()
            if not (request.loop or endless):
                break
        except Unavailable:
            if not remote and request.pace == "fast":
                raise  # a file and a broker that is away: nothing is lost by telling the user
            reconnects += 1
            stop.wait(backoff.next_s())
            start_ms = max(start_ms, now_ms()) if remote else start_ms
    return done


def _wait_until(chunk: Chunk, stop: threading.Event) -> bool:
    """Wait until a camera would have finished this chunk; True when asked to stop meanwhile."""
    return stop.wait(max(0, chunk.start_ms + chunk.duration_ms - now_ms()) / 1000)
