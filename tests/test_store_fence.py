"""One writer per partition: whoever claims last writes, whoever held it before is refused."""

import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from standwatch.pipeline.errors import BadInput, StaleEpoch, StaleSession
from standwatch.pipeline.files import Files
from standwatch.pipeline.verify import verify
from tests.memory_rows import ALL, Keeper, batch


def test_the_older_keeper_is_refused_while_it_still_lives(tmp_path: Path) -> None:
    old = Keeper(tmp_path)
    old.commit(batch("cam", [1]), p0=1)
    new = Keeper(tmp_path)
    with pytest.raises(StaleEpoch, match="another keeper has claimed"):
        old.commit(batch("cam", [2]), p0=2)
    new.commit(batch("cam", [3]), p0=3)
    assert new.times("cam") == [1, 3]
    Keeper(tmp_path)
    assert verify(str(tmp_path)) == []


def test_whatever_the_older_keeper_is_asked_next_is_refused_for_the_same_reason(tmp_path: Path) -> None:
    """Calls are sent ahead: one that was answered otherwise would hide why the first was refused."""
    old = Keeper(tmp_path)
    old.commit(batch("cam", [1]), p0=1)
    new = Keeper(tmp_path)
    for _ in range(3):
        with pytest.raises(StaleEpoch, match="another keeper has claimed"):
            old.commit(batch("cam", [2]), p0=2)
        with pytest.raises(StaleEpoch, match="another keeper has claimed"):
            old.maintain()
    assert new.times("cam") == [1]


def test_a_keeper_that_slept_until_its_number_was_used_and_swept_is_refused(tmp_path: Path) -> None:
    old = Keeper(tmp_path)
    old.commit(batch("cam", [1]), p0=1)
    new = Keeper(tmp_path)
    for offset in range(1, 8):
        new.commit(batch("cam", [offset * 10], offset), p0=offset + 1)
    with pytest.raises(StaleEpoch):
        old.commit(batch("cam", [5], 1), p0=2)
    assert new.times("cam") == [1, 10, 20, 30, 40, 50, 60, 70]
    new.commit(batch("cam", [80], 8), p0=9)
    assert Keeper(tmp_path).times("cam") == [1, 10, 20, 30, 40, 50, 60, 70, 80]


def test_the_older_keepers_merging_and_forgetting_are_refused_too(tmp_path: Path) -> None:
    old = Keeper(tmp_path, compact_files=2)
    old.commit(batch("cam", [1]), p0=1)
    old.commit(batch("cam", [2]), p0=2)
    new = Keeper(tmp_path, compact_files=2)
    with pytest.raises(StaleEpoch):
        old.maintain()
    assert new.times("cam") == [1, 2]
    new.maintain()
    assert new.times("cam") == [1, 2]
    assert [f for f in verify(str(tmp_path)) if f.is_error] == []


def test_a_claim_that_is_overtaken_before_its_sweep_leaves_the_later_ones_rows_alone(tmp_path: Path) -> None:
    class Overtaken(Files):
        """Another keeper claims and commits between this one's claim and the listing of what is to be swept."""

        later: Keeper | None = None
        listings = 0

        def names(self, directory: str) -> list[str]:
            self.listings += 1
            if self.listings == 3:  # the first is to find the newest manifest, the second to see that the claim stands
                self.later = Keeper(tmp_path)
                self.later.commit(batch("cam", [0]), p0=1)
            return super().names(directory)

    Keeper(tmp_path)
    files = Overtaken(str(tmp_path))
    with pytest.raises(StaleEpoch):
        Keeper(tmp_path, files=files).commit(p0=9)
    assert files.later is not None
    assert files.later.times("cam") == [0]
    assert Keeper(tmp_path).times("cam") == [0]


def test_an_older_keeper_reads_on_until_rows_are_taken_away_and_then_knows_why(tmp_path: Path) -> None:
    old = Keeper(tmp_path, compact_files=2)
    old.commit(batch("cam", [1]), p0=1)
    old.commit(batch("cam", [2]), p0=2)
    new = Keeper(tmp_path, compact_files=2)
    assert old.times("cam") == [1, 2]
    old.shard.close()
    new.maintain()
    with pytest.raises(StaleEpoch, match="another keeper"):
        old.shard.window("cam", ALL)


def test_sessions_of_different_keepers_never_meet(tmp_path: Path) -> None:
    old = Keeper(tmp_path, partitions=(0, 1))
    new = Keeper(tmp_path, partitions=(0, 1))
    assert new.start.session > old.start.session
    with pytest.raises(StaleSession):
        new.shard.append(old.start.session, 0, [batch("cam", [1])], {0: 1})


def test_rows_without_a_manifest_are_never_deleted(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    keeper.commit(batch("cam", [1]), p0=1)
    directory = tmp_path / "video.chunks.v1" / "p-00000"
    for manifest in directory.glob("manifest-*"):
        manifest.unlink()
    with pytest.raises(BadInput, match="holds rows but no manifest"):
        Keeper(tmp_path)
    assert len(list(directory.glob("rows-*"))) == 1


@pytest.mark.parametrize("at", [0, 12, 30, 200, -2])
def test_a_flipped_bit_in_the_newest_manifest_is_refused_by_name_and_nothing_deleted(tmp_path: Path, at: int) -> None:
    keeper = Keeper(tmp_path)
    keeper.commit(batch("cam", [1]), p0=1)
    directory = tmp_path / "video.chunks.v1" / "p-00000"
    newest = max(directory.glob("manifest-*"))
    data = bytearray(newest.read_bytes())
    data[at] ^= 1
    newest.write_bytes(data)
    before = sorted(os.listdir(directory))
    with pytest.raises(BadInput, match=f"{newest.name}: damaged"):
        Keeper(tmp_path)
    assert sorted(os.listdir(directory)) == before
    assert [newest.name in f.what for f in verify(str(tmp_path)) if f.is_error] == [True]


def _keep(root: Path, pipe: Connection) -> None:
    """A keeper in its own process: commits one frame each time it is told to, and says how that went."""
    keeper = Keeper(root)
    pipe.send("claimed")
    while (at := pipe.recv()) is not None:
        try:
            keeper.commit(batch("cam", [at], at), p0=at + 1)
            pipe.send("stored")
        except StaleEpoch:
            pipe.send("stale")


def test_of_two_processes_the_one_that_claimed_last_writes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(2):
        here, there = context.Pipe()
        process = context.Process(target=_keep, args=(tmp_path, there), daemon=True)
        process.start()
        pipes.append(here)
        processes.append(process)
        assert here.poll(60) and here.recv() == "claimed"
    said = []
    for pipe, at in ((pipes[1], 1), (pipes[0], 2), (pipes[1], 3), (pipes[1], 4), (pipes[1], 5)):
        pipe.send(at)
        assert pipe.poll(60)
        said.append(pipe.recv())
    assert said == ["stored", "stale", "stored", "stored", "stored"]
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(None)
        process.join(60)
    assert Keeper(tmp_path).times("cam") == [1, 3, 4, 5]
    assert verify(str(tmp_path)) == []
