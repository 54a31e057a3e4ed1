"""Decides how a memory is opened for reading: by anyone, in any process, at rest or while keepers write it."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from standwatch.pipeline.errors import BadInput, Unavailable
from standwatch.pipeline.files import Files
from standwatch.pipeline.manifest import PARTITION
from standwatch.pipeline.recall import Recall
from standwatch.pipeline.rolling import FeedStat, MemoryStat, RollingMemory, holding, together
from standwatch.pipeline.rows import RecordBatch, Schema
from standwatch.pipeline.store import newest_manifest
from standwatch.pipeline.types import Evidence, Float32Array, Int64Array, Window, WindowTokens

_ATTEMPTS = 50  # a keeper that merges or forgets takes files away while we read
Found = TypeVar("Found")


def partitions_in(files: Files) -> list[tuple[str, int]]:
    """Topics and partitions that a memory has directories for. Raises `BadInput` when it is no memory at all."""
    if not files.is_directory(""):
        raise BadInput(f"memory.path: there is no directory {files.path('')!r}; name the memory.path of a run")
    found = []
    for topic in files.names(""):
        for name in files.names(topic) if files.is_directory(topic) else []:
            if match := PARTITION.fullmatch(name):
                found.append((topic, int(match[1])))
    return sorted(found)


class MemoryReader:
    """Reads all topics and partitions of a memory. Each call sees what is durable by then; nothing is written."""

    def __init__(self, path: str, *, files: Files | None = None) -> None:
        """Raises `BadInput` when there is no such directory. `path` may be any URI that `pyarrow.fs` reads."""
        self._files = files or Files(path)
        self._recall = Recall(self._files)
        self._memories: dict[tuple[str, int], RollingMemory] = {}
        partitions_in(self._files)

    def feeds(self) -> tuple[FeedStat, ...]:
        """Every feed that was ever in this memory, by name."""
        return self.stat().feeds

    def window(self, feed_id: str, window: Window, context_from_ms: int | None = None) -> WindowTokens:
        """The rows of a window, and those before it that `Recall.window` says.

        Raises `BadInput` for a feed never seen and for two token spaces in the window.
        """
        return self._read(
            lambda memories: self._recall.window(holding(memories, feed_id, window), feed_id, window, context_from_ms)
        )

    def evidence(self, feed_id: str, window: Window, frame_ms: Int64Array, scores: Float32Array) -> Evidence:
        """Some frames of a window with their thumbnails, in the order of time. Raises `BadInput` if one is not held."""
        return self._read(
            lambda memories: self._recall.evidence(
                holding(memories, feed_id, window), feed_id, window, frame_ms, scores
            )
        )

    def row_batches(self, feed_id: str, window: Window) -> tuple[Schema, list[RecordBatch]]:
        """The rows of a window as Arrow record batches, in the order of time, with their schema; nothing is copied."""
        return self._read(
            lambda memories: self._recall.row_batches(holding(memories, feed_id, window), feed_id, window)
        )

    def stat(self) -> MemoryStat:
        """What is held, of each feed and each partition."""
        return together([memory.stat() for memory in self._newest()])

    def close(self) -> None:
        """Let go of files; arrays given out stay valid."""
        self._recall.close()

    def _newest(self) -> list[RollingMemory]:
        out = []
        for topic, partition in partitions_in(self._files):
            known = self._memories.get((topic, partition))
            manifest = newest_manifest(self._files, topic, partition, known.manifest if known else None)
            if manifest is None:
                continue
            if known is None or known.manifest is not manifest:
                known = self._memories[topic, partition] = RollingMemory(manifest)
                self._recall.keep_only(known)
            out.append(known)
        return out

    def _read(self, read: Callable[[Sequence[RollingMemory]], Found]) -> Found:
        for _ in range(_ATTEMPTS):
            before = self._newest()
            try:
                return read(before)
            except FileNotFoundError as error:
                if self._newest() == before:  # not merged or forgotten since: it should be there
                    raise BadInput(f"{error}; its manifest names this file: restore it from a backup") from None
        raise Unavailable(f"{self._files.path('')}: changes faster than it can be read")
