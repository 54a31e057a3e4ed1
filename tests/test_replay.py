"""A compressor that keeps a state for each feed comes to the same tokens however often everything dies."""

import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from standwatch.configs.schema import FlowConfig, MemoryConfig
from standwatch.pipeline.batching import ClipBatcher
from standwatch.pipeline.files import Files
from standwatch.pipeline.flow import IngestFlow
from standwatch.pipeline.memory import MemoryReader
from standwatch.pipeline.segmentgrid import SegmentGrid
from standwatch.pipeline.shard import MemoryShard
from standwatch.pipeline.types import FeedMark, Record, SourceOffset, TokenBatch
from standwatch.pipeline.verify import verify
from tests.fakes import Fate, SegmentCompressor
from tests.memory_rows import ALL, Keeper, batch, places
from tests.written_video import DECODE, TOPIC, WrittenDecoder, random_records

GRID = SegmentGrid(DECODE.sample_fps, 16)  # ten frames a second: a segment is 1.6 s long
EIGHT = SegmentGrid(1.0, 8)  # a frame a second, segments of eight: halves begin at 0, 4, 8, 12 s


class Unsynced(Files):
    """Files that are not flushed: no power is cut here."""

    def _flush(self, descriptor: int) -> None: ...

    def _sync(self, path: str) -> None: ...


class Shard:
    """One shard's way from records to memory, whose processes live and die as a test says."""

    def __init__(self, root: Path, grid: SegmentGrid | None, max_gap_ms: int = 10_000) -> None:
        self.root, self._grid, self._max_gap_ms = root, grid, max_gap_ms
        self.dead: list[SourceOffset] = []
        self.model = SegmentCompressor(GRID, Fate())
        self.flow = IngestFlow(TOPIC, DECODE, FlowConfig(max_gap_ms=max_gap_ms), 4, WrittenDecoder())
        self._open()
        self.go_on(3)

    def kill(self, keeper: bool, batch_clips: int) -> None:
        """The Ingestor dies; with it the worker; and the keeper, what it had not committed, if so said."""
        self.model = SegmentCompressor(GRID, Fate())
        if keeper:
            self.memory.close()
            self._open()
        self.go_on(batch_clips)

    def go_on(self, batch_clips: int) -> None:
        """What starting and recovering have in common."""
        self.model.forget()
        self.state = self.memory.rewind(self._grid)
        self.flow.rewind(self.state)
        self._batcher = ClipBatcher(batch_clips, 0, self.state.positions)
        self._next = dict(self.state.positions)
        self._seq = 0

    def poll(self, published: Sequence[Record], most: int) -> list[Record]:
        """The next records from where each partition is read."""
        rest = [one for one in published if one.at.offset >= self._next.get(one.at.partition, 0)][:most]
        self._next.update((one.at.partition, one.at.offset + 1) for one in rest)
        return rest

    def take(self, records: Sequence[Record], die_after: int | None = None) -> None:
        """Take records and bring their clips to the memory; or die after so many batches, with one compressed."""
        intake = self.flow.take(records, 0)
        self.dead += [letter.record.at for letter in intake.dead]
        self._batcher.add(intake, 0)
        for count, one in enumerate(self._batcher.release(0)):
            tokens = self.model.compress(one.clips) if one.clips else []
            if count == die_after:
                return
            self._append(tokens, one.positions)

    def flush(self) -> None:
        """As at the end of a run or of a silence: what is pending becomes short clips, and all is durable."""
        self._batcher.add(self.flow.flush(0, everything=True), 0)
        for one in self._batcher.release(0, everything=True):
            self._append(self.model.compress(one.clips) if one.clips else [], one.positions)
        self.memory.commit(0)

    def held(self) -> dict[str, tuple[list[int], list[list[float]], list[int]]]:
        """Of each feed the times of its frames, their tokens and their places in their clips."""
        reader = MemoryReader(str(self.root))
        found = {}
        for feed in reader.feeds():
            window = reader.window(feed.feed_id, ALL)
            tokens = window.tokens[:, 0].tolist()
            found[feed.feed_id] = (window.frame_ms.tolist(), tokens, places(self.root, feed.feed_id))
        return found

    def _append(self, tokens: Sequence[TokenBatch], positions: Mapping[int, int]) -> None:
        self.memory.append(self.state.session, self._seq, tokens, positions)
        self._seq += 1

    def _open(self) -> None:
        config = MemoryConfig(str(self.root), commit_ms=600_000, compact_files=2)
        files = Unsynced(str(self.root))
        self.memory = MemoryShard(config, TOPIC, (0, 1), files=files, now_ms=lambda: 0)


@contextmanager
def shard(grid: SegmentGrid | None = GRID, max_gap_ms: int = 10_000) -> Iterator[Shard]:
    with tempfile.TemporaryDirectory() as root:
        yield Shard(Path(root), grid, max_gap_ms)


def phases(noise: random.Random) -> list[list[Record]]:
    """What has been published at the end of each phase; at it everything is flushed."""
    records = random_records(noise)
    ends = sorted(noise.sample(range(1, len(records)), noise.randrange(3)))
    return [records[:end] for end in [*ends, len(records)]]


def undisturbed(made: Shard, published: Sequence[Sequence[Record]]) -> None:
    for now in published:
        while records := made.poll(now, 7):
            made.take(records)
        made.flush()


def disturbed(made: Shard, published: Sequence[Sequence[Record]], noise: random.Random) -> None:
    """The same, dying after any step of any batch, alone or with the keeper, with merging in between."""
    for now in published:
        deaths = noise.randrange(4)
        while deaths or made.flow is not None:
            records = made.poll(now, noise.randrange(1, 9))
            dies = deaths > 0 and (not records or noise.random() < 0.3)
            made.take(records, noise.randrange(4) if dies else None)
            if noise.random() < 0.3:
                made.memory.commit(0)
            if noise.random() < 0.2:
                made.memory.maintain(0)
            if dies:
                deaths -= 1
                made.kill(noise.random() < 0.7, noise.randrange(1, 6))
            elif not records:
                break
        made.flush()
        if noise.random() < 0.5:  # nothing is under way, and still the state of every feed is gone
            made.kill(noise.random() < 0.5, 3)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), max_gap_ms=st.sampled_from((200, 10_000)))
def test_whatever_dies_whenever_the_tokens_are_those_of_a_run_in_which_nothing_did(seed: int, max_gap_ms: int) -> None:
    noise = random.Random(seed)
    published = phases(noise)
    with shard(max_gap_ms=max_gap_ms) as calm, shard(max_gap_ms=max_gap_ms) as troubled:
        undisturbed(calm, published)
        disturbed(troubled, published, noise)
        expected = calm.held()
        assert troubled.held() == expected
        assert set(troubled.dead) == set(calm.dead)
        assert troubled.memory.positions() == calm.memory.positions()
        assert not [finding for finding in verify(str(troubled.root)) if finding.is_error]
        for times, tokens, _ in expected.values():
            assert len({tuple(one) for one in tokens}) == len(times), "every frame's tokens are its own"


@pytest.mark.parametrize("seed", range(3))
def test_without_going_back_the_tokens_would_be_others(seed: int) -> None:
    noise = random.Random(seed)
    published = phases(noise)
    with shard() as calm, shard(grid=None) as troubled:
        undisturbed(calm, published)
        disturbed(troubled, published, noise)
        expected, found = calm.held(), troubled.held()
        assert {feed: said[0] for feed, said in found.items()} == {feed: said[0] for feed, said in expected.items()}
        assert found != expected


def seconds(*times: int) -> list[int]:
    return [1000 * at for at in times]


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    """A feed whose clips begin at 0, 4, 6 and 10 s, in the chunks 0, 1, 2 and 3."""
    made = Keeper(tmp_path / "memory", partitions=(0, 1))
    made.append(batch("cam", seconds(0, 1, 2, 3), 0), batch("cam", seconds(4, 5), 1), p0=2)
    made.commit(batch("cam", seconds(6, 7, 8, 9), [2, 2, 3, 3]), batch("cam", seconds(10, 11), 3), p0=4)
    return made


def at(offset: int, partition: int = 0) -> SourceOffset:
    return SourceOffset(TOPIC, partition, offset)


def test_a_replay_begins_with_the_first_frame_of_the_segment_that_is_open(keeper: Keeper) -> None:
    """The last frame, at 11 s, is in the half from 8 s on: the segment of it and the half before begins at 4 s."""
    keeper.rewind(EIGHT)
    assert keeper.start.positions == {0: 1}
    assert keeper.start.settled == {0: 4}
    assert keeper.start.feeds == {"cam": FeedMark(3_999, at(1))}
    assert keeper.start.clip_ends == {"cam": (5_000, 9_000, 11_000)}


def test_a_replay_begins_with_the_whole_clip_in_which_the_segment_begins(keeper: Keeper) -> None:
    """At 12 s the next half begins, and with it the segment from 8 s on: in the middle of the clip from 6 s on."""
    keeper.commit(batch("cam", seconds(12), 4), p0=5)
    keeper.rewind(EIGHT)
    assert keeper.start.positions == {0: 2}
    assert keeper.start.feeds == {"cam": FeedMark(5_999, at(2))}
    assert keeper.start.clip_ends == {"cam": (9_000, 11_000, 12_000)}


def test_without_a_grid_nothing_comes_again(keeper: Keeper) -> None:
    keeper.rewind()
    assert keeper.start.positions == keeper.start.settled == {0: 4}
    assert keeper.start.feeds == {"cam": FeedMark(11_000, at(3))}
    assert keeper.start.clip_ends == {}


def test_the_beginning_of_a_clip_is_found_in_an_older_file(tmp_path: Path) -> None:
    """As when a clip was cut short by a silence and came again whole."""
    keeper = Keeper(tmp_path)
    keeper.commit(batch("cam", seconds(4, 5), 0), p0=1)
    keeper.commit(batch("cam", seconds(6), 1), p0=1)
    keeper.commit(batch("cam", seconds(6, 7, 8), [1, 1, 2]), p0=3)
    keeper.commit(batch("cam", seconds(12), 3), p0=4)
    keeper.rewind(EIGHT)
    assert keeper.start.feeds == {"cam": FeedMark(5_999, at(1))}
    assert keeper.start.clip_ends == {"cam": (8_000, 12_000)}


def test_a_clip_whose_beginning_is_gone_is_left_out(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    keeper.commit(batch("cam", seconds(8, 9), 4, clip_frame=2), p0=5)
    keeper.rewind(EIGHT)
    assert keeper.start.feeds == {"cam": FeedMark(9_000, at(4))}, "nothing can come again as it was"
    keeper.commit(batch("cam", seconds(10, 11), 5), p0=6)
    keeper.rewind(EIGHT)
    assert keeper.start.feeds == {"cam": FeedMark(9_999, at(5))}
    assert keeper.start.clip_ends == {"cam": (11_000,)}


def test_a_mark_lies_before_the_slot_of_the_frame_that_is_to_come(tmp_path: Path) -> None:
    """Within it, a sampler that stands at the mark would keep no frame of that slot any more."""
    keeper = Keeper(tmp_path)
    keeper.commit(batch("cam", [5_730, 6_200], 0), p0=1)
    keeper.rewind(EIGHT)
    assert keeper.start.feeds == {"cam": FeedMark(4_999, at(0))}


def test_the_position_is_that_of_the_feed_that_goes_back_furthest(keeper: Keeper) -> None:
    keeper.commit(batch("fast", seconds(100), 4), batch("dock", seconds(9), 7, partition=1), p0=5, p1=8)
    keeper.rewind(EIGHT)
    assert keeper.start.positions == {0: 1, 1: 7}
    assert keeper.start.settled == {0: 5, 1: 8}
    assert keeper.start.feeds.keys() == {"cam", "fast", "dock"}


def test_a_feed_that_fell_silent_a_segment_ago_by_clock_and_frames_does_not_hold_the_others_back(
    keeper: Keeper,
) -> None:
    keeper.clock_ms += 9_000
    keeper.commit(batch("new", seconds(20, 21), 4), p0=5)
    keeper.rewind(EIGHT)
    assert keeper.start.positions == {0: 4}
    assert keeper.start.feeds == {"cam": FeedMark(11_000, at(3)), "new": FeedMark(19_999, at(4))}
    assert keeper.start.clip_ends.keys() == {"new"}


@pytest.mark.parametrize(("clock_ms", "frame_s"), [(8_000, 20), (9_000, 19)])
def test_a_feed_that_is_late_only_by_the_clock_or_only_by_its_frames_comes_again(
    keeper: Keeper, clock_ms: int, frame_s: int
) -> None:
    """As when footage of another day is published beside a live feed, or when it is published fast."""
    keeper.clock_ms += clock_ms
    keeper.commit(batch("new", seconds(frame_s), 4), p0=5)
    keeper.rewind(EIGHT)
    assert keeper.start.positions == {0: 1}


def test_while_records_come_again_the_durable_position_stays(keeper: Keeper) -> None:
    keeper.rewind(EIGHT)
    assert keeper.commit(batch("cam", seconds(4, 5), 1), p0=2) == [], "nothing is new"
    with pytest.raises(ValueError, match="position 1 is before 2"):
        keeper.append(p0=1)
    second = Keeper(keeper.root, partitions=(0, 1))
    assert second.start.positions == {0: 4}
    second.rewind(EIGHT)
    second.append(batch("cam", seconds(4, 5), 1), p0=2)
    second.commit(batch("cam", seconds(10, 11, 12, 13), [3, 3, 4, 4]), p0=5)
    assert second.times("cam") == seconds(*range(14))
    assert places(second.root, "cam")[-4:] == [0, 1, 2, 3]
    assert second.shard.positions() == {0: 5}


def test_a_feed_that_was_moved_to_another_partition_comes_again_from_there(keeper: Keeper) -> None:
    """Whichever of the two has the higher number: the newer frames count."""
    keeper.commit(batch("cam", seconds(20), 6, partition=1), p1=7)
    keeper.rewind(EIGHT)
    assert keeper.start.feeds == {"cam": FeedMark(19_999, at(6, 1))}
    assert keeper.start.positions == {0: 4, 1: 6}
    keeper.commit(batch("cam", seconds(30), 9), p0=10)
    keeper.rewind(EIGHT)
    assert keeper.start.feeds == {"cam": FeedMark(29_999, at(9))}
    assert keeper.start.positions == {0: 9, 1: 7}


def test_rows_that_no_position_covers_yet_are_read_from_the_beginning(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    keeper.commit(batch("cam", seconds(5), 3))
    keeper.rewind(EIGHT)
    assert keeper.start.positions == keeper.start.settled == {}
