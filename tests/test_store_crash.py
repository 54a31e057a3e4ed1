"""The memory after a crash or a power cut between any two steps of writing."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from standwatch.pipeline.verify import verify
from tests.memory_crash import Crash, CrashingFiles
from tests.memory_rows import ALL, Keeper, batch, thumbnail

HOUR = 3_600_000


def sound(root: Path) -> bool:
    return not [finding for finding in verify(str(root)) if finding.is_error]


def commits(keeper: Keeper, acknowledged: list[int]) -> None:
    """Commits of one frame each, at offsets 0, 1, 2, ..., from where the memory says."""
    for offset in range(keeper.start.positions.get(0, 0), 6):
        keeper.commit(batch("cam", [offset * 1000], offset), batch("other", [offset * 1000], offset), p0=offset + 1)
        acknowledged[0] = offset + 1


def commits_and_merges(keeper: Keeper, acknowledged: list[int]) -> None:
    for offset in range(keeper.start.positions.get(0, 0), 6):
        keeper.commit(batch("cam", [offset * 1000], offset), p0=offset + 1)
        acknowledged[0] = offset + 1
        keeper.maintain()


def replayed_appends(keeper: Keeper, acknowledged: list[int]) -> None:
    """Several appends to a commit, each sent again with the next, as after a lost answer."""
    start = keeper.start.positions.get(0, 0)
    for offset in range(start, 6):
        sent = range(max(start, offset - 1), offset + 1)
        keeper.append(batch("cam", [o * 1000 for o in sent], list(sent)), p0=offset + 1)
        if offset % 2:
            keeper.commit()
            acknowledged[0] = offset + 1


@pytest.mark.parametrize("work", [commits, commits_and_merges, replayed_appends])
@pytest.mark.parametrize("after", ["crash", "all", "none", "last"])
def test_after_a_crash_at_any_step_everything_acknowledged_is_there_once(
    tmp_path: Path, work: Callable[[Keeper, list[int]], None], after: str
) -> None:
    step, finished = 0, False
    while not finished:
        step += 1
        root = tmp_path / str(step)
        files = CrashingFiles(root, crash_at=step)
        acknowledged = [0]
        try:
            work(Keeper(root, files=files, compact_files=3), acknowledged)
            finished = True
        except Crash:
            if after != "crash":
                files.power_cut(kept=after)
        if root.exists():
            assert sound(root), f"step {step}: {verify(str(root))}"

        again = Keeper(root, compact_files=3)
        position = again.start.positions.get(0, 0)
        assert position >= acknowledged[0], f"step {step}: acknowledged {acknowledged[0]}, found {position}"
        if position:
            assert again.times("cam") == [offset * 1000 for offset in range(position)], f"step {step}"
        work(again, acknowledged)
        again.commit()
        assert again.times("cam") == [offset * 1000 for offset in range(6)], f"step {step}"
        assert verify(str(root)) == [], f"step {step}: the claim has swept what the crash left"
    assert step > 30, "the crashes were meant to go through every step of the work"


@pytest.mark.parametrize("after", ["crash", "none", "last"])
def test_after_a_crash_at_any_step_of_forgetting_the_rest_is_there_and_marks_stay(tmp_path: Path, after: str) -> None:
    step, finished = 0, False
    while not finished:
        step += 1
        root = tmp_path / str(step)
        keeper = Keeper(root, retention_hours=1, compact_files=100)
        for hour in range(4):
            keeper.commit(batch("cam", [hour * HOUR], hour), p0=hour + 1)
        files = CrashingFiles(root)
        keeper = Keeper(root, files=files, retention_hours=1, compact_files=100)
        files.crash_at = files.steps + step
        try:
            keeper.maintain()
            finished = True
        except Crash:
            if after != "crash":
                files.power_cut(kept=after)
        assert sound(root), f"step {step}: {verify(str(root))}"
        again = Keeper(root, retention_hours=1, compact_files=100)
        assert again.start.feeds["cam"].frame_ms == 3 * HOUR
        assert again.times("cam") in ([0, HOUR, 2 * HOUR, 3 * HOUR], [2 * HOUR, 3 * HOUR])
        again.maintain()
        assert again.times("cam") == [2 * HOUR, 3 * HOUR]
        assert verify(str(root)) == []
    assert step > 5


def test_a_store_whose_commit_failed_half_way_takes_nothing_more(tmp_path: Path) -> None:
    class FullDisk(CrashingFiles):
        full = False

        def _link(self, source: str, target: str) -> None:
            if self.full:
                raise OSError(28, "No space left on device")
            super()._link(source, target)

    files = FullDisk(tmp_path)
    keeper = Keeper(tmp_path, files=files)
    files.full = True
    with pytest.raises(OSError, match="No space left"):
        keeper.commit(batch("cam", [1]), p0=1)
    files.full = False
    with pytest.raises(RuntimeError, match="open the memory again"):
        keeper.commit()
    assert "cam" not in Keeper(tmp_path).start.feeds


def test_rows_that_could_not_be_written_stay_buffered_and_are_committed_later(tmp_path: Path) -> None:
    class FullDisk(CrashingFiles):
        full = False

        def _create(self, path: str) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            return super()._create(path)

    files = FullDisk(tmp_path)
    keeper = Keeper(tmp_path, files=files)
    files.full = True
    with pytest.raises(OSError, match="No space left"):
        keeper.commit(batch("cam", [1]), p0=1)
    files.full = False
    keeper.append(batch("cam", [2]), p0=2)
    keeper.commit()
    assert keeper.times("cam") == [1, 2]
    assert verify(str(tmp_path)) == []


def test_a_torn_temporary_file_is_ignored_and_swept(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    keeper.commit(batch("cam", [1]), p0=1)
    directory = tmp_path / "video.chunks.v1" / "p-00000"
    torn = directory / "manifest-00000000000000000003.json.0123abcd.tmp"
    torn.write_bytes(b'{"crc32": "00')
    again = Keeper(tmp_path)
    assert again.times("cam", ALL) == [1]
    assert not torn.exists()
    assert len(os.listdir(directory)) == 3, "the last two manifests and one file of rows"


def test_thumbnails_and_tokens_survive_merging(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, compact_files=2)
    for offset in range(8):
        keeper.commit(batch("cam", [offset * 10], offset, thumbnails=offset != 3), p0=offset + 1)
        keeper.maintain()
    held = keeper.shard.window("cam", ALL)
    chosen = keeper.shard.evidence("cam", ALL, held.frame_ms, held.frame_ms.astype("float32"))
    assert chosen.thumbnails == tuple(thumbnail("cam", t) if t != 30 else b"" for t in range(0, 80, 10))
    assert chosen.tokens[:, 0, 0].tolist() == [float(t) for t in range(0, 80, 10)]
    assert held.tokens[:, 1, 2].tolist() == [float(t + 5) for t in range(0, 80, 10)]
