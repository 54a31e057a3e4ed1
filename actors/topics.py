"""Decides between spool and Kafka, here and nowhere else: sources, sinks, and the topics behind them."""

from standwatch.actors.kafka_sink import KafkaSink
from standwatch.actors.kafka_source import KafkaSource
from standwatch.actors.kafka_topics import check_kafka_topics, create_kafka_topics, topic_names
from standwatch.actors.spool_sink import SpoolSink
from standwatch.actors.spool_source import SpoolSource
from standwatch.actors.spoolfiles import find_topic, open_topic
from standwatch.configs.schema import BrokerConfig, TopicsConfig
from standwatch.pipeline.ports import Sink, Source


def open_source(broker: BrokerConfig, topics: TopicsConfig, topic: str) -> Source:
    """A reader of one topic, with nothing assigned yet."""
    if broker.kind == "kafka":
        return KafkaSource(broker, topic, topics)
    return SpoolSource(broker, topic, topics)


def open_sink(broker: BrokerConfig, topics: TopicsConfig) -> Sink:
    """A writer for all topics."""
    if broker.kind == "kafka":
        return KafkaSink(broker, topics)
    return SpoolSink(broker, topics)


def create_topics(broker: BrokerConfig, topics: TopicsConfig) -> list[str]:
    """Create what is missing and raise what is too small; one line for each topic says what was done. Idempotent."""
    if broker.kind == "kafka":
        return create_kafka_topics(broker, topics)
    return [_create_in_spool(broker, topics, topic) for topic in topic_names(topics)]


def check_topics(broker: BrokerConfig, topics: TopicsConfig) -> list[str]:
    """What is wrong with the topics, each with its fix; empty when they are as the configuration needs them."""
    if broker.kind == "kafka":
        return check_kafka_topics(broker, topics)
    problems: list[str] = []
    for topic in topic_names(topics):
        found = find_topic(broker.spool_dir, topic)
        if found is None:
            problems.append(f"topic {topic!r} does not exist; create it with `standwatch topics create`")
        elif found.partitions != topics.partitions:
            problems.append(
                f"topic {topic!r} has {found.partitions} partitions in {found.path}, topics.partitions says "
                f"{topics.partitions}; set topics.partitions={found.partitions} or use another broker.spool_dir"
            )
    return problems


def _create_in_spool(broker: BrokerConfig, topics: TopicsConfig, topic: str) -> str:
    if (found := find_topic(broker.spool_dir, topic)) is not None:
        return f"{topic}: exists with {found.partitions} partitions"
    created = open_topic(broker.spool_dir, topic, topics.partitions)
    return f"{topic}: created with {created.partitions} partitions in {created.path}"
