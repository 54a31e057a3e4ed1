"""Decides how bytes reach the disk: the few file operations the memory is built on, and what makes them durable.

Everything goes through `pyarrow.fs`, so reading works on any of its file systems. Writing needs three promises that
`pyarrow.fs` does not give, and only `Files` knows how a local disk gives them:

- a written file is on the disk when `written` has closed it             (fsync of the file)
- names made or removed in a directory are on the disk after `sync`       (fsync of the directory)
- of all who put the same name at once, exactly one is told it succeeded  (link(2), which never replaces)

An object store gives the first two with every PUT; the third is its conditional put (S3 and GCS: `If-None-Match: *`,
Azure: `If-None-Match` on Put Blob). `Files` for one overrides `written`, `put_if_absent`, `sync` and `make_directory`.
"""

import os
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pyarrow import fs  # type: ignore[import-untyped]

from standwatch.pipeline.errors import BadInput

Mapped = Any  # pyarrow.NativeFile: pyarrow carries no types


class NewFile:
    """A file being written; knows the length and checksum of what went in."""

    closed = False  # pyarrow asks before it writes

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.bytes = 0
        self.crc32 = 0

    def write(self, data: Any) -> int:
        """Write all of a buffer."""
        view = memoryview(data)
        self.crc32 = zlib.crc32(view, self.crc32)
        self.bytes += len(view)
        written = os.write(self.descriptor, view)
        while written < len(view):
            written += os.write(self.descriptor, view[written:])
        return written

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        pass

    def close(self) -> None:
        """Only `Files.written` closes."""


class Files:
    """Files below one root, named by paths relative to it. Local unless the root is a URI such as `s3://bucket/memory`."""

    def __init__(self, root: str) -> None:
        self.root = root
        if "://" in root:
            try:
                self._fs, self._base = fs.FileSystem.from_uri(root)
            except (ValueError, OSError) as error:
                raise BadInput(f"memory.path: {root!r} cannot be opened ({error})") from None
        else:
            self._fs, self._base = fs.LocalFileSystem(), os.path.abspath(root)
        self.local = isinstance(self._fs, fs.LocalFileSystem)

    def path(self, name: str) -> str:
        """The full path of a file, for messages and for the file system."""
        return f"{self._base}/{name}" if name else str(self._base)

    # Reading

    def names(self, directory: str) -> list[str]:
        """What a directory holds, in no order; empty when there is none."""
        if self.local:  # pyarrow asks for the size and age of every file; only names are needed
            try:
                return os.listdir(self.path(directory))
            except FileNotFoundError:
                return []
        selector = fs.FileSelector(self.path(directory), allow_not_found=True)
        return [info.base_name for info in self._fs.get_file_info(selector)]

    def size(self, name: str) -> int | None:
        """Length in bytes; None when there is no such file."""
        if self.local:
            try:
                return os.stat(self.path(name)).st_size
            except FileNotFoundError:
                return None
        info = self._fs.get_file_info(self.path(name))
        return int(info.size) if info.type == fs.FileType.File else None

    def is_directory(self, name: str) -> bool:
        return bool(self._fs.get_file_info(self.path(name)).type == fs.FileType.Directory)

    def read(self, name: str) -> bytes:
        """A whole small file. Raises `FileNotFoundError`."""
        with self._fs.open_input_stream(self.path(name)) as stream:
            return bytes(stream.read())

    def open(self, name: str) -> Mapped:
        """A file for random access, memory-mapped where it is local. Raises `FileNotFoundError`."""
        from pyarrow import memory_map

        return memory_map(self.path(name)) if self.local else self._fs.open_input_file(self.path(name))

    def checksum(self, name: str) -> tuple[int, int]:
        """Length and CRC-32 of a file, read in pieces. Raises `FileNotFoundError`."""
        length, crc = 0, 0
        with self._fs.open_input_stream(self.path(name)) as stream:
            while data := stream.read(1 << 20):
                length += len(data)
                crc = zlib.crc32(data, crc)
        return length, crc

    # Writing

    def make_directory(self, name: str) -> None:
        """Make a directory and those above it, durably; done already is fine."""
        missing = []
        path = self.path(name)
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for path in reversed(missing):
            os.makedirs(path, exist_ok=True)
            self._sync(os.path.dirname(path))

    @contextmanager
    def written(self, name: str) -> Iterator[NewFile]:
        """A new file, whole on the disk when the block ends. Its name is safe only after `sync` of its directory."""
        descriptor = self._create(self.path(name))
        try:
            yield NewFile(descriptor)
            self._flush(descriptor)
        finally:
            os.close(descriptor)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Make a file appear whole under its name; False, and nothing changed, when the name is taken."""
        temporary = f"{name}.{uuid.uuid4().hex}.tmp"
        with self.written(temporary) as file:
            file.write(data)
        try:
            self._link(self.path(temporary), self.path(name))
        except FileExistsError:
            return False
        except FileNotFoundError:  # a keeper that has just claimed sweeps such files away: it was faster
            if self.size(name) is None:
                raise
            return False
        finally:
            self.remove(temporary)
        self.sync(os.path.dirname(name))
        return True

    def remove(self, name: str) -> None:
        """Remove a file; gone already is fine. Not durable: a removed name may come back with a crash."""
        with suppress(FileNotFoundError):
            self._unlink(self.path(name))

    def sync(self, directory: str) -> None:
        """The names in a directory are on the disk."""
        self._sync(self.path(directory))

    # Steps. Tests override these to pull the plug between any two of them.

    def _create(self, path: str) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def _flush(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def _link(self, source: str, target: str) -> None:
        os.link(source, target)

    def _unlink(self, path: str) -> None:
        os.unlink(path)

    def _sync(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
