"""Ray shell around one MemoryShard. Methods stay synchronous: Ray then runs each caller's calls in order."""

import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from standwatch.configs.schema import MemoryConfig
from standwatch.pipeline.clock import now_ms
from standwatch.pipeline.errors import StaleEpoch, StaleSession
from standwatch.pipeline.segmentgrid import SegmentGrid
from standwatch.pipeline.shard import MemoryShard
from standwatch.pipeline.types import (
    Evidence,
    Float32Array,
    Int64Array,
    Progress,
    Rewind,
    TokenBatch,
    Window,
    WindowTokens,
)

Result = TypeVar("Result")


class MemoryKeeper:
    """Holds the memory of one shard's partitions; claims them with a new epoch when it starts."""

    def __init__(self, config: MemoryConfig, topic: str, partitions: Sequence[int]) -> None:
        self._shard = MemoryShard(config, topic, partitions)

    def pid(self) -> int:
        return os.getpid()

    def rewind(self, grid: SegmentGrid | None) -> Rewind:
        return _or_end(lambda: self._shard.rewind(grid))

    def append(
        self, session: int, seq: int, batches: Sequence[TokenBatch], positions: Mapping[int, int]
    ) -> list[Progress]:
        return _or_end(lambda: self._shard.append(session, seq, batches, positions))

    def commit(self) -> list[Progress]:
        return _or_end(lambda: self._shard.commit(now_ms()))

    def maintain(self) -> None:
        _or_end(lambda: self._shard.maintain(now_ms()))

    def progress(self) -> list[Progress]:
        return self._shard.progress()

    def window(self, feed_id: str, window: Window, context_from_ms: int | None = None) -> WindowTokens:
        return self._shard.window(feed_id, window, context_from_ms)

    def evidence(self, feed_id: str, window: Window, frame_ms: Int64Array, scores: Float32Array) -> Evidence:
        return self._shard.evidence(feed_id, window, frame_ms, scores)

    def close(self) -> None:
        """Make what is buffered durable and let go of the files."""
        self._shard.commit(now_ms())
        self._shard.close()


def _or_end(work: Callable[[], Result]) -> Result:
    """Do it, or end this process: after a failed write only the disk knows what stands, and Ray starts from there."""
    try:
        return work()
    except (ValueError, StaleEpoch, StaleSession):
        raise  # the caller's to judge; nothing of it was taken
    except BaseException:  # noqa: BLE001 (whatever it is, this process must not go on)
        traceback.print_exc()
        os._exit(1)
