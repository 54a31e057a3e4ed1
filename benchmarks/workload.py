"""The footage of the pipeline figures: four feeds in a spool, and a configuration to run them with."""

import threading
from pathlib import Path

from standwatch.actors.publisher import PublishRequest, publish
from standwatch.actors.topics import open_sink
from standwatch.configs.load import load_config
from standwatch.configs.schema import StandwatchConfig

FOOTAGE = Path(__file__).resolve().parents[1] / "standwatch" / "footage"
VIDEOS = ("bottle-detection.mp4", "one-by-one-person-detection.mp4")
START_MS = 1_790_000_000_000


def configuration(root: Path, *overrides: str) -> StandwatchConfig:
    """The demo's configuration and model in a directory of its own."""
    places = (f"memory.path={root / 'memory'}", f"broker.spool_dir={root / 'spool'}")
    return load_config("demo", None, [*places, *overrides])


def request(config: StandwatchConfig, feed: int, pace: str, loop: bool, start_ms: int) -> PublishRequest:
    return PublishRequest(
        source=str(FOOTAGE / VIDEOS[feed % len(VIDEOS)]),
        feed_id=f"camera-{feed}",
        topic=config.topics.chunks,
        pace="live" if pace == "live" else "fast",
        loop=loop,
        start_ms=start_ms,
        max_record_bytes=config.topics.max_record_bytes,
    )


def publish_feeds(config: StandwatchConfig, feeds: int) -> None:
    """Publish each feed's whole file, as fast as it goes."""
    for feed in range(feeds):
        sink = open_sink(config.broker, config.topics)
        publish(request(config, feed, "fast", False, START_MS), sink, threading.Event())
        sink.close()
