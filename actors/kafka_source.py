"""Decides how a Kafka topic is read: assigned partitions, positions of our own, and never silently less."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from kafka import TopicPartition  # type: ignore[import-untyped]
from kafka.errors import KafkaError, LogTruncationError, OffsetOutOfRangeError  # type: ignore[import-untyped]
from kafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]

from standwatch.actors.kafka_link import connect_consumer, failure_of, kafka_errors, probe
from standwatch.actors.kafka_rules import checked_topic_name
from standwatch.actors.kafka_topics import partitions_of
from standwatch.configs.schema import BrokerConfig, TopicsConfig
from standwatch.pipeline.errors import BadInput, PositionLost, Unavailable
from standwatch.pipeline.types import Record, SourceOffset

_FETCH_BYTES = 32 * 1024 * 1024
_PARTITION_FETCH_BYTES = 2 * 1024 * 1024  # a larger record still comes, alone: brokers send at least one
_IDLE_CHECK_S = 2.0
_LAST_COMMIT_MS = 5000
_FIX = "start with an empty memory (another memory.path), or restore the topic"

log = logging.getLogger(__name__)


class KafkaSource:
    """A `Source` on a Kafka topic. Connects when first needed and, after `Unavailable`, again by itself.

    The reading consumer belongs to no group, so nothing but `assign` moves it. Offsets for dashboards are committed
    by a second one, made at the first `note_progress`.
    """

    def __init__(self, config: BrokerConfig, topic: str, topics: TopicsConfig) -> None:
        self._config = config
        self._topic = checked_topic_name(topic)
        self._max_record_bytes = topics.max_record_bytes
        self._consumer: Any = None
        self._committer: Any = None
        self._commit: Any = None  # the future of the last commit
        self._progress: dict[int, int] = {}  # the newest, whether or not a commit has carried it
        self._to_place: dict[int, int | None] = {}  # assigned, but the consumer does not know yet
        self._idle_check_at = 0.0

    def partitions(self) -> Sequence[int]:
        """As `Source.partitions`. Raises `BadInput` when the topic does not exist."""
        return range(partitions_of(self._config, self._topic))

    def assign(self, positions: Mapping[int, int | None]) -> None:
        """As `Source.assign`; takes effect, and fails, with the next call."""
        if self._consumer is not None and not positions:
            self._consumer.assign([])
        self._to_place = dict(positions)

    def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        """As `Source.poll`. Raises `PositionLost` for an offset beyond the end."""
        with kafka_errors(self._config, f"topic {self._topic!r}"):
            consumer = self._placed()
            try:
                batches = consumer.poll(timeout_ms=timeout_ms, max_records=max_records)
            except OffsetOutOfRangeError as error:
                self._resolve(error.args[0])
                return []
            except LogTruncationError as error:
                raise PositionLost(f"topic {self._topic!r}: records read before are gone: {error}; {_FIX}") from error
        if not batches:
            self._check_idle()
        return [self._record(entry) for entries in batches.values() for entry in entries]

    def lag(self) -> Mapping[int, int]:
        ends = self.end_offsets()
        with kafka_errors(self._config, f"topic {self._topic!r}"):
            return {partition: max(0, end - self._position(partition)) for partition, end in ends.items()}

    def end_offsets(self) -> Mapping[int, int]:
        """For each assigned partition the offset after its last record: what to assign to read only what comes."""
        with kafka_errors(self._config, f"topic {self._topic!r}"):
            consumer = self._placed()
            return {tp.partition: end for tp, end in consumer.end_offsets(list(consumer.assignment())).items()}

    def note_progress(self, positions: Mapping[int, int]) -> None:
        """As `Source.note_progress`; asynchronous, and left to the next one while the one before is on its way."""
        self._progress |= positions
        if not self._progress or (self._commit is not None and not self._commit.is_done):
            return
        try:
            if self._committer is None:
                self._committer = connect_consumer(self._config, group_id=self._config.group_id)
            self._commit = self._committer.commit_async(self._offsets()).add_errback(self._commit_failed)
        except (KafkaError, Unavailable, BadInput) as error:
            self._commit_failed(error)

    def close(self) -> None:
        """Commits what was noted last before, within seconds; where Kafka does not answer that is only logged."""
        if self._committer is not None:
            try:
                probe(self._config)
                patience_ms = min(_LAST_COMMIT_MS, self._config.request_timeout_ms)
                self._committer.commit(self._offsets(), timeout_ms=patience_ms)
            except (KafkaError, Unavailable, BadInput) as error:
                self._commit_failed(error)
        for consumer in (self._consumer, self._committer):
            if consumer is not None:
                consumer.close(timeout_ms=1000)
        self._consumer = self._committer = self._commit = None
        self._progress = {}

    def _placed(self) -> Any:
        """The consumer, reading what was assigned last."""
        if self._consumer is None:
            self._consumer = connect_consumer(
                self._config,
                group_id=None,
                auto_offset_reset="none",
                isolation_level="read_committed",
                fetch_max_wait_ms=min(500, self._config.request_timeout_ms // 2),
                fetch_max_bytes=_FETCH_BYTES,
                max_partition_fetch_bytes=_PARTITION_FETCH_BYTES,
                receive_message_max_bytes=2 * _FETCH_BYTES + 2 * self._max_record_bytes,
            )
        if self._to_place:
            count = partitions_of(self._config, self._topic)
            if max(self._to_place) >= count:
                raise BadInput(
                    f"topic {self._topic!r} has {count} partitions, so there is no partition {max(self._to_place)}; "
                    "was it created anew with fewer?"
                )
            self._consumer.assign([self._at(partition) for partition in self._to_place])
            for partition, offset in self._to_place.items():
                if offset is None:
                    self._consumer.seek_to_beginning(self._at(partition))
                else:
                    self._consumer.seek(self._at(partition), offset)
            self._to_place = {}
        return self._consumer

    def _position(self, partition: int) -> int:
        position = self._consumer.position(self._at(partition), timeout_ms=self._config.request_timeout_ms)
        if position is None:
            raise Unavailable(f"topic {self._topic!r} partition {partition}: Kafka did not name its first offset")
        return int(position)

    def _resolve(self, lost: Mapping[Any, int]) -> None:
        """The broker has none of these offsets: too old goes on at the oldest, loudly; too new is another topic."""
        oldest = self._consumer.beginning_offsets(list(lost))
        ends = self._consumer.end_offsets(list(lost))
        for at, offset in lost.items():
            if offset < oldest[at]:
                log.warning("%s: offset %d is no longer retained; continuing at %d", at, offset, oldest[at])
                self._consumer.seek(at, oldest[at])
            elif offset > ends[at]:
                raise PositionLost(
                    f"topic {self._topic!r} partition {at.partition}: asked for offset {offset}, but the topic ends at "
                    f"{ends[at]}; it was created anew or lost records since that position was stored; {_FIX}"
                )

    def _check_idle(self) -> None:
        """A consumer whose broker is gone only stays silent; so look at the broker now and then while nothing comes."""
        now = time.monotonic()
        if now >= self._idle_check_at:
            probe(self._config)
            self._idle_check_at = now + _IDLE_CHECK_S

    def _offsets(self) -> dict[Any, Any]:
        return {self._at(partition): OffsetAndMetadata(offset, "", -1) for partition, offset in self._progress.items()}

    def _commit_failed(self, error: BaseException) -> None:
        log.warning("group %r: progress was not noted: %s", self._config.group_id, failure_of(error))

    def _at(self, partition: int) -> Any:
        return TopicPartition(self._topic, partition)

    def _record(self, entry: Any) -> Record:
        headers = tuple((name, value or b"") for name, value in entry.headers)
        at = SourceOffset(entry.topic, entry.partition, entry.offset)
        return Record(at, entry.timestamp, entry.key, entry.value or b"", headers)
