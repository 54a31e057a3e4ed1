"""Decides where a spool's topics lie on disk, and keeps the writers of one partition apart.

<spool_dir>/<topic>/topic.json                            number of partitions, fixed for good
<spool_dir>/<topic>/p-00007/00000000000000000421.log      segment whose first frame has offset 421
<spool_dir>/<topic>/p-00007/lock                          held (flock) around every change to the partition
"""

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from standwatch.actors.kafka_rules import checked_topic_name
from standwatch.pipeline.errors import BadInput, Unavailable

_FORMAT = 1
_RETRY_S = 0.001


@dataclass(frozen=True, slots=True)
class SpoolTopic:
    """One topic of a spool that exists on disk."""

    name: str
    path: Path
    partitions: int

    def partition_dir(self, partition: int) -> Path:
        return self.path / f"p-{partition:05d}"


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Whatever the disk refuses (full, read-only, permission, gone) becomes `Unavailable` that names the path."""
    try:
        yield
    except OSError as error:
        if isinstance(error, Unavailable):
            raise
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise Unavailable(f"broker.spool_dir: {error.filename or path}: {reason}") from error


def find_topic(spool_dir: str, topic: str) -> SpoolTopic | None:
    """The topic as its creator fixed it; None when nobody has created it. Raises `BadInput`, `Unavailable`."""
    path = Path(spool_dir) / checked_topic_name(topic)
    declaration = path / "topic.json"
    with translated(declaration):
        try:
            text = declaration.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
    try:
        fields = json.loads(text)
        if fields["format"] != _FORMAT:
            raise BadInput(f"broker.spool_dir: {declaration}: format {fields['format']} is not {_FORMAT}, ours")
        return SpoolTopic(topic, path, int(fields["partitions"]))
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"broker.spool_dir: {declaration} is damaged ({error!r}); restore or remove the topic") from None


def open_topic(spool_dir: str, topic: str, partitions: int) -> SpoolTopic:
    """The topic, created with `partitions` unless it exists; whoever comes first decides. Safe between processes."""
    found = find_topic(spool_dir, topic)
    if found is not None:
        return found
    path = Path(spool_dir) / topic
    with translated(path):
        path.mkdir(parents=True, exist_ok=True)
        with locked(path / "lock", wait_ms=10_000):
            if not (path / "topic.json").exists():
                draft = path / "topic.json.new"
                with draft.open("w", encoding="utf-8") as file:
                    json.dump({"format": _FORMAT, "partitions": partitions}, file)
                    file.flush()
                    os.fsync(file.fileno())
                draft.rename(path / "topic.json")
                for folder in (path, path.parent, path.parent.parent):
                    sync_dir(folder)
    created = find_topic(spool_dir, topic)
    assert created is not None, "topic.json was renamed into place above"
    return created


def segment_path(folder: Path, base: int) -> Path:
    return folder / f"{base:020d}.log"


def segment_bases(folder: Path) -> list[int]:
    """First offsets of the segments that exist, ascending; empty for a partition that was never written."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(name[:-4]) for name in names if name.endswith(".log") and name[:-4].isdigit())


def sync_dir(folder: Path) -> None:
    """Make the folder's entries (files created, renamed, removed) survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def take_lock(fd: int, path: Path, wait_ms: int) -> None:
    """Lock exclusively against other open files, in this process or others. Raises `Unavailable` after `wait_ms`.

    The system releases the lock when its holder dies, so only a stopped process can hold it for long.
    """
    deadline = time.monotonic() + wait_ms / 1000
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EINTR):
                raise
        if time.monotonic() >= deadline:
            raise Unavailable(f"broker.spool_dir: {path}: another writer has held the lock for {wait_ms} ms")
        time.sleep(_RETRY_S)


@contextmanager
def locked(path: Path, wait_ms: int) -> Iterator[None]:
    """`take_lock` on a file of its own, for as long as the block runs."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        take_lock(fd, path, wait_ms)
        yield
    finally:
        os.close(fd)
