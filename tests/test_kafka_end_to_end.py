"""The main job on a real Kafka, from producers that know only the README's record contract to answers and alerts."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition  # type: ignore[import-untyped]

from standwatch.configs.load import load_config
from standwatch.pipeline.clock import parse_rfc3339, rfc3339
from tests.footage_video import convert
from tests.kafka_broker import Broker
from tests.system import (
    START,
    START_MS,
    Place,
    frames_in_memory,
    kafka_place,
    publish,
    run_until_idle,
    standwatch,
    verify_clean,
)

pytestmark = [pytest.mark.kafka, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]
FPS = 2
CHUNK_S = 2
MIB = 1024 * 1024
README = Path(__file__).resolve().parents[1] / "README.md"

# What anybody could write: the README's example in a loop, told by a file what to send.
PRODUCER = """
import json, sys
from kafka import KafkaProducer

servers, topic, plan = sys.argv[1:]
producer = KafkaProducer(bootstrap_servers=servers, enable_idempotence=True, max_request_size=10 * 1024 * 1024)
for record in json.load(open(plan)):
    headers = [(name, text.encode()) for name, text in record["headers"].items()]
    value = open(record["file"], "rb").read()
    producer.send(topic, key=record["key"].encode(), value=value, headers=headers).get(30)
producer.close()
assert not [name for name in sys.modules if name.startswith("standwatch")]
"""


@dataclass(frozen=True)
class Sent:
    """One record of the plan of `PRODUCER`."""

    key: str
    file: Path
    headers: dict[str, str]


@dataclass(frozen=True)
class Topics:
    """The topics of a test, read back by a plain consumer."""

    servers: str
    chunks: str
    answers: str
    alerts: str
    dead_letters: str

    def consumer(self, group_id: str | None = None) -> Any:
        return KafkaConsumer(bootstrap_servers=self.servers, group_id=group_id, enable_auto_commit=False)

    def read(self, topic: str) -> list[Any]:
        consumer = self.consumer()
        places = [TopicPartition(topic, partition) for partition in consumer.partitions_for_topic(topic)]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends, found = consumer.end_offsets(places), []
        while any(consumer.position(place) < end for place, end in ends.items()):
            found += [record for records in consumer.poll(timeout_ms=1000).values() for record in records]
        consumer.close()
        return found


@dataclass(frozen=True)
class Run:
    """What went in, and the places where everything came out."""

    place: Place
    topics: Topics
    group_id: str
    sent: Sequence[Sent]
    summary: dict[str, Any]


def segments(folder: Path, name: str, source: str, *encoding: str) -> list[Path]:
    """Chunks of a drawn film, made by ffmpeg alone: fragmented MP4, each beginning at a key frame."""
    fragmented = "movflags=frag_keyframe+empty_moov+default_base_moof"
    pieces = ("-f", "segment", "-segment_time", str(CHUNK_S), "-segment_format", "mp4", "-segment_format_options")
    keys = ("-g", str(10 * CHUNK_S), "-sc_threshold", "0", "-bf", "0")
    convert(
        folder / f"{name}-%02d.mp4",
        "-f",
        "lavfi",
        "-i",
        source,
        "-c:v",
        "libx264",
        *keys,
        *encoding,
        *pieces,
        fragmented,
    )
    return sorted(folder.glob(f"{name}-*.mp4"))


def sent(feed: str, number: int, file: Path) -> Sent:
    headers = {
        "content-type": "video/mp4",
        "ce_specversion": "1.0",
        "ce_id": f"{feed}-{number}",
        "ce_source": f"/feeds/{feed}",
        "ce_type": "com.example.chunk.v1",
        "ce_time": rfc3339(START_MS + number * CHUNK_S * 1000),
        "seq": str(number),
        "duration_ms": str(CHUNK_S * 1000),
    }
    return Sent(feed, file, headers)


def feed_with_four_bad_records(chunks: Sequence[Path]) -> list[Sent]:
    """Eight chunks of which the second to fifth cannot be used, each in its own way."""
    records = [sent("mixed", number, chunk) for number, chunk in enumerate(chunks)]
    no_video, truncated = (chunks[0].with_name(name) for name in ("no-video", "truncated"))
    no_video.write_bytes(b"these bytes are no video " * 100)
    whole = chunks[4].read_bytes()
    truncated.write_bytes(whole[: len(whole) // 2])
    records[1] = Sent("mixed", no_video, records[1].headers)
    del records[2].headers["ce_time"]
    records[3] = Sent("another", records[3].file, records[3].headers)
    records[4] = Sent("mixed", truncated, records[4].headers)
    return records


def run_script(text: str, folder: Path, *arguments: str) -> None:
    """A script in an interpreter of its own (isolated: it finds installed packages, and none of our sources)."""
    script = folder / "producer.py"
    script.write_text(text)
    line = [sys.executable, "-I", str(script), *arguments]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def readme_example(servers: str, topic: str) -> str:
    """The producer in the README, word for word but for the broker's address and the topic."""
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert example.count('"kafka-1:9092"') == example.count('"video.chunks.v1"') == 1
    return str(example).replace("kafka-1:9092", servers).replace("video.chunks.v1", topic)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, kafka_broker: Broker) -> Run:
    """One run for all tests of this file: five feeds, two questions."""
    folder = tmp_path_factory.mktemp("kafka-end-to-end")
    group_id = folder.name
    settings = (f"decode.sample_fps={FPS}", "flow.shards=2", "topics.partitions=4", f"broker.group_id={group_id}")
    place = kafka_place(folder, kafka_broker.servers, *settings)
    names = load_config("local", None, place.settings).topics
    topics = Topics(kafka_broker.servers, names.chunks, names.answers, names.alerts, names.dead_letters)
    memory = ("--memory", str(place.memory))
    rule = ("--every", "5s", "--window", "10s", "--open-at", "0.01", "--close-at", "0.005", "--severity", "critical")
    standwatch("query", "add", "Is anybody there?", "--id", "anybody", *rule, *memory)
    standwatch("query", "add", "What is going on?", "--id", "report", "--kind", "text", "--every", "10s", *memory)

    small = segments(folder, "small", "testsrc2=size=64x36:rate=10:duration=16", "-pix_fmt", "yuv420p")
    noise = "testsrc2=size=640x360:rate=10:duration=4,noise=alls=100:allf=t,format=yuv420p"
    large = segments(folder, "large", noise, "-preset", "ultrafast", "-qp", "0")
    assert [len(small), len(large)] == [8, 2]
    assert all(9 * MIB <= chunk.stat().st_size < 10 * MIB - 4096 for chunk in large)
    plan = [sent("plain", number, chunk) for number, chunk in enumerate(small)]
    plan += feed_with_four_bad_records(small)
    plan += [sent("large", number, chunk) for number, chunk in enumerate(large)]
    listed = [{"key": record.key, "file": str(record.file), "headers": record.headers} for record in plan]
    (folder / "plan.json").write_text(json.dumps(listed))
    run_script(PRODUCER, folder, kafka_broker.servers, topics.chunks, str(folder / "plan.json"))
    (folder / "chunk.mp4").write_bytes(small[0].read_bytes())
    run_script(readme_example(kafka_broker.servers, topics.chunks), folder)
    whole = convert(folder / "whole.mp4", "-f", "lavfi", "-i", noise, "-preset", "ultrafast", "-qp", "0", "-g", "20")
    publish(place, whole, "published", START)

    return Run(place, topics, group_id, plan, run_until_idle(place))


def every_half_second(*spans_s: tuple[int, int], start_ms: int = START_MS) -> list[int]:
    return [start_ms + at for first, last in spans_s for at in range(first * 1000, last * 1000, 1000 // FPS)]


def test_feeds_of_plain_producers_and_of_ours_are_all_in_memory(run: Run) -> None:
    verify_clean(run.place)
    held = frames_in_memory(run.place.memory)
    assert held == {
        "plain": every_half_second((0, 16)),
        "mixed": every_half_second((0, 2), (10, 16)),
        "large": every_half_second((0, 4)),
        "published": every_half_second((0, 4)),
        "yard": every_half_second((0, 2), start_ms=parse_rfc3339("2026-11-21T09:30:00Z", "ce_time")),
    }
    assert run.summary["frames"] == {feed: len(times) for feed, times in held.items()}


def test_records_of_9_mib_travelled_as_one_record_each(run: Run) -> None:
    sizes = [len(record.value) for record in run.topics.read(run.topics.chunks) if record.key == b"published"]
    assert len(sizes) == 2
    assert min(sizes) >= 9 * MIB


def test_records_that_cannot_be_used_arrive_as_they_came_with_where_and_why(run: Run) -> None:
    letters = {dict(letter.headers)["ce_id"].decode(): letter for letter in run.topics.read(run.topics.dead_letters)}
    bad = {record.headers["ce_id"]: record for record in run.sent if record.headers["ce_id"] in letters}
    assert list(bad) == ["mixed-1", "mixed-2", "mixed-3", "mixed-4"]
    assert len(letters) == run.summary["dead_letters"] == 4
    published = {(record.partition, record.offset): record for record in run.topics.read(run.topics.chunks)}
    for event_id, record in bad.items():
        letter, original = letters[event_id], [(name, text.encode()) for name, text in record.headers.items()]
        assert letter.key == record.key.encode()
        assert letter.value == record.file.read_bytes()
        assert letter.headers[: len(original)] == original
        told = dict(letter.headers[len(original) :])
        assert told["dlq-topic"].decode() == run.topics.chunks
        came = published[int(told["dlq-partition"]), int(told["dlq-offset"])]
        assert (came.key, came.headers) == (letter.key, original)
    reasons = [dict(letters[event_id].headers)["dlq-reason"].decode() for event_id in bad]
    assert [reason.split(":")[0] for reason in reasons] == ["payload", "ce_time", "key", "payload"]
    assert "missing" in reasons[1]
    assert "'another'" in reasons[2] and "'mixed'" in reasons[2]


def check_event(record: Any, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Envelope and what is common to the bodies of all events; returns the body."""
    headers = {name: value.decode() for name, value in record.headers}
    body: dict[str, Any] = json.loads(record.value)
    assert headers["content-type"] == "application/json"
    assert headers["ce_specversion"] == "1.0"
    assert headers["ce_type"] in kinds
    assert headers["ce_source"] == f"/feeds/{body['feed_id']}"
    assert headers["ce_partitionkey"] == record.key.decode() == body["feed_id"]
    assert headers["ce_subject"] == body["query_id"]
    assert parse_rfc3339(headers["ce_time"], "ce_time") >= START_MS
    assert 0 <= body["score"] <= 1
    assert body["model"]["weights"] == "untrained"
    return body


def check_evidence(
    run: Run, body: dict[str, Any], keys: dict[tuple[int, int], str], held: dict[str, list[int]]
) -> None:
    """Each frame shown is in memory, and its source is a record of that feed on the chunks topic."""
    assert body["evidence"] or body["verdict"] == "unknown"
    for frame in body["evidence"]:
        assert parse_rfc3339(frame["wall_time"], "wall_time") in held[body["feed_id"]]
        source = frame["source"]
        assert source["topic"] == run.topics.chunks
        assert keys[source["partition"], source["offset"]] == body["feed_id"]


def test_answers_and_alerts_come_out_as_cloud_events_that_point_at_their_records(run: Run) -> None:
    keys = {(r.partition, r.offset): r.key.decode() for r in run.topics.read(run.topics.chunks)}
    held = frames_in_memory(run.place.memory)
    answers, alerts = run.topics.read(run.topics.answers), run.topics.read(run.topics.alerts)
    assert len(answers) == run.summary["answers"]
    assert len(alerts) == run.summary["alerts"]
    for records in (answers, alerts):
        assert len({dict(record.headers)["ce_id"] for record in records}) == len(records) > 0

    asked = set()
    for record in answers:
        body = check_event(record, ("org.standwatch.answer.v1",))
        check_evidence(run, body, keys, held)
        headers = dict(record.headers)
        assert headers["ce_id"].decode() == body["answer_id"]
        assert headers["ce_time"].decode() == body["window"]["to"]
        assert body["question"] == {"anybody": "Is anybody there?", "report": "What is going on?"}[body["query_id"]]
        assert body["verdict"] in ("yes", "no", "unknown")
        if body["evidence"]:
            asked.add((body["feed_id"], body["query_id"]))
    assert {("plain", "anybody"), ("plain", "report"), ("mixed", "anybody")} <= asked

    for record in alerts:
        kinds = tuple(f"org.standwatch.alert.{state}.v1" for state in ("opened", "updated", "closed"))
        body = check_event(record, kinds)
        assert dict(record.headers)["ce_type"].decode() == f"org.standwatch.alert.{body['state']}.v1"
        assert body["query_id"] == "anybody"
        assert body["severity"] == "critical"
        if body["state"] == "opened":
            check_evidence(run, body, keys, held)
    assert "opened" in {json.loads(record.value)["state"] for record in alerts}


def test_the_groups_offsets_are_there_for_dashboards(run: Run) -> None:
    consumer = run.topics.consumer(run.group_id)
    places = [TopicPartition(run.topics.chunks, partition) for partition in range(4)]
    ends = consumer.end_offsets(places)
    noted = {place: offset for place in places if (offset := consumer.committed(place)) is not None}
    consumer.close()
    assert noted == {place: end for place, end in ends.items() if end > 0}
