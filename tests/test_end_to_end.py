"""The main job on real footage, with real Ray and ffmpeg, on the spool."""

import io
import json
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from standwatch.actors.topics import open_sink, open_source
from standwatch.configs.load import load_config
from standwatch.pipeline.codec import encode_chunk
from standwatch.pipeline.cutting import cut
from standwatch.pipeline.events import parse_alert, parse_answer
from standwatch.pipeline.ffmpeg import find_ffmpeg
from standwatch.pipeline.memory import MemoryReader
from standwatch.pipeline.types import Record
from tests.system import (
    BOTTLES,
    EVER,
    PEOPLE,
    START,
    START_MS,
    Place,
    actor_processes,
    frames_in_memory,
    log_of,
    publish,
    run_until_idle,
    running,
    sampled_times,
    spool_place,
    standwatch,
    verify_clean,
    wait_for_frames,
)

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(180)]
FPS = 2


def all_records(place: Place, kind: str) -> list[Record]:
    config = load_config("local", None, place.settings)
    source = open_source(config.broker, config.topics, getattr(config.topics, kind))
    source.assign({partition: None for partition in source.partitions()})
    records: list[Record] = []
    while some := source.poll(1000, 500):
        records.extend(some)
    source.close()
    return records


def pictures_at(video: Path, times_ms: list[int]) -> list[np.ndarray]:
    """The frames of a file at these times, by one ffmpeg call of their own, at thumbnail size."""
    moments = "+".join(f"lt(abs(t-{(at - START_MS) / 1000}),0.0021)" for at in times_ms)
    done = subprocess.run(
        [
            *(find_ffmpeg(), "-v", "error", "-i", str(video), "-vf", f"select='{moments}',scale=160:90"),
            *("-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
        ],
        capture_output=True,
        check=True,
    )
    return list(np.frombuffer(done.stdout, np.uint8).reshape(-1, 90, 160, 3).astype(float))


def test_memory_holds_exactly_the_sampled_frames_and_answers_come_out(tmp_path: Path) -> None:
    place = spool_place(tmp_path, f"decode.sample_fps={FPS}", "flow.shards=2", "topics.partitions=4")
    videos = {"hall": PEOPLE, "belt": BOTTLES}
    memory = ("--memory", str(place.memory))
    rule = ("--every", "5s", "--window", "10s", "--open-at", "0.01", "--close-at", "0.005")
    standwatch("query", "add", "Is anybody there?", "--id", "anybody", *rule, *memory)
    standwatch("query", "add", "What is going on?", "--id", "report", "--kind", "text", "--every", "20s", *memory)
    for feed, video in videos.items():
        publish(place, video, feed)

    summary = run_until_idle(place)

    verify_clean(place)
    held = frames_in_memory(place.memory)
    assert summary["frames"] == {feed: len(times) for feed, times in held.items()}
    assert summary["weights"] == "untrained"
    for feed, video in videos.items():
        expected = sampled_times(video, FPS)
        assert len(held[feed]) == len(expected)
        assert max(abs(a - b) for a, b in zip(held[feed], expected, strict=True)) <= 1
        thumbnails_show_the_frames(place, feed, video, held[feed][:: len(held[feed]) // 8])

    answers = [parse_answer(record) for record in all_records(place, "answers")]
    alerts = [parse_alert(record) for record in all_records(place, "alerts")]
    assert {answer.feed_id for answer in answers} == set(videos)
    assert {answer.query_id for answer in answers} == {"anybody", "report"}
    assert len({answer.answer_id for answer in answers}) == len(answers) == summary["answers"]
    assert {answer.weights for answer in answers} == {"untrained"}
    assert {alert.transition.value for alert in alerts} >= {"opened"}
    for answer in answers:
        times = {frame.frame_ms for frame in answer.evidence}
        assert times <= set(held[answer.feed_id])
        assert all(answer.window.from_ms <= at < answer.window.to_ms for at in times)

    again = run_until_idle(place)
    assert again["frames"] == summary["frames"]
    assert again["answers"] == 0, "what was answered is not answered again, nor counted as this run's"
    said = json.loads(standwatch("ask", "Who is it?", "--feed", "hall", "--last", "20s", "--json", *memory).stdout)
    assert said["feed_id"] == "hall"
    assert "'yard' is not in" in standwatch("ask", "Who?", "--feed", "yard", *memory, code=2).stderr
    out = tmp_path / "hall.parquet"
    standwatch("memory", "export", str(out), "--feed", "hall", *memory)
    assert out.stat().st_size > 10_000


def thumbnails_show_the_frames(place: Place, feed: str, video: Path, times: list[int]) -> None:
    at = np.array(times, np.int64)
    evidence = MemoryReader(str(place.memory)).evidence(feed, EVER, at, np.zeros(len(at), np.float32))
    shown = [np.asarray(Image.open(io.BytesIO(jpeg)), float) for jpeg in evidence.thumbnails]
    truth = pictures_at(video, times)
    assert len(shown) == len(truth) == len(times)
    for thumbnail, picture in zip(shown, truth, strict=True):
        assert thumbnail.shape == picture.shape
        own = np.abs(thumbnail - picture).mean()
        assert own < 8, "a thumbnail differs from its frame by more than JPEG explains"


def test_feeds_that_stop_break_or_stay_silent_do_not_hold_up_the_others(tmp_path: Path) -> None:
    place = spool_place(tmp_path, f"decode.sample_fps={FPS}", "flow.shards=2", "topics.partitions=4")
    config = load_config("local", None, place.settings)
    publish(place, PEOPLE, "whole")
    publish(place, BOTTLES, "other")
    sink = open_sink(config.broker, config.topics)
    chunks = list(cut(str(PEOPLE), "damaged", START_MS))
    for number, chunk in enumerate(chunks):
        record = encode_chunk(chunk, config.topics.chunks)
        if number % 3 == 1:  # truncated in the middle
            record = type(record)(
                record.topic, record.key, record.value[: len(record.value) // 2], record.headers, record.timestamp_ms
            )
        sink.send(record)
    for chunk in list(cut(str(PEOPLE), "stopped", START_MS))[:3]:
        sink.send(encode_chunk(chunk, config.topics.chunks))
    sink.close()  # a fourth feed, "silent", is asked about and never sends anything
    memory = ("--memory", str(place.memory))
    standwatch("query", "add", "Anything?", "--id", "anything", "--feeds", "silent,whole", "--every", "10s", *memory)

    summary = run_until_idle(place)

    verify_clean(place)
    held = frames_in_memory(place.memory)
    assert set(held) == {"whole", "other", "damaged", "stopped"}
    assert len(held["whole"]) == len(sampled_times(PEOPLE, FPS))
    assert len(held["other"]) == len(sampled_times(BOTTLES, FPS))
    broken = range(1, len(chunks), 3)
    assert summary["dead_letters"] == len(broken)
    lost = [(chunks[n].start_ms, chunks[n].start_ms + chunks[n].duration_ms) for n in broken]
    good = [at for at in sampled_times(PEOPLE, FPS) if not any(first <= at < last for first, last in lost)]
    assert held["damaged"] == good
    assert held["stopped"] == [at for at in sampled_times(PEOPLE, FPS) if at < chunks[3].start_ms]
    letters = all_records(place, "dead_letters")
    assert len(letters) == len(broken)
    for letter in letters:
        headers = dict(letter.headers)
        assert headers["ce_source"] == b"/feeds/damaged"
        assert headers["dlq-reason"]


def test_queries_added_while_it_runs_are_answered_and_ctrl_c_ends_it_in_order(tmp_path: Path) -> None:
    place = spool_place(tmp_path, f"decode.sample_fps={FPS}", "topics.partitions=2")
    memory = ("--memory", str(place.memory))
    with running(place):
        camera = threading.Thread(
            target=standwatch, args=("publish", str(BOTTLES), "--feed", "belt", "--to", place.to, "--fast")
        )
        camera.start()
        camera.join()
        wait_for_frames(place, len(sampled_times(BOTTLES, FPS)) - 4)
        standwatch("query", "add", "What now?", "--id", "late", "--every", "5s", "--window", "5s", *memory)
        publish(place, BOTTLES, "belt-2", START)
        wait_for_frames(place, 2 * len(sampled_times(BOTTLES, FPS)))
    verify_clean(place)
    answers = [parse_answer(record) for record in all_records(place, "answers")]
    assert {answer.query_id for answer in answers} == {"late"}


def test_a_damaged_memory_is_refused_in_one_line_that_names_the_file(tmp_path: Path) -> None:
    place = spool_place(tmp_path, "topics.partitions=1")
    publish(place, BOTTLES, "belt")
    manifest = place.memory / "video.chunks.v1" / "p-00000" / "manifest-00000000000000000001.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{")
    done = standwatch("run", "--until-idle", "--json", *place.settings, code=1)
    assert manifest.name in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_second_run_on_the_same_memory_ends_the_first_one_clearly(tmp_path: Path) -> None:
    place = spool_place(tmp_path, f"decode.sample_fps={FPS}", "topics.partitions=2")
    publish(place, BOTTLES, "belt")
    with running(place) as first:
        wait_for_frames(place, len(sampled_times(BOTTLES, FPS)))
        run_until_idle(place)
        publish(place, PEOPLE, "hall")
        assert first.wait(60) == 1
    assert "claimed" in log_of(place)
    verify_clean(place)
    assert len(frames_in_memory(place.memory)["belt"]) == len(sampled_times(BOTTLES, FPS))


def test_a_part_that_cannot_start_again_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    place = spool_place(tmp_path, "topics.partitions=1")
    publish(place, BOTTLES, "belt")
    with running(place) as process:
        wait_for_frames(place, 8)
        (place.memory / "answering" / "answering.json").write_text("{")
        for victim in actor_processes(process.pid, "Answerer"):
            victim.kill()
        assert process.wait(60) == 1
    assert "answering.json" in log_of(place)
