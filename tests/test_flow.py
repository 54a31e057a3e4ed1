import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from standwatch.configs.schema import DecodeConfig, FlowConfig
from standwatch.pipeline.batching import Batch, ClipBatcher
from standwatch.pipeline.decode import ChunkDecoder
from standwatch.pipeline.flow import InFlight, IngestFlow, Intake
from standwatch.pipeline.types import Clip, FeedMark, Rewind, SourceOffset
from tests.footage_video import BUNDLED, FOOTAGE, START_MS, chunks, record, sampled, shown
from tests.written_video import DECODE, TOPIC, WrittenDecoder, random_records, written

START = Rewind(1, {}, {})


def flow(frames_per_clip: int = 4, state: Rewind = START, max_gap_ms: int = 10_000) -> IngestFlow:
    made = IngestFlow(TOPIC, DECODE, FlowConfig(max_gap_ms=max_gap_ms), frames_per_clip, WrittenDecoder())
    made.rewind(state)
    return made


def groups(clips: Sequence[Clip], feed: str = "a") -> list[list[int]]:
    return [clip.frame_ms.tolist() for clip in clips if clip.feed_id == feed]


def test_frames_of_many_feeds_become_clips_each_feed_in_its_order() -> None:
    records = [
        written(0, "a", 0, "0 100 200"),
        written(1, "b", 500, "0 500"),
        written(2, "a", 1000, "0 100 200"),
    ]
    made = flow(frames_per_clip=2)
    intake = made.take(records, 0)
    assert groups(intake.clips, "a") == [[0, 100], [200, 1000], [1100, 1200]]
    assert groups(intake.clips, "b") == [[500, 1000]]
    assert intake.positions == {0: 3}


def test_the_position_waits_for_the_oldest_chunk_with_a_frame_in_no_clip() -> None:
    made = flow()
    first = made.take([written(5, "a", 0, "0 100"), written(6, "b", 0, "0 100 200 300")], 0)
    assert first.positions == {0: 5}
    second = made.take([written(7, "a", 1000, "0 100 200")], 0)
    assert groups(second.clips) == [[0, 100, 1000, 1100]]
    assert second.positions == {0: 7}  # its last frame is in no clip
    third = made.flush(0, everything=True)
    assert groups(third.clips) == [[1200]]
    assert third.positions == {0: 8}


def test_positions_of_partitions_are_apart() -> None:
    made = flow()
    intake = made.take([written(5, "a", 0, "0"), written(9, "b", 0, "0 100 200 300", partition=1)], 0)
    assert intake.positions == {0: 5, 1: 10}


def test_a_feed_that_falls_silent_is_flushed_after_its_wait_and_others_are_not() -> None:
    made = flow()
    made.take([written(0, "a", 0, "0")], now_ms=1_000)
    made.take([written(1, "b", 0, "0")], now_ms=3_000)
    assert made.flush(3_999).clips == ()
    assert [clip.feed_id for clip in made.flush(4_000).clips] == ["a"]
    assert [clip.feed_id for clip in made.flush(9_000).clips] == ["b"]


def test_a_malformed_record_and_a_damaged_chunk_are_dead_letters_and_the_feed_goes_on() -> None:
    nameless = replace(written(0, "a", 0, "0"), headers=())
    intake = flow(frames_per_clip=1).take(
        [nameless, written(1, "a", 1000, "bad"), written(2, "a", 2000, "0"), written(3, "b", 0, "0")], 0
    )
    assert [(letter.record.at.offset, letter.reason.split(":")[0]) for letter in intake.dead] == [
        (0, "content-type"),
        (1, "payload"),
    ]
    assert groups(intake.clips, "a") == [[2000]]
    assert groups(intake.clips, "b") == [[0]]
    assert intake.positions == {0: 4}


def test_a_chunk_of_a_clock_that_went_backwards_is_a_dead_letter_with_both_times() -> None:
    made = flow(frames_per_clip=1)
    intake = made.take(
        [written(0, "a", 60_000, "0 900"), written(1, "a", 30_000, "0"), written(2, "a", 61_000, "0")], 0
    )
    (letter,) = intake.dead
    assert letter.record.at.offset == 1
    assert letter.reason.startswith("ce_time: clock went backwards")
    assert "1970-01-01T00:00:31.000Z" in letter.reason
    assert "1970-01-01T00:01:00.900Z" in letter.reason
    assert groups(intake.clips) == [[60_000], [60_900], [61_000]]


def test_frames_of_a_chunk_that_overlaps_the_one_before_are_dropped_and_counted() -> None:
    intake = flow(frames_per_clip=1).take([written(0, "a", 0, "0 900"), written(1, "a", 500, "0 400 600")], 0)
    assert groups(intake.clips) == [[0], [900], [1100]]
    assert intake.frames_dropped == {"late": 2}


def test_replayed_chunks_are_dropped_in_silence() -> None:
    mark = FeedMark(1_100, SourceOffset(TOPIC, 0, 1))
    made = flow(frames_per_clip=1, state=Rewind(2, {0: 0}, {"a": mark}))
    intake = made.take([written(0, "a", 0, "0 500"), written(1, "a", 1000, "0 100 200")], 0)
    assert groups(intake.clips) == [[1200]]
    assert intake.dead == ()
    assert intake.frames_dropped == {"replayed": 4}


def test_clips_that_come_again_end_where_they_ended_and_hold_no_position_back() -> None:
    """In memory are the clips 0..100 (a silence ended it) and 200; the frames from 1000 on are new."""
    records = [written(0, "a", 0, "0 100 200"), written(1, "a", 1000, "0 100 200 300")]
    mark = FeedMark(-1, SourceOffset(TOPIC, 0, 0))
    made = flow(state=Rewind(2, {0: 0}, {"a": mark}, settled={0: 1}, clip_ends={"a": (100, 200)}))
    again = made.take(records[:1], 0)
    assert groups(again.clips) == [[0, 100], [200]]
    assert groups(made.take(records[1:], 0).clips) == [[1000, 1100, 1200, 1300]]


def test_a_clip_that_comes_again_waits_for_its_end_and_holds_no_position_back() -> None:
    mark = FeedMark(-1, SourceOffset(TOPIC, 0, 0))
    made = flow(state=Rewind(2, {0: 0}, {"a": mark}, settled={0: 2}, clip_ends={"a": (1000,)}))
    assert made.take([written(0, "a", 0, "0 100")], 0).positions == {0: 1}
    assert made.flush(now_ms=60_000).clips == (), "the rest of it was read before and is on its way"
    intake = made.take([written(1, "a", 1000, "0 100")], 60_000)
    assert groups(intake.clips) == [[0, 100, 1000]]
    assert intake.positions == {0: 1}, "a frame that is new does hold it back"
    assert groups(made.flush(now_ms=120_000).clips) == [[1100]]


def test_a_clip_whose_end_does_not_come_again_takes_in_no_frame_of_the_next() -> None:
    """The chunk of the end was lost meanwhile: the frames before it are a clip, what comes after is another."""
    mark = FeedMark(-1, SourceOffset(TOPIC, 0, 0))
    made = flow(state=Rewind(2, {0: 0}, {"a": mark}, settled={0: 3}, clip_ends={"a": (500, 1100)}))
    intake = made.take([written(0, "a", 0, "0 100"), written(2, "a", 1000, "0 100 200")], 0)
    assert groups(intake.clips) == [[0, 100], [1000, 1100]]


def test_what_was_refused_before_is_no_dead_letter_again() -> None:
    nameless = replace(written(0, "a", 0, "0"), headers=())
    records = [nameless, written(1, "a", 5000, "0"), written(2, "a", 1000, "0"), written(3, "a", 6000, "bad")]
    assert [letter.record.at.offset for letter in flow().take(records, 0).dead] == [0, 2, 3]
    again = flow(state=Rewind(2, {0: 0}, {}, settled={0: 3}))
    assert [letter.record.at.offset for letter in again.take(records, 0).dead] == [3]


def test_after_a_rewind_the_flow_remembers_nothing_else() -> None:
    made = flow()
    made.take([written(0, "a", 0, "0 100"), written(1, "b", 0, "0")], 0)
    made.rewind(Rewind(2, {}, {}))
    intake = made.take([written(0, "a", 0, "0 100 200 300")], 0)
    assert groups(intake.clips) == [[0, 100, 200, 300]]
    assert intake.positions == {0: 1}


class Memory:
    """What is durable: clips, dead letters, positions and each feed's mark."""

    def __init__(self) -> None:
        self.clips: list[Clip] = []
        self.dead: set[SourceOffset] = set()
        self.positions: dict[int, int] = {}

    def append(self, intake: Intake, clips: int | None = None) -> None:
        """All of an intake, or only its first clips: the position belongs to the last of them."""
        self.dead |= {letter.record.at for letter in intake.dead}
        self.clips += intake.clips[:clips]
        if clips is None:
            self.positions.update(intake.positions)

    def append_batch(self, batch: Batch) -> None:
        self.clips += batch.clips
        self.positions.update(batch.positions)

    def rewind(self) -> Rewind:
        marks = {clip.feed_id: FeedMark(int(clip.frame_ms[-1]), clip.at) for clip in self.clips}
        return Rewind(0, dict(self.positions), marks)


@pytest.mark.parametrize("seed", range(25))
def test_a_crash_anywhere_loses_nothing_doubles_nothing_and_changes_no_grouping(seed: int) -> None:
    noise = random.Random(seed)
    records = random_records(noise)
    whole = Memory()
    uninterrupted = flow()
    whole.append(uninterrupted.take(records, 0))
    whole.append(uninterrupted.flush(0, everything=True))

    memory = Memory()
    for _ in range(4):  # runs that crash, each after some intakes, the last of them appended in part
        running = flow(state=memory.rewind())
        rest = [one for one in records if one.at.offset >= memory.positions.get(one.at.partition, 0)]
        for _ in range(noise.randrange(1, 6)):
            size = noise.randrange(1, 9)
            intake, rest = running.take(rest[:size], 0), rest[size:]
            memory.append(intake)
        lost = running.take(rest[:5], 0)
        memory.append(lost, clips=noise.randrange(len(lost.clips) + 1))
    last = flow(state=memory.rewind())
    memory.append(last.take([r for r in records if r.at.offset >= memory.positions.get(r.at.partition, 0)], 0))
    memory.append(last.flush(0, everything=True))

    for feed in "abc":
        assert groups(memory.clips, feed) == groups(whole.clips, feed)
    assert memory.dead == whole.dead
    ends = {p: 1 + max(one.at.offset for one in records if one.at.partition == p) for p in (0, 1)}
    assert memory.positions == whole.positions == ends


@pytest.mark.parametrize("seed", range(25))
def test_a_crash_while_clips_wait_for_their_batch_loses_and_doubles_nothing_either(seed: int) -> None:
    noise = random.Random(seed)
    records = random_records(noise)
    whole = Memory()
    uninterrupted = flow()
    whole.append(uninterrupted.take(records, 0))
    whole.append(uninterrupted.flush(0, everything=True))

    memory = Memory()
    for life in range(5):
        state = memory.rewind()
        running, batcher = flow(state=state), ClipBatcher(noise.randrange(1, 6), 50, state.positions)
        rest = [one for one in records if one.at.offset >= memory.positions.get(one.at.partition, 0)]
        batches: list[Batch] = []
        clock = 0
        for _ in range(noise.randrange(1, 6)) if life < 4 else range(len(records)):
            size = noise.randrange(1, 9)
            intake, rest = running.take(rest[:size], 0), rest[size:]
            memory.dead |= {letter.record.at for letter in intake.dead}
            clock += noise.randrange(60)
            batcher.add(intake, clock)
            batches += batcher.release(clock)
        if life == 4:
            batcher.add(running.flush(0, everything=True), clock)
            batches += batcher.release(clock, everything=True)
        for batch in batches[: noise.randrange(len(batches) + 1) if life < 4 else None]:
            memory.append_batch(batch)

    for feed in "abc":
        assert groups(memory.clips, feed) == groups(whole.clips, feed)
    assert memory.dead == whole.dead
    assert memory.positions == whole.positions


def test_in_flight_has_room_up_to_its_limit_and_for_one_batch_above_it() -> None:
    bound = InFlight(4)
    assert bound.has_room(9)
    bound.admit(3)
    assert not bound.has_room(2)
    bound.admit(1)
    bound.finish(3)
    assert bound.has_room(3)
    assert bound.count == 1


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("fps", [1.0, 2.5])
def test_the_sampled_frames_of_a_video_are_those_of_one_independent_decode(name: str, fps: float) -> None:
    config = DecodeConfig(sample_fps=fps, max_side_px=160)
    decoder = ChunkDecoder(config)
    made = IngestFlow(TOPIC, config, FlowConfig(), 4, decoder)
    records = [record(chunk) for chunk in chunks(FOOTAGE / name)]
    parts = [records[first : first + 40] for first in range(0, len(records), 40)]
    clips = [clip for part in parts for clip in made.take(part, START_MS).clips]
    clips += made.flush(START_MS, everything=True).clips
    decoder.close()
    expected = sampled(shown(FOOTAGE / name, side=160), fps)
    times = np.concatenate([clip.frame_ms for clip in clips])
    pictures = [pixels for clip in clips for pixels in clip.frames]
    assert len(times) == len(expected)
    assert max(abs(times - [START_MS + one.at_ms for one in expected])) <= 1
    for pixels, one in zip(pictures, expected, strict=True):
        assert np.abs(pixels.astype(int) - one.pixels).mean() < 1
    assert {len(clip.thumbnails) - len(clip.frame_ms) for clip in clips} == {0}
