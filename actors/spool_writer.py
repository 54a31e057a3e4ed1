"""Decides how records are added to one partition of a spool: whole or not at all, by any number of processes."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from standwatch.actors.spool_frames import MAGIC, SegmentReader
from standwatch.actors.spoolfiles import segment_bases, segment_path, sync_dir, take_lock, translated
from standwatch.pipeline.errors import BadInput

log = logging.getLogger(__name__)


class PartitionWriter:
    """Appends to one partition's newest segment; the state below is what this process knows, the files are the truth.

    Every append takes the partition's lock and first catches up with what others have written since. A tail that a
    crashed writer left unfinished is cut off before anything is added behind it.
    """

    def __init__(self, folder: Path, segment_bytes: int, lock_wait_ms: int) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._lock_wait_ms = lock_wait_ms
        self._lock_fd = -1
        self._fd = -1  # newest segment, for writing; -1: not open
        self._base = 0
        self._end = 0  # position after its last whole frame, as far as this process has seen
        self._next_offset = 0
        self._unsynced = False
        self._newest_ms: dict[int, int] = {}  # base of a closed segment -> newest time in it

    def append(self, pieces: list[bytes]) -> int:
        """Write one frame; returns its offset. On an error nothing of it stays behind. Raises `Unavailable`."""
        with translated(self._folder), self._locked():
            self._catch_up()
            size = sum(len(piece) for piece in pieces)
            if self._end > len(MAGIC) and self._end + size > self._segment_bytes:
                self._start_segment(self._next_offset)
            self._unsynced = True
            try:
                self._write(pieces, self._end)
            except OSError:
                os.ftruncate(self._fd, self._end)
                raise
            self._end += size
            self._next_offset += 1
            return self._next_offset - 1

    def sync(self) -> None:
        """Return when everything appended through this writer is on disk. Raises `Unavailable`."""
        if self._unsynced:
            with translated(segment_path(self._folder, self._base)):
                os.fsync(self._fd)
            self._unsynced = False

    def drop_older_than(self, cutoff_ms: int) -> int:
        """Delete whole segments, oldest first, whose newest record is older; never the one being written."""
        with translated(self._folder):
            if len(segment_bases(self._folder)) < 2:
                return 0
        with translated(self._folder), self._locked():
            dropped = 0
            for base in segment_bases(self._folder)[:-1]:
                if self._newest(base) >= cutoff_ms:
                    break
                segment_path(self._folder, base).unlink()
                self._newest_ms.pop(base, None)
                dropped += 1
            return dropped

    def close(self) -> None:
        self.sync()
        for fd in (self._fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock_fd = -1

    @contextmanager
    def _locked(self) -> Iterator[None]:
        path = self._folder / "lock"
        if self._lock_fd < 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        take_lock(self._lock_fd, path, self._lock_wait_ms)
        try:
            yield
        finally:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def _catch_up(self) -> None:
        """Point at the end of the newest segment, whatever other writers did. Called with the lock held."""
        if self._fd >= 0 and os.fstat(self._fd).st_nlink > 0:
            self._walk_to_end()
            if self._next_offset == self._base or not segment_path(self._folder, self._next_offset).exists():
                return
        bases = segment_bases(self._folder)
        if not bases:
            self._start_segment(0)
            return
        self._open_segment(bases[-1])
        self._walk_to_end()

    def _walk_to_end(self) -> None:
        """Step over frames not seen yet, verifying them; cut off what does not end in a whole frame."""
        if self._end < len(MAGIC):
            self._check_magic()
        size = os.fstat(self._fd).st_size
        if size == self._end:
            return
        reader = SegmentReader(str(segment_path(self._folder, self._base)))
        try:
            while self._end < size:
                frame = reader.read(self._end)
                end = frame.end if frame is not None else reader.damaged_until(self._end)
                if end is None:
                    break
                self._end, self._next_offset = end, self._next_offset + 1
        finally:
            reader.close()
        if self._end < size:
            log.warning(
                "%s: cut off %d bytes of a record that a crashed writer left unfinished at offset %d",
                segment_path(self._folder, self._base),
                size - self._end,
                self._next_offset,
            )
            os.ftruncate(self._fd, self._end)

    def _check_magic(self) -> None:
        """Write the magic that a crashed writer did not come to; refuse a file that says it is something else."""
        magic = os.pread(self._fd, len(MAGIC), 0)
        if magic != MAGIC:
            if len(magic) == len(MAGIC) and any(magic):
                raise BadInput(
                    f"broker.spool_dir: {segment_path(self._folder, self._base)} is not a segment of this version; "
                    "use another spool directory"
                )
            self._write([MAGIC], 0)
        self._end = len(MAGIC)

    def _start_segment(self, base: int) -> None:
        self._open_segment(base)
        self._write([MAGIC], 0)
        self._end = len(MAGIC)

    def _open_segment(self, base: int) -> None:
        """Make `base` the segment to write to; its entry in the folder is durable before anything is put into it."""
        if self._fd >= 0:
            self.sync()
            os.close(self._fd)
            self._fd = -1
        self._fd = os.open(segment_path(self._folder, base), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._base, self._next_offset, self._end = base, base, 0
        for folder in (self._folder, self._folder.parent):
            sync_dir(folder)

    def _write(self, pieces: list[bytes], at: int) -> None:
        left = [memoryview(piece) for piece in pieces if piece]
        while left:
            done = os.pwritev(self._fd, left, at)
            at += done
            while left and done >= len(left[0]):
                done -= len(left.pop(0))
            if left:
                left[0] = left[0][done:]

    def _newest(self, base: int) -> int:
        """Newest time in a segment that nobody writes to any more; read once, by its frames' heads."""
        if base not in self._newest_ms:
            reader = SegmentReader(str(segment_path(self._folder, base)))
            try:
                self._newest_ms[base] = reader.newest_ms()
            finally:
                reader.close()
        return self._newest_ms[base]
