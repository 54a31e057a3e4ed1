"""What is merged and what is forgotten, and that reading goes on meanwhile."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.manifest import FeedState, Manifest, RowFile, Span
from standwatch.pipeline.memory import MemoryReader
from standwatch.pipeline.types import Window
from standwatch.pipeline.upkeep import to_forget, to_merge
from standwatch.pipeline.verify import verify
from tests.memory_rows import ALL, TOPIC, Keeper, batch

HOUR = 3_600_000


def row_file(name: str, feeds: str = "a", *, level: int = 0, size: int = 10, space: str = "s", at: int = 0) -> RowFile:
    spans = tuple(Span(feed, i, 1, at, at, 0, 0) for i, feed in enumerate(feeds))
    return RowFile(name, size, 0, level, space, 2, 3, spans)


def merging(
    *files: RowFile, compact_files: int = 4, file_bytes: int = 1000, leave: frozenset[str] = frozenset()
) -> str:
    group = to_merge(Manifest(TOPIC, 0, files=files), compact_files, file_bytes, leave)
    return "".join(file.name for file in group)


def test_neighbours_of_one_level_are_merged_when_there_are_enough() -> None:
    three = [row_file(name) for name in "abc"]
    assert merging(*three) == ""
    assert merging(*three, row_file("d")) == "abcd"
    assert merging(row_file("x", level=1), *three, row_file("d")) == "abcd"
    assert merging(*three, row_file("x", level=1), row_file("d")) == "", "a file of the same feed is in between"


def test_a_merge_is_no_larger_than_file_bytes_and_large_files_are_left_alone() -> None:
    assert merging(*(row_file(name, size=300) for name in "abcde")) == "abc"
    assert merging(*(row_file(name, size=600) for name in "abcdefgh")) == ""
    assert merging(row_file("x", size=995), *(row_file(name) for name in "abcd")) == "abcd"


def test_few_files_are_not_rewritten_for_little() -> None:
    assert merging(*(row_file(name, size=300) for name in "abcdefghijklmnopqrst"), compact_files=16) == ""
    assert merging(*(row_file(name, size=250) for name in "abcdefghijklmnopqrst"), compact_files=16) == "abcd"


def test_files_of_different_token_spaces_are_never_merged() -> None:
    assert merging(row_file("a"), row_file("b"), row_file("c", space="t"), row_file("d", space="t")) == ""


def test_files_in_between_are_passed_over_only_when_they_share_no_feed() -> None:
    mine = [row_file(name, "ab") for name in "1234"]
    other = [row_file(name, "c", space="t") for name in "wxyz"]
    mixed = [file for pair in zip(mine, other, strict=True) for file in pair]
    assert merging(*mixed) == "1234"
    assert merging(*mixed[2:], row_file("5", "ab"), row_file("6", "c")) == "23456"
    shared = [file if file.name != "x" else replace(file, spans=mine[0].spans) for file in mixed]
    assert merging(*shared) == ""


def test_a_file_to_be_left_splits_a_run() -> None:
    assert merging(*(row_file(name) for name in "abcdef"), leave=frozenset("c")) == ""
    assert merging(*(row_file(name) for name in "abcdefg"), leave=frozenset("c")) == "defg"


def forgetting(manifest: Manifest) -> list[str]:
    return [file.name for file in to_forget(manifest, HOUR)]


def test_a_file_is_forgotten_when_no_feed_in_it_wants_it() -> None:
    feeds = {"a": FeedState(10 * HOUR, 0, 0, 0), "b": FeedState(9 * HOUR, 0, 0, 0)}
    files = (
        row_file("old", "ab", at=8 * HOUR - 1),
        row_file("edge of b", "ab", at=8 * HOUR),
        row_file("only a", "a", at=9 * HOUR - 1),
        row_file("edge of a", "a", at=9 * HOUR),
    )
    manifest = Manifest(TOPIC, 0, feeds=feeds, files=files)
    assert forgetting(manifest) == ["old", "only a"]


def test_a_feed_that_fell_silent_is_forgotten_only_when_both_clocks_say_so() -> None:
    files = (row_file("gone", "b", at=5 * HOUR),)

    def forgotten(frame_ms: int, seen_ms: int) -> bool:
        feeds = {"a": FeedState(10 * HOUR, 0, 0, 100 * HOUR), "b": FeedState(frame_ms, 0, 1, seen_ms)}
        return forgetting(Manifest(TOPIC, 0, feeds=feeds, files=files)) == ["gone"]

    assert forgotten(5 * HOUR, 98 * HOUR)
    assert not forgotten(5 * HOUR, 99 * HOUR), "old footage is being replayed"
    near = {"a": FeedState(6 * HOUR, 0, 0, 100 * HOUR), "b": FeedState(5 * HOUR, 0, 1, 1)}
    assert forgetting(Manifest(TOPIC, 0, feeds=near, files=files)) == [], "the wall clock was set forward"


def test_retention_keeps_marks_so_that_replays_stay_replays(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, retention_hours=1)
    old = batch("b", [0, HOUR], [0, 1])
    keeper.commit(old, p0=2)
    keeper.clock_ms += 100 * HOUR
    keeper.commit(batch("a", [99 * HOUR], 2), p0=3)
    assert keeper.maintain() == 1
    assert keeper.times("b") == [] and keeper.times("a") == [99 * HOUR]
    again = Keeper(tmp_path, retention_hours=1)
    assert again.start.feeds["b"].frame_ms == HOUR
    again.commit(old, p0=3)
    assert again.times("b") == []
    feed = again.shard.stat().feeds[1]
    assert (feed.feed_id, feed.frames, feed.bytes, feed.first_ms, feed.last_ms) == ("b", 0, 0, None, None)
    assert verify(str(tmp_path)) == []


def test_the_number_of_files_stays_small_and_each_row_is_rewritten_a_few_times(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, compact_files=4)
    most = 0
    for offset in range(256):
        keeper.commit(batch("cam", [offset], offset), p0=offset + 1)
        keeper.maintain()
        most = max(most, keeper.shard.stat().partitions[0].files)
    assert most <= 4 * 4
    assert keeper.times("cam") == list(range(256))
    assert len(list((tmp_path / TOPIC / "p-00000").iterdir())) <= 2 + most


def test_merging_across_a_file_of_another_space_keeps_each_feed_in_order(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, compact_files=2)
    keeper.commit(batch("a", [1], 0), p0=1)
    keeper.commit(batch("b", [2], 1, token_space="space-2"), p0=2)
    keeper.commit(batch("a", [3], 2), batch("b", [3], 2), p0=3)
    assert keeper.maintain() == 1
    assert keeper.shard.stat().partitions[0].files == 2
    assert verify(str(tmp_path)) == []
    assert keeper.times("a") == [1, 3] and keeper.times("b", Window(3, 9)) == [3]


def test_maintaining_takes_turns_between_partitions(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, partitions=(0, 1), compact_files=2)
    for offset in range(2):
        keeper.commit(
            batch("a", [offset], offset), batch("b", [offset], offset, partition=1), p0=offset + 1, p1=offset + 1
        )
    files = []
    for _ in range(3):
        keeper.shard.maintain(0)
        files.append([partition.files for partition in keeper.shard.stat().partitions])
    assert files == [[1, 2], [1, 1], [1, 1]]


def test_a_damaged_file_is_left_alone_named_and_never_merged(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, compact_files=3)
    for offset in range(3):
        keeper.commit(batch("cam", [offset], offset), p0=offset + 1)
    damaged = sorted((tmp_path / TOPIC / "p-00000").glob("rows-*"))[1]
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    keeper.maintain()
    for offset in range(3, 9):
        keeper.commit(batch("cam", [offset], offset), p0=offset + 1)
        keeper.maintain()
    assert keeper.shard.stat().partitions[0].damaged == (damaged.name,)
    assert [damaged.name in finding.where for finding in verify(str(tmp_path))] == [True]
    assert damaged.exists()


def test_a_reader_keeps_up_with_a_keeper_that_merges_and_forgets(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, compact_files=4, retention_hours=100 / HOUR)
    keeper.commit(batch("cam", [0]), p0=1)
    wrong: list[object] = []
    reads = 0
    stop = threading.Event()

    def read() -> None:
        nonlocal reads
        reader = MemoryReader(str(tmp_path))
        while not stop.is_set():
            try:
                times = reader.window("cam", ALL).frame_ms.tolist()
                if times != list(range(times[0], times[-1] + 1)):
                    wrong.append(times)
                reader.close()  # so that files are opened again, and may be gone
                reads += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, the test is to show it
                wrong.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    offset = 0
    while (offset < 200 or reads < 20) and thread.is_alive() and not wrong:
        offset += 1
        keeper.commit(batch("cam", [offset], offset), p0=offset + 1)
        keeper.maintain()
    stop.set()
    thread.join()
    assert wrong == []
    assert keeper.times("cam")[0] > 0, "retention was meant to take part"


def test_a_missing_file_is_named_instead_of_waited_for(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    keeper.commit(batch("cam", [0]), p0=1)
    lost = next((tmp_path / TOPIC / "p-00000").glob("rows-*"))
    lost.unlink()
    for reader in (MemoryReader(str(tmp_path)), keeper.shard):
        with pytest.raises(BadInput, match=f"{lost.name}.*restore it"):
            reader.window("cam", ALL)
