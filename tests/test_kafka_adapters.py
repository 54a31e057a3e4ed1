"""Source, sink and topics against a real broker: large records, positions, restarts, refusals that name the fix."""

import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource
from kafka.errors import RetriableError

from standwatch.actors.kafka_rules import partition_of
from standwatch.actors.kafka_sink import KafkaSink
from standwatch.actors.kafka_source import KafkaSource
from standwatch.actors.topics import check_topics, create_topics
from standwatch.configs.schema import BrokerConfig, TopicsConfig
from standwatch.pipeline.clock import now_ms
from standwatch.pipeline.errors import BadInput, PositionLost, Unavailable
from standwatch.pipeline.types import Outgoing, Record
from tests.kafka_broker import Broker, kafka_broker, running_broker

pytestmark = [pytest.mark.kafka, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
__all__ = ["kafka_broker"]

MIB = 1024 * 1024
STARTED_MS = now_ms() - 1234  # not in the past: retention would take such records, and idempotence forget them


def config_for(broker: Broker) -> BrokerConfig:
    return BrokerConfig(kind="kafka", bootstrap_servers=broker.servers, request_timeout_ms=5000)


def fresh_topics(partitions: int = 2, max_record_bytes: int = 10 * MIB) -> TopicsConfig:
    tag = uuid4().hex[:8]
    return TopicsConfig(
        f"{tag}.chunks", f"{tag}.answers", f"{tag}.alerts", f"{tag}.dlq", partitions, 4.0, max_record_bytes
    )


@pytest.fixture
def config(kafka_broker: Broker) -> BrokerConfig:
    return config_for(kafka_broker)


@pytest.fixture
def topics(config: BrokerConfig) -> TopicsConfig:
    made = fresh_topics()
    create_topics(config, made)
    return made


@pytest.fixture
def sink(config: BrokerConfig, topics: TopicsConfig) -> Iterator[KafkaSink]:
    made = KafkaSink(config, topics)
    yield made
    made.close()


@contextmanager
def reading(config: BrokerConfig, topics: TopicsConfig, positions: dict[int, int | None]) -> Iterator[KafkaSource]:
    source = KafkaSource(config, topics.chunks, topics)
    source.assign(positions)
    try:
        yield source
    finally:
        source.close()


@contextmanager
def admin(config: BrokerConfig) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(bootstrap_servers=config.bootstrap_servers)
    yield client
    client.close()


def outgoing(topics: TopicsConfig, value: bytes, key: bytes = b"cam-0") -> Outgoing:
    headers = (("content-type", b"video/h264"), ("empty", b""))
    return Outgoing(topics.chunks, key, value, headers, STARTED_MS)


def take(source: KafkaSource, count: int, within_s: float = 30.0) -> list[Record]:
    records: list[Record] = []
    deadline = time.monotonic() + within_s
    while len(records) < count and time.monotonic() < deadline:
        records += source.poll(count - len(records), 200)
    return records


def until(true: Callable[[], bool], within_s: float = 30.0) -> bool:
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


EVERYTHING: dict[int, int | None] = {0: None, 1: None}


def test_a_9_mib_record_comes_back_as_it_was_sent(config: BrokerConfig, topics: TopicsConfig, sink: KafkaSink) -> None:
    value = bytes(range(256)) * (9 * 4096)
    sink.send(outgoing(topics, value))
    sink.send(outgoing(topics, b"small"))
    sink.flush()
    with reading(config, topics, EVERYTHING) as source:
        assert list(source.partitions()) == [0, 1]
        large, small = take(source, 2)
        assert source.lag() == {0: 0, 1: 0}
    assert large.value == value and small.value == b"small"
    assert (large.key, large.timestamp_ms) == (b"cam-0", STARTED_MS)
    assert large.headers == (("content-type", b"video/h264"), ("empty", b""))
    assert (large.at.topic, large.at.partition, large.at.offset) == (topics.chunks, partition_of(b"cam-0", 2), 0)


def test_a_plain_record_without_key_value_and_headers_is_readable(config: BrokerConfig, topics: TopicsConfig) -> None:
    producer = KafkaProducer(bootstrap_servers=config.bootstrap_servers)
    producer.send(topics.chunks, b"plain", partition=0)
    producer.send(topics.chunks, None, key=b"tombstone", headers=[("reason", b"\xff")], partition=0)
    producer.close()
    with reading(config, topics, {0: None}) as source:
        plain, tombstone = take(source, 2)
    assert (plain.key, plain.value, plain.headers) == (None, b"plain", ())
    assert (tombstone.key, tombstone.value, tombstone.headers) == (b"tombstone", b"", (("reason", b"\xff"),))


def test_reading_goes_on_at_stored_offsets(config: BrokerConfig, topics: TopicsConfig, sink: KafkaSink) -> None:
    for number in range(20):
        sink.send(outgoing(topics, str(number).encode()))
    sink.flush()
    partition = partition_of(b"cam-0", 2)
    with reading(config, topics, {partition: 12}) as source:
        assert source.lag() == {partition: 8}
        assert [record.at.offset for record in take(source, 8)] == list(range(12, 20))
        assert source.poll(1, 10) == []
        source.assign({partition: 19})
        assert [record.value for record in take(source, 1)] == [b"19"]
        source.assign({1 - partition: None})
        assert source.poll(1, 200) == []
        assert source.lag() == {1 - partition: 0}


def test_an_offset_no_longer_retained_goes_on_at_the_oldest_and_says_so(
    config: BrokerConfig, topics: TopicsConfig, sink: KafkaSink, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(10):
        sink.send(outgoing(topics, str(number).encode()))
    sink.flush()
    partition = partition_of(b"cam-0", 2)
    with admin(config) as client:
        client.delete_records({TopicPartition(topics.chunks, partition): 6})
    with caplog.at_level(logging.WARNING), reading(config, topics, {partition: 2}) as source:
        assert [record.at.offset for record in take(source, 4)] == [6, 7, 8, 9]
    assert "offset 2 is no longer retained; continuing at 6" in caplog.text


def test_an_offset_beyond_the_end_names_both_offsets_and_the_fix(
    config: BrokerConfig, topics: TopicsConfig, sink: KafkaSink
) -> None:
    sink.send(outgoing(topics, b"only"))
    sink.flush()
    partition = partition_of(b"cam-0", 2)
    beyond = pytest.raises(PositionLost, match=rf"partition {partition}: .*offset 50, .*ends at 1; .*memory\.path")
    with reading(config, topics, {partition: 50}) as source, beyond:
        take(source, 1)
    with reading(config, topics, {7: 0}) as source, pytest.raises(BadInput, match=r"has 2 partitions.*no partition 7"):
        source.poll(1, 10)


def test_only_committed_records_are_read_and_the_end_is_still_reached(
    config: BrokerConfig, topics: TopicsConfig
) -> None:
    producer = KafkaProducer(bootstrap_servers=config.bootstrap_servers, transactional_id=uuid4().hex)
    producer.init_transactions()
    for number, ends in enumerate((producer.commit_transaction, producer.abort_transaction) * 2):
        producer.begin_transaction()
        producer.send(topics.chunks, str(number).encode(), partition=0).get(timeout=10)
        ends()
    producer.close()
    with reading(config, topics, {0: None}) as source:
        assert [record.value for record in take(source, 2)] == [b"0", b"2"]
        assert until(lambda: source.poll(1, 50) == [] and source.lag() == {0: 0}, 10)


def test_a_missing_topic_names_the_command_that_creates_it(config: BrokerConfig) -> None:
    missing = fresh_topics()
    hint = rf"{missing.chunks}.*does not exist.*standwatch topics create"
    with reading(config, missing, EVERYTHING) as source:
        with pytest.raises(BadInput, match=hint):
            source.partitions()
        with pytest.raises(BadInput, match=hint):
            source.poll(1, 10)
    with pytest.raises(BadInput, match=hint):
        KafkaSink(config, missing).send(outgoing(missing, b"x"))


def test_progress_is_visible_as_the_groups_offsets(config: BrokerConfig, topics: TopicsConfig) -> None:
    group = f"group-{uuid4().hex[:8]}"
    at = TopicPartition(topics.chunks, 1)

    def noted() -> bool:
        source.note_progress({1: 41})
        try:
            found = client.list_group_offsets(group).get(group, {})
        except RetriableError:  # the first commit ever makes the broker create its topic for them
            return False
        return at in found and found[at].offset == 41

    with reading(replace(config, group_id=group), topics, EVERYTHING) as source, admin(config) as client:
        assert until(noted)


def test_progress_noted_while_a_commit_is_on_its_way_is_committed_at_the_latest_when_the_source_closes(
    config: BrokerConfig, topics: TopicsConfig
) -> None:
    group = f"group-{uuid4().hex[:8]}"
    with reading(replace(config, group_id=group), topics, EVERYTHING) as source:
        for offset in range(1, 42):
            source.note_progress({1: offset})
        source.note_progress({0: 7})
    with admin(config) as client:
        found = client.list_group_offsets(group)[group]
    noted = {at.partition: entry.offset for at, entry in found.items()}
    assert noted == {0: 7, 1: 41}


def test_a_record_over_our_own_limit_is_refused_by_send(config: BrokerConfig, topics: TopicsConfig) -> None:
    small = KafkaSink(config, replace(topics, max_record_bytes=65_536))
    with pytest.raises(BadInput, match=r"topics\.max_record_bytes: a record of \d+ bytes .* limit of 65536"):
        small.send(outgoing(topics, bytes(65_536)))


def test_topics_too_small_for_our_records_are_found_by_check_refused_by_send_and_mended_by_create(
    config: BrokerConfig,
) -> None:
    topics = fresh_topics(partitions=4)
    stock = {"num_partitions": 2, "configs": {"max.message.bytes": "1048588", "retention.ms": "300000"}}
    with admin(config) as client:
        client.create_topics({topics.chunks: stock}, wait_for_metadata=True)
        client.create_topics({topics.alerts: {"configs": {"cleanup.policy": "compact"}}}, wait_for_metadata=True)
    problems = "\n".join(check_topics(config, topics))
    assert f"'{topics.chunks}': max.message.bytes is 1048588" in problems and "raise it to 10485760" in problems
    assert f"'{topics.chunks}': retention.ms is 300000" in problems
    assert f"'{topics.chunks}' has 2 partitions, topics.partitions says 4" in problems
    assert f"'{topics.alerts}': cleanup.policy is compact" in problems
    assert f"'{topics.answers}' does not exist" in problems

    sink = KafkaSink(config, topics)
    sink.send(outgoing(topics, b"before"))
    with pytest.raises(BadInput, match=rf"{topics.chunks}.*refuses a record of 20\d+ bytes.*standwatch topics check"):
        sink.send(outgoing(topics, bytes(2 * MIB)))
    sink.send(outgoing(topics, b"after"))
    sink.flush()
    sink.close()

    done = create_topics(config, topics)
    assert any(line.startswith(f"{topics.chunks}: exists; raised max.message.bytes=10485760") for line in done)
    assert any(line.startswith(f"{topics.answers}: created with 4 partitions, 1 replicas") for line in done)
    assert all(line.endswith(": exists") for line in create_topics(config, topics))
    left = check_topics(config, topics)
    assert len(left) == 3 and all("partitions" in line or "cleanup.policy" in line for line in left)

    mended = KafkaSink(config, topics)
    mended.send(outgoing(topics, bytes(2 * MIB)))
    mended.flush()
    mended.close()
    with reading(config, topics, EVERYTHING) as source:
        assert [len(record.value) for record in take(source, 3)] == [6, 5, 2 * MIB]


def test_created_topics_have_no_problems(config: BrokerConfig, topics: TopicsConfig) -> None:
    assert check_topics(config, topics) == []


def test_a_record_that_the_broker_itself_refuses_does_not_end_the_sink(
    config: BrokerConfig, topics: TopicsConfig, sink: KafkaSink
) -> None:
    sink.send(outgoing(topics, b"before"))
    sink.flush()
    with admin(config) as client:
        client.alter_configs([ConfigResource("TOPIC", topics.chunks, {"max.message.bytes": "100000"})])
    refused: list[BadInput] = []
    accepted = 0

    def is_refused() -> bool:
        """A busy broker takes some more of them before it goes by what it was told."""
        nonlocal accepted
        sink.send(outgoing(topics, bytes(200_000)))
        try:
            sink.flush()
            accepted += 1
        except BadInput as error:
            refused.append(error)
        return bool(refused)

    assert until(is_refused)
    assert re.search(r"refuses a record of 2001\d\d bytes.*standwatch topics check", str(refused[0]))
    sink.send(outgoing(topics, b"after"))
    sink.flush()
    with reading(config, topics, EVERYTHING) as source:
        values = [record.value for record in take(source, 2 + accepted)]
    assert values == [b"before", *[bytes(200_000)] * accepted, b"after"]


def test_a_time_that_kafka_refuses_is_bad_input_with_the_setting(topics: TopicsConfig, sink: KafkaSink) -> None:
    with pytest.raises(BadInput, match=r"from the future \(2096-.*message\.timestamp\.after\.max\.ms"):
        sink.send(replace(outgoing(topics, b"x"), timestamp_ms=4_000_000_000_000))
    sink.send(outgoing(topics, b"x"))
    sink.flush()


def test_one_busy_partition_does_not_keep_the_other_from_being_read(
    config: BrokerConfig, topics: TopicsConfig, sink: KafkaSink
) -> None:
    busy, calm = (next(k for n in range(99) if partition_of(k := b"k%d" % n, 2) == p) for p in (0, 1))
    for _ in range(60):
        sink.send(outgoing(topics, bytes(MIB // 2), key=busy))
    sink.send(outgoing(topics, b"calm", key=calm))
    sink.flush()
    with reading(config, topics, EVERYTHING) as source:
        first = take(source, 20)
    assert b"calm" in {record.value for record in first}


def test_a_broker_that_is_away_is_unavailable_for_everything_and_leaves_no_threads() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        config = BrokerConfig(kind="kafka", bootstrap_servers=f"127.0.0.1:{port}", request_timeout_ms=1000)
        topics = fresh_topics()
        source, sink = KafkaSource(config, topics.chunks, topics), KafkaSink(config, topics)
        source.assign(EVERYTHING)
        before = threading.active_count()
        for call in (
            source.partitions,
            lambda: source.poll(1, 10),
            source.lag,
            lambda: sink.send(outgoing(topics, b"x")),
            lambda: create_topics(config, topics),
            lambda: check_topics(config, topics),
        ):
            with pytest.raises(Unavailable, match=rf"broker\.bootstrap_servers: .*127\.0\.0\.1:{port}"):
                call()
        source.note_progress({0: 1})
        source.close()
        sink.close()
        assert threading.active_count() == before


def test_a_server_that_never_answers_is_unavailable_and_leaves_no_threads() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        servers = f"127.0.0.1:{silent.getsockname()[1]}"
        config = BrokerConfig(kind="kafka", bootstrap_servers=servers, request_timeout_ms=1000)
        topics = fresh_topics()
        before = threading.active_count()
        with pytest.raises(Unavailable, match="no answer from Kafka"):
            KafkaSource(config, topics.chunks, topics).poll(1, 10)
        assert until(lambda: threading.active_count() == before, 10)


@pytest.mark.parametrize("servers", ["localhost", "localhost:", "localhost:kafka", ":9092", "a:1,b", "a:70000"])
def test_a_malformed_address_is_bad_input(servers: str) -> None:
    config = BrokerConfig(kind="kafka", bootstrap_servers=servers)
    with pytest.raises(BadInput, match=r"broker\.bootstrap_servers: .* is not HOST:PORT"):
        check_topics(config, fresh_topics())


def test_a_broker_killed_under_writer_and_reader_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with running_broker(tmp_path) as broker:
        config = replace(config_for(broker), request_timeout_ms=2000)
        topics = fresh_topics(partitions=2, max_record_bytes=MIB)
        create_topics(config, topics)
        sink = KafkaSink(config, topics)
        count, away = 200, 0
        with reading(config, topics, EVERYTHING) as source:
            sink.send(outgoing(topics, b"0:"))
            sink.flush()
            records = take(source, 1)
            restart = threading.Thread(target=_crash_and_return, args=(broker,))
            for number in range(1, count):
                if number == 50:
                    restart.start()
                while True:
                    try:
                        sink.send(outgoing(topics, b"%d:" % number + bytes(500_000), key=b"k%d" % (number % 4)))
                        break
                    except Unavailable:
                        away += 1
            while True:
                try:
                    sink.flush()
                    break
                except Unavailable:
                    away += 1
            while len(records) < count:
                try:
                    records += take(source, count - len(records))
                except Unavailable:
                    away += 1
            restart.join()
            assert source.poll(10, 500) == []
        sink.close()
    assert away > 0, "the broker was not missed: the test has not tested anything"
    assert sorted(int(record.value.split(b":")[0]) for record in records) == list(range(count))
    for partition in (0, 1):
        offsets = [record.at.offset for record in records if record.at.partition == partition]
        assert offsets == list(range(len(offsets)))
    for key in range(4):
        mine = [int(r.value.split(b":")[0]) for r in records if r.key == b"k%d" % key]
        assert mine == sorted(mine)


def test_a_broker_that_stops_is_noticed_by_a_waiting_reader_and_a_flush_and_both_go_on_when_it_is_back(
    tmp_path: Path,
) -> None:
    with running_broker(tmp_path) as broker:
        config = replace(config_for(broker), request_timeout_ms=1000)
        topics = fresh_topics()
        create_topics(config, topics)
        sink = KafkaSink(config, topics)
        with reading(config, topics, EVERYTHING) as source:
            sink.send(outgoing(topics, b"before"))
            sink.flush()
            assert len(take(source, 1)) == 1
            broker.stop()
            sink.send(outgoing(topics, b"kept"))
            with pytest.raises(Unavailable, match=r"not acknowledged 1 records .* within 1000 ms; they are kept"):
                sink.flush()
            with pytest.raises(Unavailable, match="no answer from Kafka"):
                for _ in range(100):
                    source.poll(1, 100)
            with pytest.raises(Unavailable):
                source.lag()
            source.note_progress({0: 1})
            broker.start()
            assert until(lambda: _flushed(sink))
            records: list[Record] = []
            assert until(lambda: _polled(source, records))
            assert [record.value for record in records] == [b"kept"]
            broker.stop()
            sink.send(outgoing(topics, b"given up"))
            sink.close()


def test_what_waits_for_an_absent_broker_is_bounded(tmp_path: Path) -> None:
    with running_broker(tmp_path) as broker:
        config = replace(config_for(broker), request_timeout_ms=1000)
        topics = fresh_topics(max_record_bytes=MIB)
        create_topics(config, topics)
        sink = KafkaSink(config, topics)
        sink.send(outgoing(topics, b"first"))
        sink.flush()
        broker.kill()
        accepted = 0
        with pytest.raises(Unavailable, match="has not acknowledged"):
            for _ in range(200):
                sink.send(outgoing(topics, bytes(MIB - 1000)))
                accepted += 1
        assert 32 < accepted < 80
        sink.close()


def _crash_and_return(broker: Broker) -> None:
    broker.kill()
    time.sleep(3)
    broker.start()


def _flushed(sink: KafkaSink) -> bool:
    try:
        sink.flush()
    except Unavailable:
        return False
    return True


def _polled(source: KafkaSource, records: list[Record]) -> bool:
    with suppress(Unavailable):
        records += source.poll(10, 100)
    return bool(records)
