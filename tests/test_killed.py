"""kill -9 of every kind of actor, and of everything at once, in the middle of a run: nothing lost, nothing twice."""

import time
from pathlib import Path

import numpy as np
import pytest

from standwatch.pipeline.memory import MemoryReader
from standwatch.pipeline.types import Float32Array
from tests.kafka_broker import Broker
from tests.system import (
    BOTTLES,
    EVER,
    PEOPLE,
    Place,
    actor_processes,
    frames_in_memory,
    kafka_place,
    kill_tree,
    publish,
    run_until_idle,
    running,
    sampled_times,
    spool_place,
    standwatch,
    verify_clean,
    wait_for_frames,
)

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]
FPS = 5
FEEDS = {"hall": PEOPLE, "door": PEOPLE, "belt": BOTTLES}
EXPECTED = sum(len(sampled_times(video, FPS)) for video in FEEDS.values())
# Small steps, so that a run lasts long enough to be killed in the middle.
SETTINGS = (f"decode.sample_fps={FPS}", "flow.poll_records=2", "topics.partitions=4")


@pytest.fixture
def spool(tmp_path: Path) -> Place:
    return prepared(spool_place(tmp_path, *SETTINGS))


@pytest.fixture
def kafka(tmp_path: Path, kafka_broker: Broker) -> Place:
    return prepared(kafka_place(tmp_path, kafka_broker.servers, *SETTINGS))


def prepared(place: Place) -> Place:
    for feed, video in FEEDS.items():
        publish(place, video, feed)
    memory = ("--memory", str(place.memory))
    standwatch("query", "add", "Is anybody there?", "--id", "anybody", "--every", "5s", *memory)
    return place


def check(place: Place) -> None:
    """Every sampled frame is there once, in order, and `memory verify` agrees."""
    verify_clean(place)
    held = frames_in_memory(place.memory)
    for feed, video in FEEDS.items():
        expected = sampled_times(video, FPS)
        assert len(held[feed]) == len(expected)
        assert max(abs(a - b) for a, b in zip(held[feed], expected, strict=True)) <= 1


def evaluations(place: Place) -> int:
    logs = (place.memory / "answering").glob("evaluations-*.jsonl")
    return sum(len(log.read_text().splitlines()) for log in logs)


def kill_midway(place: Place, kind: str) -> None:
    with running(place) as process:
        assert wait_for_frames(place, 20) < EXPECTED, "the run must still be going when the actor is killed"
        victims = actor_processes(process.pid, kind)
        assert victims
        for victim in victims:
            victim.kill()
        before = evaluations(place)
        wait_for_frames(place, EXPECTED)
        deadline = time.monotonic() + 30
        while evaluations(place) == before and time.monotonic() < deadline:
            time.sleep(0.1)
        assert evaluations(place) > before, "questions must go on being answered"
        assert process.poll() is None
    check(place)


@pytest.mark.parametrize("kind", ["Ingestor", "GpuWorker", "MemoryKeeper", "Answerer"])
def test_a_killed_actor_loses_and_doubles_nothing_on_the_spool(spool: Place, kind: str) -> None:
    kill_midway(spool, kind)


@pytest.mark.kafka
@pytest.mark.parametrize("kind", ["Ingestor", "GpuWorker", "MemoryKeeper", "Answerer"])
def test_a_killed_actor_loses_and_doubles_nothing_on_kafka(kafka: Place, kind: str) -> None:
    kill_midway(kafka, kind)


def tokens(place: Place) -> dict[str, Float32Array]:
    reader = MemoryReader(str(place.memory))
    return {feed: reader.window(feed, EVER).tokens.astype(np.float32) for feed in FEEDS}


def test_a_killed_worker_changes_no_token_where_each_depends_on_the_frames_before_it(tmp_path: Path) -> None:
    """Batches differ between the two runs, and with them the last digits."""
    one_token = (*SETTINGS, "model.frame_tokens=1", "model.segment_frames=64")
    calm = prepared(spool_place(tmp_path / "calm", *one_token))
    troubled = prepared(spool_place(tmp_path / "troubled", *one_token))
    run_until_idle(calm)
    kill_midway(troubled, "GpuWorker")
    expected, found = tokens(calm), tokens(troubled)
    for feed, own in expected.items():
        assert own.shape[1] == 1 and own.std() > 0
        np.testing.assert_allclose(found[feed], own, atol=0.01 * own.std())


def kill_everything_midway(place: Place) -> None:
    with running(place) as process:
        assert wait_for_frames(place, 20) < EXPECTED, "the run must still be going when it is killed"
        kill_tree(process.pid)
    summary = run_until_idle(place)
    assert sum(summary["frames"].values()) == EXPECTED
    check(place)


def test_a_killed_process_tree_loses_and_doubles_nothing_on_the_spool(spool: Place) -> None:
    kill_everything_midway(spool)


@pytest.mark.kafka
def test_a_killed_process_tree_loses_and_doubles_nothing_on_kafka(kafka: Place) -> None:
    kill_everything_midway(kafka)
