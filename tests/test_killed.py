"""kill -9 of every kind of actor, and of everything at once, in the middle of a run: nothing lost, nothing twice."""

import time
from pathlib import Path

import pytest

from tests.system import (
    BOTTLES,
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

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
FPS = 5
# Small steps, so that a run lasts long enough to be killed in the middle.
SMALL_STEPS = (f"decode.sample_fps={FPS}", "flow.poll_records=2", "decode.batch_chunks=2", "topics.partitions=4")
FEEDS = {"hall": PEOPLE, "door": PEOPLE, "belt": BOTTLES}
ACTORS = ["Ingestor", "GpuWorker", "MemoryKeeper", "Answerer"]


def prepare(place: Place) -> None:
    for feed, video in FEEDS.items():
        publish(place, video, feed)
    standwatch("query", "add", "Is anybody there?", "--id", "anybody", "--every", "5s", "--memory", str(place.memory))


def check(place: Place) -> None:
    verify_clean(place)
    held = frames_in_memory(place.memory)
    for feed, video in FEEDS.items():
        expected = sampled_times(video, FPS)
        assert len(held[feed]) == len(expected)
        assert max(abs(a - b) for a, b in zip(held[feed], expected, strict=True)) <= 1


def kill_actor_midway(place: Place, kind: str) -> None:
    prepare(place)
    with running(place) as process:
        before = wait_for_frames(place, 20)
        total = sum(len(sampled_times(video, FPS)) for video in FEEDS.values())
        assert before < total, "the run must still be going when the actor is killed"
        victims = actor_processes(process.pid, kind)
        assert victims
        for victim in victims:
            victim.kill()
        wait_for_frames(place, total - len(FEEDS) * 4)
        assert process.poll() is None
    run_until_idle(place)
    check(place)


def kill_everything_midway(place: Place) -> None:
    prepare(place)
    with running(place) as process:
        wait_for_frames(place, 20)
        kill_tree(process.pid)
        time.sleep(0.5)
    run_until_idle(place)
    check(place)


@pytest.mark.parametrize("kind", ACTORS)
def test_a_killed_actor_loses_and_doubles_nothing_on_the_spool(tmp_path: Path, kind: str) -> None:
    kill_actor_midway(spool_place(tmp_path, *SMALL_STEPS), kind)


def test_a_killed_process_tree_loses_and_doubles_nothing_on_the_spool(tmp_path: Path) -> None:
    kill_everything_midway(spool_place(tmp_path, *SMALL_STEPS))
