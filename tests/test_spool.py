"""The spool keeps a topic's contract: partitions, offsets, order, seek, retention, several processes, torn tails."""

import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from kafka.partitioner.default import DefaultPartitioner

from standwatch.actors.kafka_rules import partition_of
from standwatch.actors.spool_frames import MAGIC, encode_frame
from standwatch.actors.spool_sink import SpoolSink
from standwatch.actors.spool_source import SpoolSource
from standwatch.actors.spoolfiles import find_topic, segment_bases
from standwatch.actors.topics import check_topics, create_topics, open_sink, open_source
from standwatch.configs.schema import BrokerConfig, TopicsConfig
from standwatch.pipeline.errors import BadInput, PositionLost, Unavailable
from standwatch.pipeline.types import Outgoing, Record

TOPIC = "video.chunks.v1"
SPAWN = multiprocessing.get_context("spawn")


class OneTopic:
    """A `ClusterMetadata` of one topic, as far as the partitioner asks."""

    def __init__(self, partitions: int) -> None:
        self._partitions = set(range(partitions))

    def topics(self) -> set[str]:
        return {TOPIC}

    def partitions_for_topic(self, topic: str) -> set[int]:
        return self._partitions

    def available_partitions_for_topic(self, topic: str) -> set[int]:
        return self._partitions


@pytest.fixture
def broker(tmp_path: Path) -> BrokerConfig:
    return BrokerConfig(spool_dir=str(tmp_path / "spool"), spool_segment_bytes=1024 * 1024)


ONE = TopicsConfig(partitions=1, retention_hours=1e7, max_record_bytes=2 * 1024 * 1024)


def outgoing(value: bytes, key: bytes = b"cam-0", timestamp_ms: int = 1000) -> Outgoing:
    return Outgoing(TOPIC, key, value, (("content-type", b"video/h264"), ("empty", b"")), timestamp_ms)


def write(broker: BrokerConfig, *records: Outgoing, topics: TopicsConfig = ONE) -> None:
    sink = SpoolSink(broker, topics)
    for record in records:
        sink.send(record)
    sink.close()


def source_at(
    broker: BrokerConfig, positions: Mapping[int, int | None] | None = None, topics: TopicsConfig = ONE
) -> SpoolSource:
    source = SpoolSource(broker, TOPIC, topics)
    source.assign(positions if positions is not None else {p: None for p in source.partitions()})
    return source


def drain(source: SpoolSource, max_records: int = 1000) -> list[Record]:
    records: list[Record] = []
    while more := source.poll(max_records, 0):
        records += more
    return records


def partition_path(broker: BrokerConfig, partition: int = 0) -> Path:
    topic = find_topic(broker.spool_dir, TOPIC)
    assert topic is not None
    return topic.partition_dir(partition)


def segments(broker: BrokerConfig) -> list[Path]:
    return sorted(partition_path(broker).glob("*.log"))


def values(records: list[Record]) -> list[bytes]:
    return [record.value for record in records]


def test_a_record_comes_back_as_it_was_sent(broker: BrokerConfig) -> None:
    write(broker, outgoing(b"\x00video", timestamp_ms=-5), outgoing(b"", key=b""))
    first, second = drain(source_at(broker))
    assert (first.at.topic, first.at.partition, first.at.offset) == (TOPIC, 0, 0)
    assert (first.timestamp_ms, first.key, first.value) == (-5, b"cam-0", b"\x00video")
    assert first.headers == (("content-type", b"video/h264"), ("empty", b""))
    assert (second.at.offset, second.key, second.value) == (1, b"", b"")


def test_a_key_lands_where_kafka_puts_it(broker: BrokerConfig) -> None:
    kafkas = DefaultPartitioner()
    for count in (1, 3, 8, 32):
        cluster = OneTopic(count)
        for number in range(500):
            key = f"caméra-{number}".encode() * (number % 4)
            assert partition_of(key, count) == kafkas.partition(TOPIC, None, key, None, None, cluster)
    topics = TopicsConfig(partitions=8)
    write(broker, *(outgoing(b"x", key=f"feed-{n}".encode()) for n in range(50)), topics=topics)
    for record in drain(source_at(broker, topics=topics)):
        assert record.key is not None and record.at.partition == partition_of(record.key, 8)


def test_records_of_a_partition_keep_order_and_offsets_over_many_segments(broker: BrokerConfig) -> None:
    sent = [f"{n}:".encode() + bytes(100_000) for n in range(40)]
    write(broker, *map(outgoing, sent))
    assert len(segments(broker)) > 2
    records = drain(source_at(broker))
    assert values(records) == sent
    assert [record.at.offset for record in records] == list(range(40))


@pytest.mark.parametrize("offset", [0, 1, 9, 10, 11, 25, 39, 40])
def test_seek_continues_exactly_at_the_offset(broker: BrokerConfig, offset: int) -> None:
    write(broker, *(outgoing(str(n).encode() + bytes(100_000)) for n in range(40)))
    source = source_at(broker, {0: offset})
    assert source.lag() == {0: 40 - offset}
    assert [record.at.offset for record in drain(source)] == list(range(offset, 40))
    assert source.lag() == {0: 0}


def test_seek_beyond_the_end_names_both_offsets_and_the_fix(broker: BrokerConfig) -> None:
    write(broker, outgoing(b"only"))
    with pytest.raises(PositionLost, match=r"partition 0.*offset 7.*ends at 1.*memory\.path"):
        source_at(broker, {0: 7})
    with pytest.raises(PositionLost, match="ends at 0"):
        source_at(replace(broker, spool_dir=broker.spool_dir + "-other"), {0: 1})


def test_a_tailing_reader_gets_new_records_and_the_next_segments(broker: BrokerConfig) -> None:
    source = source_at(broker)
    assert source.poll(10, 0) == []
    sink = SpoolSink(broker, ONE)
    for number in range(30):
        sink.send(outgoing(str(number).encode() + bytes(90_000)))
        assert [record.at.offset for record in source.poll(10, 0)] == [number]
        assert source.lag() == {0: 0}
    assert len(segments(broker)) > 2
    assert source.poll(10, 5) == []


def test_a_tailing_reader_reads_only_new_bytes(broker: BrokerConfig) -> None:
    write(broker, *(outgoing(bytes(200_000)) for _ in range(4)))
    source = source_at(broker)
    drain(source)
    segment = segments(broker)[0]
    raw = bytearray(segment.read_bytes())
    raw[len(MAGIC) : -1] = b"\xff" * (len(raw) - len(MAGIC) - 1)
    segment.write_bytes(raw)  # whoever went back over what was read would now stumble
    frame = b"".join(encode_frame(1, b"k", (), b"new"))
    with segment.open("ab") as file:
        file.write(frame)
    assert values(source.poll(10, 0)) == [b"new"]


def test_one_busy_partition_leaves_the_others_their_share(broker: BrokerConfig) -> None:
    topics = TopicsConfig(partitions=4)
    keys = {partition_of(f"k{n}".encode(), 4): f"k{n}".encode() for n in range(64)}
    write(broker, *(outgoing(b"busy", key=keys[0]) for _ in range(1000)), topics=topics)
    write(broker, *(outgoing(b"calm", key=keys[p]) for p in (1, 2, 3)), topics=topics)
    source = source_at(broker, topics=topics)
    first = source.poll(8, 0)
    assert len(first) == 8
    assert {record.at.partition for record in first} == {0, 1, 2, 3}
    turns = source_at(broker, topics=topics)
    assert {turns.poll(1, 0)[0].at.partition for _ in range(4)} == {0, 1, 2, 3}


def test_a_poll_returns_no_more_than_asked_for(broker: BrokerConfig) -> None:
    write(broker, *(outgoing(b"x") for _ in range(10)))
    source = source_at(broker)
    assert [len(source.poll(4, 0)) for _ in range(4)] == [4, 4, 2, 0]


def test_a_torn_tail_is_not_read_and_the_next_writer_replaces_it(broker: BrokerConfig) -> None:
    write(broker, outgoing(b"first"), outgoing(b"second"))
    segment = segments(broker)[0]
    whole = segment.read_bytes()
    last = len(b"".join(encode_frame(1000, b"cam-0", outgoing(b"").headers, b"second")))
    for cut in range(last):
        segment.write_bytes(whole[: len(whole) - last + cut])
        source = source_at(broker)
        assert values(drain(source)) == [b"first"], cut
        assert source.lag() == {0: 0}
        write(broker, outgoing(b"a longer replacement"), outgoing(b"third"))
        records = drain(source)
        assert values(records) == [b"a longer replacement", b"third"], cut
        assert [record.at.offset for record in records] == [1, 2]
        assert source.lag() == {0: 0}
        source.close()


def test_garbage_after_a_power_cut_is_not_read_and_the_next_writer_replaces_it(broker: BrokerConfig) -> None:
    write(broker, outgoing(b"first"))
    with segments(broker)[0].open("ab") as file:
        file.write(bytes(5000))
    source = source_at(broker)
    assert values(drain(source)) == [b"first"]
    write(broker, outgoing(b"second"))
    assert values(drain(source)) == [b"second"]


def test_a_writer_that_died_while_starting_a_segment_is_no_obstacle(broker: BrokerConfig) -> None:
    write(broker, outgoing(b"first"))
    for torn in (b"", MAGIC[:3], bytes(len(MAGIC))):
        segment = partition_path(broker) / f"{1:020d}.log"
        segment.write_bytes(torn)
        source = source_at(broker)
        assert values(drain(source)) == [b"first"]
        write(broker, outgoing(b"second"))
        assert values(drain(source)) == [b"second"]
        segment.unlink()


def test_a_segment_of_another_version_is_refused_and_left_alone(broker: BrokerConfig) -> None:
    write(broker, outgoing(b"first"))
    segment = segments(broker)[0]
    foreign = b"SWSPOOL\x02" + segment.read_bytes()[8:]
    segment.write_bytes(foreign)
    with pytest.raises(BadInput, match="not a segment of this version"):
        write(broker, outgoing(b"second"))
    assert segment.read_bytes() == foreign


def test_a_damaged_record_is_passed_over_loudly_and_keeps_its_offset(
    broker: BrokerConfig, caplog: pytest.LogCaptureFixture
) -> None:
    write(broker, outgoing(b"first"), outgoing(b"DAMAGE"), outgoing(b"third"))
    segment = segments(broker)[0]
    segment.write_bytes(segment.read_bytes().replace(b"DAMAGE", b"damage"))
    with caplog.at_level(logging.ERROR):
        records = drain(source_at(broker))
    assert [(record.at.offset, record.value) for record in records] == [(0, b"first"), (2, b"third")]
    assert "offset 1 is damaged" in caplog.text
    write(broker, outgoing(b"fourth"))
    assert drain(source_at(broker))[-1].at.offset == 3


def test_damage_to_a_length_costs_the_rest_of_its_segment_only(
    broker: BrokerConfig, caplog: pytest.LogCaptureFixture
) -> None:
    write(broker, *(outgoing(bytes(300_000)) for _ in range(9)))
    first, second = segment_bases(partition_path(broker))[:2]
    raw = bytearray(segments(broker)[0].read_bytes())
    raw[len(MAGIC) : len(MAGIC) + 4] = b"\xff\xff\xff\x7f"
    segments(broker)[0].write_bytes(raw)
    with caplog.at_level(logging.ERROR):
        assert [record.at.offset for record in drain(source_at(broker))] == list(range(second, 9))
        assert [record.at.offset for record in drain(source_at(broker, {0: 1}))] == list(range(second, 9))
    assert f"offsets {first} to {second - 1}" in caplog.text


def test_retention_deletes_whole_old_segments_and_never_the_active_one(broker: BrokerConfig) -> None:
    hour_ms = 3_600_000
    clock = [0]
    sink = SpoolSink(broker, replace(ONE, retention_hours=1.0), clock=lambda: clock[0])
    behind = source_at(broker)
    for number in range(40):
        clock[0] = number * hour_ms // 10
        sink.send(outgoing(str(number).encode() + bytes(100_000), timestamp_ms=clock[0]))
        if number == 0:
            assert behind.poll(1, 0)[0].at.offset == 0
    bases = segment_bases(partition_path(broker))
    assert 0 not in bases
    kept = [record.at.offset for record in drain(source_at(broker))]
    assert kept == list(range(bases[0], 40))
    assert set(range(30, 40)) <= set(kept)  # the last hour is whole
    resumed = [record.at.offset for record in drain(behind)]
    assert resumed == sorted(resumed) and set(kept) <= set(resumed)
    assert [record.at.offset for record in drain(source_at(broker, {0: 1}))] == kept
    clock[0] += 100 * hour_ms
    sink.send(outgoing(b"much later", timestamp_ms=clock[0]))
    clock[0] += hour_ms // 2
    sink.send(outgoing(b"and later", timestamp_ms=clock[0]))
    assert values(drain(source_at(broker)))[-2:] == [b"much later", b"and later"]
    assert len(segments(broker)) == 1


def test_a_record_over_the_limit_is_refused_with_size_limit_and_key(broker: BrokerConfig) -> None:
    sink = SpoolSink(broker, replace(ONE, max_record_bytes=65_536))
    with pytest.raises(BadInput, match=r"topics\.max_record_bytes: a record of \d+ bytes .* limit of 65536"):
        sink.send(outgoing(bytes(65_536)))
    sink.send(outgoing(bytes(65_000)))
    sink.close()
    assert len(drain(source_at(broker))) == 1


def test_a_topic_name_that_is_a_path_is_refused(broker: BrokerConfig) -> None:
    for name in ("../elsewhere", "a/b", "", "..", "x" * 250):
        with pytest.raises(BadInput, match="not a topic name"):
            SpoolSource(broker, name, ONE)


def test_whoever_creates_the_topic_fixes_its_partitions(broker: BrokerConfig) -> None:
    assert list(SpoolSource(broker, TOPIC, TopicsConfig(partitions=3)).partitions()) == [0, 1, 2]
    write(broker, *(outgoing(b"x", key=str(n).encode()) for n in range(40)), topics=TopicsConfig(partitions=32))
    other = source_at(broker, topics=TopicsConfig(partitions=8))
    assert list(other.partitions()) == [0, 1, 2]
    assert len(drain(other)) == 40


def test_what_the_disk_refuses_names_the_path(broker: BrokerConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    blocked = replace(broker, spool_dir=str(tmp_path / "file" / "spool"))
    with pytest.raises(Unavailable, match=r"broker\.spool_dir: .*file"):
        SpoolSink(blocked, ONE).send(outgoing(b"x"))
    with pytest.raises(Unavailable, match=r"broker\.spool_dir: .*file"):
        SpoolSource(blocked, TOPIC, ONE)


def test_a_full_disk_leaves_nothing_half_written(broker: BrokerConfig) -> None:
    process = SPAWN.Process(target=_write_until_the_disk_is_full, args=(broker,))
    process.start()
    process.join(60)
    assert process.exitcode == 0


def _write_until_the_disk_is_full(broker: BrokerConfig) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sink = SpoolSink(broker, ONE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, resource.RLIM_INFINITY))
    for _ in range(2):
        sink.send(outgoing(bytes(100_000)))
    with pytest.raises(Unavailable, match=r"broker\.spool_dir: .*00\.log|broker\.spool_dir: .*p-00000"):
        sink.send(outgoing(bytes(100_000)))
    source = source_at(broker)
    assert len(drain(source)) == 2
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    sink.send(outgoing(b"space again"))
    sink.close()
    assert values(drain(source)) == [b"space again"]


def _write_numbers(broker: BrokerConfig, writer: int, count: int) -> None:
    sink = SpoolSink(broker, TopicsConfig(partitions=2))
    for number in range(count):
        sink.send(outgoing(f"{writer}:{number}:".encode() + bytes(number * 37 % 9000), key=str(number % 5).encode()))
    sink.close()


def test_two_processes_write_while_one_reads_and_nothing_is_lost_or_mixed(broker: BrokerConfig) -> None:
    source = source_at(broker, topics=TopicsConfig(partitions=2))
    writers = [SPAWN.Process(target=_write_numbers, args=(broker, number, 400)) for number in (1, 2)]
    for writer in writers:
        writer.start()
    records: list[Record] = []
    while any(writer.is_alive() for writer in writers):
        records += source.poll(50, 20)
    records += drain(source)
    assert [writer.exitcode for writer in writers] == [0, 0]
    for partition in (0, 1):
        offsets = [record.at.offset for record in records if record.at.partition == partition]
        assert offsets == list(range(len(offsets)))
    for writer_number in (b"1", b"2"):
        seen = [int(r.value.split(b":")[1]) for r in records if r.value.split(b":")[0] == writer_number]
        assert sorted(seen) == list(range(400))
        for key in range(5):
            assert [n for n in seen if n % 5 == key] == list(range(key, 400, 5))


def _write_for_ever(broker: BrokerConfig, prefix: bytes) -> None:
    sink = SpoolSink(broker, ONE)
    number = 0
    while True:
        sink.send(outgoing(prefix + str(number).encode() + b":" + bytes(700_000)))
        number += 1


def test_killing_a_writer_at_any_moment_leaves_a_topic_that_goes_on(broker: BrokerConfig) -> None:
    source = source_at(broker)
    records: list[Record] = []
    for life in range(3):
        writer = SPAWN.Process(target=_write_for_ever, args=(broker, f"{life}-".encode()))
        writer.start()
        until = len(records) + 8
        while len(records) < until:
            records += source.poll(4, 1000)
            assert writer.is_alive() or len(records) >= until
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        records += drain(source)
    write(broker, outgoing(b"the end"))
    records += drain(source)
    assert [record.at.offset for record in records] == list(range(len(records)))
    assert records[-1].value == b"the end"
    for life in range(3):
        numbers = [int(r.value.split(b"-")[1].split(b":")[0]) for r in records if r.value.startswith(b"%d-" % life)]
        assert numbers == list(range(len(numbers))) and len(numbers) >= 8
    assert values(drain(source_at(broker))) == values(records)


@pytest.fixture
def held_lock(broker: BrokerConfig) -> Iterator[Path]:
    import fcntl

    write(broker, outgoing(b"first"))
    path = partition_path(broker) / "lock"
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield path


def test_a_writer_that_holds_the_lock_for_ever_makes_others_unavailable_not_stuck(
    broker: BrokerConfig, held_lock: Path
) -> None:
    with pytest.raises(Unavailable, match="another writer has held the lock for 1000 ms"):
        write(replace(broker, request_timeout_ms=1000), outgoing(b"second"))
    assert values(drain(source_at(broker))) == [b"first"]


def test_a_topic_created_anew_under_a_running_reader_is_noticed(broker: BrokerConfig) -> None:
    import shutil

    write(broker, outgoing(b"a"), outgoing(b"b"))
    source = source_at(broker)
    assert len(drain(source)) == 2
    shutil.rmtree(broker.spool_dir)
    assert source.poll(1, 0) == []
    write(broker, outgoing(b"new"))
    with pytest.raises(PositionLost, match="asked for offset 2, but the topic ends at 1"):
        source.poll(1, 0)


def test_topics_of_a_spool_are_created_once_and_checked(broker: BrokerConfig) -> None:
    topics = TopicsConfig(partitions=4)
    missing = check_topics(broker, topics)
    assert len(missing) == 4 and all("standwatch topics create" in line for line in missing)
    assert all("created with 4 partitions" in line for line in create_topics(broker, topics))
    assert all("exists with 4 partitions" in line for line in create_topics(broker, TopicsConfig(partitions=9)))
    assert check_topics(broker, topics) == []
    assert all("set topics.partitions=4" in line for line in check_topics(broker, TopicsConfig(partitions=9)))


def test_the_factories_open_what_the_configuration_names(broker: BrokerConfig) -> None:
    sink, source = open_sink(broker, ONE), open_source(broker, ONE, ONE.alerts)
    sink.send(replace(outgoing(b"alert"), topic=ONE.alerts))
    sink.flush()
    source.assign({0: None})
    assert [record.value for record in source.poll(1, 0)] == [b"alert"]
    kafka = replace(broker, kind="kafka")
    assert type(open_sink(kafka, ONE)).__name__ == "KafkaSink"
    assert type(open_source(kafka, ONE, ONE.chunks)).__name__ == "KafkaSource"
