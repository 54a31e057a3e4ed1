"""That verify finds what is wrong and says where; and reading and exporting a memory at rest."""

import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from pyarrow import fs

from standwatch.configs.schema import MemoryConfig
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.export import export_feed
from standwatch.pipeline.files import Files
from standwatch.pipeline.manifest import decode
from standwatch.pipeline.memory import MemoryReader
from standwatch.pipeline.rows import shape_in
from standwatch.pipeline.shard import MemoryShard
from standwatch.pipeline.types import Window
from standwatch.pipeline.verify import verify
from tests.memory_rows import ALL, TOPIC, Keeper, batch, thumbnail


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two files of rows of two feeds; `queries` beside the topic, as a run has."""
    keeper = Keeper(tmp_path / "memory")
    keeper.commit(batch("a", [10, 20], [0, 1]), batch("b", [15], 1), p0=2)
    keeper.commit(batch("a", [30, 40], 2), p0=3)
    (tmp_path / "memory" / "queries").mkdir()
    (tmp_path / "memory" / "config.yaml").touch()
    return tmp_path / "memory"


def directory(root: Path) -> Path:
    return root / TOPIC / "p-00000"


def newest(root: Path) -> Path:
    return max(directory(root).glob("manifest-*"))


def rewrite(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the newest manifest, with a checksum that fits."""
    body = json.loads(newest(root).read_bytes())["body"]
    change(body)
    data = json.dumps(body).encode()
    newest(root).write_bytes(b'{"crc32": "%08x", "body": %s}\n' % (zlib.crc32(data), data))


def flip_a_bit(root: Path) -> None:
    path = max(directory(root).glob("rows-*"))
    data = bytearray(path.read_bytes())
    data[300] ^= 4
    path.write_bytes(data)


def cut_short(root: Path) -> None:
    path = max(directory(root).glob("rows-*"))
    path.write_bytes(path.read_bytes()[:-9])


def remove_rows(root: Path) -> None:
    max(directory(root).glob("rows-*")).unlink()


def swap_files(root: Path) -> None:
    rewrite(root, lambda body: body["files"].reverse())


def name_twice(root: Path) -> None:
    rewrite(root, lambda body: body["files"].append(body["files"][-1]))


def drop_a_file(root: Path) -> None:
    rewrite(root, lambda body: body["files"].pop())


def forget_a_mark(root: Path) -> None:
    rewrite(root, lambda body: body["feeds"].pop("b"))


def move_a_mark(root: Path) -> None:
    rewrite(root, lambda body: body["feeds"].update(b=[16, 1, 1, 0]))


def misname_a_feed(root: Path) -> None:
    def change(body: dict[str, Any]) -> None:
        body["files"][0]["spans"][1][0] = "a"
        body["files"][0]["spans"][0][0] = "b"

    rewrite(root, change)


def future_format(root: Path) -> None:
    rewrite(root, lambda body: body.update(format=3))


def older_format(root: Path) -> None:
    rewrite(root, lambda body: body.update(format=1))


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (flip_a_bit, "checksum does not match"),
        (cut_short, "bytes, its manifest says"),
        (remove_rows, "is missing, its manifest names it"),
        (swap_files, "are not all after those of the file before"),
        (name_twice, "are not all after those of the file before"),
        (drop_a_file, "2 rows in files, the manifest counts 4"),
        (forget_a_mark, "has rows but no mark"),
        (move_a_mark, "its mark is at 16 ms"),
        (misname_a_feed, "rows of ['a'] in its record batch"),
        (future_format, "use a newer standwatch"),
        (older_format, "set memory.path to a new directory, and use the older version to read this one"),
    ],
)
def test_verify_says_what_is_wrong_and_where(root: Path, harm: Callable[[Path], None], what: str) -> None:
    assert verify(str(root)) == []
    harm(root)
    findings = [finding for finding in verify(str(root)) if finding.is_error]
    assert [f for f in findings if what in f.what], findings
    assert all("p-00000" in f.where or f.where == f"{TOPIC}/0" for f in findings)


def test_verify_reports_orphans_and_rows_ahead_of_the_position_as_notes(root: Path) -> None:
    Keeper(root).commit(batch("a", [50], 3))
    rows = max(directory(root).glob("rows-*"))
    shutil.copy(rows, rows.with_name("rows-0000000001-0000000099.arrow"))
    (directory(root) / "stranger.txt").touch()
    findings = verify(str(root))
    assert not any(finding.is_error for finding in findings)
    assert ["of a commit" in f.what or "read again" in f.what for f in findings] == [True, True, True]


def test_a_file_of_rows_in_another_format_is_refused_with_what_to_do(root: Path) -> None:
    path = max(directory(root).glob("rows-*"))
    schema = pa.ipc.open_file(path).schema
    for found, fix in (
        ("1", "written by an older standwatch"),
        ("3", "use a newer standwatch"),
        ("", "not written by"),
    ):
        metadata = {**schema.metadata, b"standwatch.format": found.encode()}
        with pytest.raises(BadInput, match=f"^rows: .*{fix}"):
            shape_in(schema.with_metadata(metadata), "rows")


def test_a_memory_of_an_older_version_is_refused_before_anything_is_added_to_it(root: Path) -> None:
    older_format(root)
    before = sorted(path.name for path in directory(root).iterdir())
    for look in (lambda: MemoryShard(MemoryConfig(str(root)), TOPIC, [0]), lambda: MemoryReader(str(root)).feeds()):
        with pytest.raises(BadInput, match=r"older standwatch, in format 1, .* set memory\.path to a new"):
            look()
    assert sorted(path.name for path in directory(root).iterdir()) == before


def test_a_manifest_under_another_name_is_refused(root: Path) -> None:
    newest(root).rename(directory(root) / "manifest-00000000000000000009.json")
    with pytest.raises(BadInput, match="it was copied or renamed"):
        MemoryReader(str(root))._newest()


def test_a_reader_sees_each_commit_as_soon_as_it_is_durable(root: Path) -> None:
    keeper = Keeper(root)
    reader = MemoryReader(str(root))
    assert [(f.feed_id, f.frames, f.last_ms) for f in reader.feeds()] == [("a", 4, 40), ("b", 1, 15)]
    keeper.append(batch("a", [50], 3), p0=4)
    assert reader.window("a", ALL).frame_ms.tolist() == [10, 20, 30, 40]
    keeper.commit()
    assert reader.window("a", Window(20, 99)).frame_ms.tolist() == [20, 30, 40, 50]
    found = reader.evidence("a", ALL, np.array([50, 10]), np.array([1, 2], np.float32))
    assert found.thumbnails == (thumbnail("a", 10), thumbnail("a", 50))
    assert reader.stat().partitions[0].epoch == 2


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    for look in (MemoryReader, verify):
        with pytest.raises(BadInput, match=r"memory\.path: there is no directory .*nothing"):
            look(str(tmp_path / "nothing"))
    with pytest.raises(BadInput, match=r"memory\.path: 'nosuch://x' cannot be opened"):
        MemoryReader("nosuch://x")


def test_a_feed_never_seen_is_refused_with_those_that_are_known(root: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="'c' is not in memory; it holds a, b"):
        MemoryReader(str(root)).window("c", ALL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="no feed yet"):
        MemoryReader(str(tmp_path / "empty")).window("c", ALL)


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_an_export_holds_the_feeds_rows_for_other_tools(root: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"a.{suffix}"
    assert export_feed(str(root), "a", None, out) == 4
    assert export_feed(str(root), "a", Window(20, 40), out) == 2
    table = pq.read_table(out) if suffix == "parquet" else pa.ipc.open_file(out).read_all()
    assert table["frame_ms"].to_pylist() == [20, 30]
    assert table["offset"].to_pylist() == [1, 2]
    assert table["clip_frame"].to_pylist() == [1, 0]
    assert table["thumbnail"].to_pylist() == [thumbnail("a", 20), thumbnail("a", 30)]
    assert table["tokens"].to_pylist()[0] == [20, 21, 22, 23, 24, 25]
    assert table.schema.metadata[b"standwatch.token_space"] == b"space-1"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [out.name]


def test_an_export_that_cannot_be_is_refused_with_the_fix(root: Path, tmp_path: Path) -> None:
    for out, window, message in (
        ("a.csv", None, "neither .parquet nor .arrow"),
        ("no/a.parquet", None, "there is no directory"),
        ("a.parquet", Window(500, 600), "holds no rows of 'a'; in memory are 1970-01-01T00:00:00.010Z to"),
    ):
        with pytest.raises(BadInput, match=message):
            export_feed(str(root), "a", window, tmp_path / out)
    assert not list(tmp_path.glob("a.*"))


def test_a_memory_elsewhere_than_on_a_local_disk_can_be_read_and_not_written(root: Path) -> None:
    class Elsewhere(Files):
        """The same directory through a file system that is not the local one."""

        def __init__(self, path: str) -> None:
            super().__init__(path)
            self._fs, self._base, self.local = fs.SubTreeFileSystem(path, fs.LocalFileSystem()), "", False

        def path(self, name: str) -> str:
            return name

    reader = MemoryReader(str(root), files=Elsewhere(str(root)))
    assert reader.window("a", ALL).tokens[:, 0, 0].tolist() == [10, 20, 30, 40]
    with pytest.raises(BadInput, match="not a local directory"):
        MemoryShard(MemoryConfig(str(root)), TOPIC, [0], files=Elsewhere(str(root)))


def test_any_flipped_bit_of_a_manifest_is_noticed(root: Path) -> None:
    data = newest(root).read_bytes()
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(BadInput, match="damaged"):
            decode(bytes(damaged), "m")
