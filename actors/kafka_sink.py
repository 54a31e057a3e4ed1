"""Decides how records are written to Kafka: once, in order, acknowledged by all replicas, never without bound."""

import logging
import threading
import time
from collections import deque
from typing import Any

from kafka.errors import (  # type: ignore[import-untyped]
    InvalidTimestampError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from standwatch.actors.kafka_link import connect_producer, failure_of, kafka_errors
from standwatch.actors.kafka_rules import checked_topic_name, limit_of, refuse_too_large
from standwatch.actors.kafka_topics import TopicLimits, limits_of
from standwatch.configs.schema import BrokerConfig, TopicsConfig
from standwatch.pipeline.clock import now_ms, rfc3339
from standwatch.pipeline.errors import BadInput, Unavailable
from standwatch.pipeline.types import Outgoing

_PENDING_BYTES = 64 * 1024 * 1024
_NEVER_MS = 7 * 24 * 3_600_000  # giving a record up would lose or double it; only `flush` has a deadline
_LIMITS_S = 5.0
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)

log = logging.getLogger(__name__)


class KafkaSink:
    """A `Sink` on Kafka by an idempotent producer; connects when first needed.

    What `send` accepted stays accepted: after `Unavailable` from `flush` the producer goes on trying, under the same
    sequence numbers, and the next `flush` waits for the same records. Sending them again would double them.
    Brokers forget a producer by its records' own times: where those lie more than producer.id.expiration.ms (a day) in
    the past, a broker that crashes can store the record in flight twice.
    """

    def __init__(self, config: BrokerConfig, topics: TopicsConfig) -> None:
        self._config = config
        self._limits = topics
        self._mutex = threading.Lock()
        self._producer: Any = None
        self._known: dict[str, tuple[TopicLimits, float]] = {}  # and when they were asked for
        self._pending: deque[tuple[Any, str, int]] = deque()  # future, topic, bytes; oldest first
        self._pending_bytes = 0
        self._failures: list[tuple[BaseException, str, int]] = []

    def send(self, record: Outgoing) -> None:
        """As `Sink.send`. Raises `Unavailable` when the broker is away or takes too long to make room.

        What the topic would refuse is refused here, because a refusal by the broker is fatal to an idempotent producer
        of kafka-python: whatever else is on its way fails with it.
        """
        size = refuse_too_large(record, self._limits)
        with self._mutex, kafka_errors(self._config, f"a record for topic {record.topic!r}"):
            self._refuse(record, size)
            self._make_room(size)
            future = self._connected().send(
                record.topic,
                key=record.key,
                value=record.value,
                headers=list(record.headers),
                timestamp_ms=record.timestamp_ms,
            )
            self._pending.append((future, record.topic, size))
            self._pending_bytes += size

    def flush(self) -> None:
        """As `Sink.flush`. Raises `BadInput` when the broker refused one record for good; that one is dropped."""
        with self._mutex:
            deadline = time.monotonic() + self._config.request_timeout_ms / 1000
            while self._pending:
                self._settle_oldest(deadline)
            if self._failures:
                failures, self._failures = self._failures, []
                self._drop_producer()
                raise self._failure(*failures[0], others=len(failures) - 1) from failures[0][0]

    def close(self) -> None:
        """Let go of the producer, after at most the request timeout; what was not flushed by then may be lost."""
        with self._mutex:
            self._drop_producer()

    def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            producer.close(timeout=self._config.request_timeout_ms / 1000)
        except KafkaTimeoutError:
            log.warning("closed with %d records that Kafka has not acknowledged", len(self._pending))
            producer._sender.force_close()  # no public way: close() itself waits for the records first
            producer._sender.join(self._config.request_timeout_ms / 1000)
            producer.close(timeout=1)
        self._pending.clear()
        self._pending_bytes = 0

    def _refuse(self, record: Outgoing, size: int) -> None:
        """Raise `BadInput` for what the topic refuses, by limits asked for not long ago."""
        limits, asked_at = self._known.get(record.topic, (None, 0.0))
        problem = None if limits is None else self._problem(record, size, limits)
        if limits is None or (problem is not None and time.monotonic() >= asked_at + _LIMITS_S):
            limits = limits_of(self._config, checked_topic_name(record.topic))
            self._known[record.topic] = (limits, time.monotonic())
            problem = self._problem(record, size, limits)
        if problem is not None:
            raise problem

    def _problem(self, record: Outgoing, size: int, limits: TopicLimits) -> BadInput | None:
        if size > limits.record_bytes:
            return self._too_large(record.topic, size)
        if limits.ahead_ms is not None and record.timestamp_ms > now_ms() + limits.ahead_ms:
            return self._too_far_ahead(record.topic, rfc3339(record.timestamp_ms))
        return None

    def _connected(self) -> Any:
        if self._producer is None:
            self._producer = connect_producer(
                self._config,
                enable_idempotence=True,
                acks="all",
                compression_type=None,  # video does not shrink
                linger_ms=2,
                max_request_size=limit_of(self._limits.dead_letters, self._limits),
                max_block_ms=self._config.request_timeout_ms,
                delivery_timeout_ms=_NEVER_MS,
            )
        return self._producer

    def _make_room(self, size: int) -> None:
        limit = max(_PENDING_BYTES, 4 * self._limits.max_record_bytes)
        deadline = time.monotonic() + self._config.request_timeout_ms / 1000
        while self._pending and (self._pending[0][0].is_done or self._pending_bytes + size > limit):
            self._settle_oldest(deadline)

    def _settle_oldest(self, deadline: float) -> None:
        """Wait for the oldest record's fate. A failure is kept for `flush`: it is not the present record's."""
        future, topic, size = self._pending[0]
        try:
            future.get(timeout=max(0.0, deadline - time.monotonic()))
        except KafkaError as error:
            if not future.is_done:
                raise Unavailable(
                    f"broker.bootstrap_servers: Kafka at {self._config.bootstrap_servers} has not acknowledged "
                    f"{len(self._pending)} records ({self._pending_bytes} bytes) within "
                    f"{self._config.request_timeout_ms} ms; they are kept and tried again"
                ) from error
            self._failures.append((error, topic, size))
        self._pending.popleft()
        self._pending_bytes -= size

    def _failure(self, error: BaseException, topic: str, size: int, others: int) -> Exception:
        """Of several failures at once nobody can tell which record was refused and which went down with it."""
        if isinstance(error, _TOO_LARGE) and not others:
            return self._too_large(topic, size)
        if isinstance(error, InvalidTimestampError) and not others:
            return self._too_far_ahead(topic, failure_of(error))
        more = f" and {others} more" if others else ""
        return RuntimeError(f"topic {topic!r}: Kafka did not take a record of {size} bytes{more}: {failure_of(error)}")

    def _too_large(self, topic: str, size: int) -> BadInput:
        return BadInput(
            f"topic {topic!r}: Kafka refuses a record of {size} bytes, although topics.max_record_bytes allows "
            f"{self._limits.max_record_bytes}; `standwatch topics check` names the setting to raise, "
            "`standwatch topics create` raises it"
        )

    def _too_far_ahead(self, topic: str, when: str) -> BadInput:
        return BadInput(
            f"topic {topic!r}: Kafka refuses a record from the future ({when}); set the clock of its source right, or "
            "raise the topic's message.timestamp.after.max.ms"
        )
