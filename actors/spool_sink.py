"""Decides how records are written to a spool: which partition, when synced, when the old ones go."""

import threading
from collections.abc import Callable

from standwatch.actors.kafka_rules import partition_of, refuse_too_large
from standwatch.actors.spool_frames import encode_frame
from standwatch.actors.spool_writer import PartitionWriter
from standwatch.actors.spoolfiles import SpoolTopic, open_topic
from standwatch.configs.schema import BrokerConfig, TopicsConfig
from standwatch.pipeline.clock import now_ms
from standwatch.pipeline.types import Outgoing

_RETENTION_EVERY_MS = 30_000
_HOUR_MS = 3_600_000


class SpoolSink:
    """A `Sink` on a directory, for any topic in it. Readers see a record when `send` returns; `flush` makes it durable.

    May be used from several threads, and beside other sinks on the same spool in this process and others.
    """

    def __init__(self, config: BrokerConfig, topics: TopicsConfig, clock: Callable[[], int] = now_ms) -> None:
        self._config = config
        self._limits = topics
        self._clock = clock
        self._mutex = threading.Lock()
        self._topics: dict[str, SpoolTopic] = {}
        self._writers: dict[tuple[str, int], PartitionWriter] = {}
        self._retain_at_ms = 0

    def send(self, record: Outgoing) -> None:
        """As `Sink.send`. Raises `Unavailable` too: a full disk, a path that may not be written."""
        refuse_too_large(record, self._limits)
        pieces = encode_frame(record.timestamp_ms, record.key, record.headers, record.value)
        with self._mutex:
            topic = self._topic(record.topic)
            self._writer(topic, partition_of(record.key, topic.partitions)).append(pieces)
            if self._clock() >= self._retain_at_ms:
                self._retain()

    def flush(self) -> None:
        with self._mutex:
            for writer in self._writers.values():
                writer.sync()

    def close(self) -> None:
        with self._mutex:
            while self._writers:
                self._writers.popitem()[1].close()

    def _topic(self, name: str) -> SpoolTopic:
        if name not in self._topics:
            self._topics[name] = open_topic(self._config.spool_dir, name, self._limits.partitions)
            self._retain_at_ms = 0
        return self._topics[name]

    def _writer(self, topic: SpoolTopic, partition: int) -> PartitionWriter:
        writer = self._writers.get((topic.name, partition))
        if writer is None:
            folder = topic.partition_dir(partition)
            wait_ms = self._config.request_timeout_ms
            writer = PartitionWriter(folder, self._config.spool_segment_bytes, wait_ms)
            self._writers[topic.name, partition] = writer
        return writer

    def _retain(self) -> None:
        """In every partition of every topic written to, so that feeds which fell silent do not keep theirs forever."""
        cutoff_ms = self._clock() - int(self._limits.retention_hours * _HOUR_MS)
        for topic in self._topics.values():
            for partition in range(topic.partitions):
                self._writer(topic, partition).drop_older_than(cutoff_ms)
        self._retain_at_ms = self._clock() + _RETENTION_EVERY_MS
