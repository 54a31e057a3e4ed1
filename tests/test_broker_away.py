"""A running system whose broker goes away and comes back."""

import time
from pathlib import Path

import pytest

from tests.kafka_broker import running_broker
from tests.system import (
    BOTTLES,
    PEOPLE,
    frames_in_memory,
    kafka_place,
    publish,
    running,
    sampled_times,
    verify_clean,
    wait_for_frames,
)

pytestmark = [pytest.mark.kafka, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]
FPS = 5


def test_a_run_waits_for_a_broker_that_went_away_and_goes_on(tmp_path: Path) -> None:
    expected = {"belt": sampled_times(BOTTLES, FPS), "hall": sampled_times(PEOPLE, FPS)}
    with running_broker(tmp_path / "broker") as broker:
        place = kafka_place(tmp_path, broker.servers, f"decode.sample_fps={FPS}", "topics.partitions=2")
        publish(place, BOTTLES, "belt")
        with running(place) as process:
            wait_for_frames(place, len(expected["belt"]))
            broker.stop()
            time.sleep(5)
            assert process.poll() is None, "an absent broker is no reason to end"
            broker.start()
            publish(place, PEOPLE, "hall")
            wait_for_frames(place, sum(map(len, expected.values())), timeout=120)
        verify_clean(place)
        held = frames_in_memory(place.memory)
    assert {feed: len(times) for feed, times in held.items()} == {feed: len(t) for feed, t in expected.items()}
