"""Decides what our topics must be like on a Kafka cluster: creates them, and says what is wrong with those there."""

from dataclasses import dataclass
from typing import Any

from kafka.admin import ConfigResource  # type: ignore[import-untyped]
from kafka.errors import (  # type: ignore[import-untyped]
    InvalidReplicationFactorError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)

from standwatch.actors.kafka_link import admin_client
from standwatch.actors.kafka_rules import limit_of
from standwatch.configs.schema import BrokerConfig, TopicsConfig
from standwatch.pipeline.errors import BadInput, Unavailable

_HOUR_MS = 3_600_000
_MIB = 1024 * 1024
_FRAME_BYTES = 64 * 1024  # what a produce request may weigh beside its record


@dataclass(frozen=True, slots=True)
class TopicLimits:
    """What a topic refuses: larger records, and times further ahead of the broker's clock (None: it does not say)."""

    record_bytes: int
    ahead_ms: int | None


def partitions_of(config: BrokerConfig, topic: str) -> int:
    """How many partitions the topic has. Raises `BadInput` when it does not exist, and `Unavailable`."""
    with admin_client(config) as admin:
        return _partitions(config, admin, topic)


def limits_of(config: BrokerConfig, topic: str) -> TopicLimits:
    """What the topic takes, as its broker says. Raises as `partitions_of`."""
    with admin_client(config) as admin:
        _partitions(config, admin, topic)
        settings = _settings(admin, "topic", topic)
    ahead_ms = settings.get("message.timestamp.after.max.ms")  # brokers before 3.6 have another name for it
    return TopicLimits(int(settings["max.message.bytes"]), None if ahead_ms is None else int(ahead_ms))


def _partitions(config: BrokerConfig, admin: Any, topic: str) -> int:
    found = _describe(admin, [topic])[topic]
    if found is None:
        raise BadInput(
            f"topic {topic!r} does not exist on {config.bootstrap_servers}; create it with `standwatch topics create`"
        )
    if not found["partitions"]:
        raise Unavailable(f"topic {topic!r} on {config.bootstrap_servers} has no leaders yet")
    return len(found["partitions"])


def create_kafka_topics(config: BrokerConfig, topics: TopicsConfig) -> list[str]:
    """Create what is missing, raise what is safely raised; one line for each topic. Idempotent."""
    with admin_client(config) as admin:
        return [_create(admin, topic, topics) for topic in topic_names(topics)]


def check_kafka_topics(config: BrokerConfig, topics: TopicsConfig) -> list[str]:
    """What would keep our records from being written, replicated or kept, and the fix; empty when all is well."""
    problems: list[str] = []
    with admin_client(config) as admin:
        found = _describe(admin, topic_names(topics))
        brokers = {node: _settings(admin, "broker", str(node)) for node in _brokers(admin)}
        for topic, description in found.items():
            if description is None:
                problems.append(f"topic {topic!r} does not exist; create it with `standwatch topics create`")
                continue
            settings = _settings(admin, "topic", topic)
            problems += _topic_problems(topic, len(description["partitions"]), settings, topics)
            copies = min(len(partition["replica_nodes"]) for partition in description["partitions"])
            for node, own in brokers.items():
                problems += _broker_problems(topic, node, own, limit_of(topic, topics), copies)
    return list(dict.fromkeys(problems))


def topic_names(topics: TopicsConfig) -> list[str]:
    """All our topics, each once."""
    return list(dict.fromkeys((topics.chunks, topics.answers, topics.alerts, topics.dead_letters)))


def _wanted(topic: str, topics: TopicsConfig) -> dict[str, int | str]:
    retention_ms = int(topics.retention_hours * _HOUR_MS)
    return {
        "max.message.bytes": limit_of(topic, topics),
        "retention.ms": retention_ms,
        "segment.ms": max(60_000, retention_ms // 4),  # only whole segments expire: a quarter is kept too long at most
        "segment.bytes": max(128 * _MIB, 4 * topics.max_record_bytes),
        "cleanup.policy": "delete",
        "message.timestamp.type": "CreateTime",
    }


def _create(admin: Any, topic: str, topics: TopicsConfig) -> str:
    wanted = _wanted(topic, topics)
    existing = _describe(admin, [topic])[topic]
    if existing is not None:
        return _raise_settings(admin, topic, wanted)
    copies = min(3, len(_brokers(admin)))
    configs = {name: str(value) for name, value in wanted.items()} | {
        "min.insync.replicas": "2" if copies == 3 else "1"  # one broker may be away without stopping writers
    }
    plan = {"num_partitions": topics.partitions, "replication_factor": copies, "configs": configs}
    try:
        admin.create_topics({topic: plan}, wait_for_metadata=True)
    except TopicAlreadyExistsError:  # another process came first
        return _raise_settings(admin, topic, wanted)
    except InvalidReplicationFactorError as error:
        raise Unavailable(f"topic {topic!r} needs {copies} brokers at once: {error}") from error
    return f"{topic}: created with {topics.partitions} partitions, {copies} replicas, {_in_words(wanted)}"


def _raise_settings(admin: Any, topic: str, wanted: dict[str, int | str]) -> str:
    """Allow larger records and longer keeping; nothing that deletes records or moves feeds to other partitions."""
    settings = _settings(admin, "topic", topic)
    raised = {name: wanted[name] for name in ("max.message.bytes", "retention.ms") if _short(settings, name, wanted)}
    if not raised:
        return f"{topic}: exists"
    changes = {name: str(value) for name, value in raised.items()}
    admin.alter_configs([ConfigResource("TOPIC", topic, changes)])
    before = {name: settings[name] for name in raised}
    return f"{topic}: exists; raised {_in_words(raised)} (was {_in_words(before)})"


def _short(settings: dict[str, str], name: str, wanted: dict[str, int | str]) -> bool:
    value = int(settings[name])
    return 0 <= value < int(wanted[name])  # retention -1 is for ever


def _topic_problems(topic: str, partitions: int, settings: dict[str, str], topics: TopicsConfig) -> list[str]:
    wanted = _wanted(topic, topics)
    problems: list[str] = []
    for name, why in (
        ("max.message.bytes", "our records (topics.max_record_bytes) would be refused"),
        ("retention.ms", "records go before topics.retention_hours"),
    ):
        if _short(settings, name, wanted):
            problems.append(
                f"topic {topic!r}: {name} is {settings[name]}, so {why}; raise it to {wanted[name]} "
                "(`standwatch topics create` does)"
            )
    if "compact" in settings["cleanup.policy"]:
        problems.append(
            f"topic {topic!r}: cleanup.policy is {settings['cleanup.policy']}, which keeps only a feed's last record; "
            "set it to delete"
        )
    if settings["message.timestamp.type"] != "CreateTime":
        problems.append(
            f"topic {topic!r}: message.timestamp.type is {settings['message.timestamp.type']}, which replaces the "
            "records' own times; set it to CreateTime"
        )
    if partitions < topics.partitions:
        problems.append(
            f"topic {topic!r} has {partitions} partitions, topics.partitions says {topics.partitions}; adding some "
            f"moves feeds in the middle of their order, so set topics.partitions={partitions} or use a new topic name"
        )
    return problems


def _broker_problems(topic: str, node: int, settings: dict[str, str], limit: int, copies: int) -> list[str]:
    """Broker-wide limits that hold whatever a topic says. (`message.max.bytes` is but the default of its topics.)"""
    needs = [("socket.request.max.bytes", limit + _FRAME_BYTES, "no request with such a record is read")]
    if copies > 1:
        needs.append(("replica.fetch.max.bytes", limit, "replicas copy such records one by one only"))
        needs.append(("replica.fetch.response.max.bytes", limit, "replicas copy such records one by one only"))
    return [
        f"broker {node}: {name} is {settings[name]}, but records of topic {topic!r} have up to {limit} bytes: {why}; "
        f"raise it to {least} in server.properties"
        for name, least, why in needs
        if name in settings and int(settings[name]) < least
    ]


def _describe(admin: Any, topics: list[str]) -> dict[str, dict[str, Any] | None]:
    """What the cluster says of each topic; None for one that does not exist."""
    found = {entry["name"]: entry for entry in admin.describe_topics(topics)}
    missing = UnknownTopicOrPartitionError.errno
    return {topic: None if found[topic]["error_code"] == missing else found[topic] for topic in topics}


def _brokers(admin: Any) -> list[int]:
    return [int(broker["broker_id"]) for broker in admin.describe_cluster()["brokers"]]


def _settings(admin: Any, kind: str, name: str) -> dict[str, str]:
    """Settings in force, whether set on the topic or inherited."""
    answer = admin.describe_configs([ConfigResource(kind.upper(), name)], config_filter="all")
    (by_name,) = answer.values()
    return {key: entry["value"] for key, entry in by_name[name].items()}


def _in_words(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())
