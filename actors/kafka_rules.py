"""Decides what Kafka decides about one record: size, partition, its topic's name; the spool follows the same rules."""

import re
from functools import lru_cache

from kafka.partitioner.default import murmur2  # type: ignore[import-untyped]
from kafka.record.default_records import DefaultRecordBatchBuilder  # type: ignore[import-untyped]

from standwatch.configs.schema import TopicsConfig
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.types import Outgoing

_REASON_BYTES = 64 * 1024
_TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner gives `key` in a topic of `partitions`."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def wire_bytes(record: Outgoing) -> int:
    """Upper bound of the record's size as a broker counts it against `max.message.bytes`: alone in its batch."""
    return int(DefaultRecordBatchBuilder.estimate_size_in_bytes(record.key, record.value, list(record.headers)))


def limit_of(topic: str, topics: TopicsConfig) -> int:
    """Largest `wire_bytes` of the topic; a dead letter carries a whole record and the reason, so it may be larger."""
    return topics.max_record_bytes + (_REASON_BYTES if topic == topics.dead_letters else 0)


def refuse_too_large(record: Outgoing, topics: TopicsConfig) -> int:
    """`wire_bytes` of the record. Raises `BadInput` naming size, limit and fix when the configuration forbids it."""
    size, limit = wire_bytes(record), limit_of(record.topic, topics)
    if size > limit:
        raise BadInput(
            f"topics.max_record_bytes: a record of {size} bytes for topic {record.topic!r} is over the limit of "
            f"{limit}; write shorter chunks or raise topics.max_record_bytes"
        )
    return size


def checked_topic_name(topic: str) -> str:
    """The name itself. Raises `BadInput` when Kafka would refuse it (it is also a folder's name in a spool)."""
    if _TOPIC_NAME.fullmatch(topic) is None or topic in (".", ".."):
        raise BadInput(f"topics: {topic!r} is not a topic name; use 1 to 249 of the characters A-Z a-z 0-9 . _ -")
    return topic
