"""Token batches and memories for tests: small, and each frame's tokens and thumbnail tell which frame it is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from standwatch.configs.schema import MemoryConfig
from standwatch.pipeline.files import Files
from standwatch.pipeline.memory import MemoryReader
from standwatch.pipeline.segmentgrid import SegmentGrid
from standwatch.pipeline.shard import MemoryShard
from standwatch.pipeline.types import Progress, SourceOffset, TokenBatch, Window

TOPIC = "video.chunks.v1"
ALL = Window(0, 2**60)
N, D = 2, 3


def batch(
    feed_id: str,
    frame_ms: Sequence[int],
    offset: int | Sequence[int] = 0,
    *,
    partition: int = 0,
    token_space: str = "space-1",
    thumbnails: bool = True,
    width: int = D,
    clip_frame: int = 0,
) -> TokenBatch:
    """Frames at these times, by default a whole clip. Tokens of the frame at t are t % 1000 and up; its thumbnail is
    its name.
    """
    times = np.asarray(frame_ms, dtype=np.int64)
    offsets = np.broadcast_to(np.asarray(offset, dtype=np.int64), times.shape).copy()
    tokens = (times[:, None, None] % 1000 + np.arange(N * width).reshape(1, N, width)).astype(np.float16)
    return TokenBatch(
        feed_id=feed_id,
        at=SourceOffset(TOPIC, partition, int(offsets[-1]) if len(offsets) else 0),
        frame_ms=times,
        frame_offset=offsets,
        tokens=tokens,
        thumbnails=tuple(thumbnail(feed_id, t) for t in frame_ms) if thumbnails else (),
        token_space=token_space,
        clip_frame=clip_frame,
    )


def places(root: Path, feed_id: str) -> list[int]:
    """The place of each of a feed's frames in its clip, as stored."""
    _, batches = MemoryReader(str(root)).row_batches(feed_id, ALL)
    return [place for one in batches for place in one.column("clip_frame").to_pylist()]


def thumbnail(feed_id: str, frame_ms: int) -> bytes:
    return f"jpeg of {feed_id} at {frame_ms}".encode()


class Keeper:
    """A sender and its shard: rewinds first, then counts its appends. Its clock stands still unless moved."""

    def __init__(
        self,
        root: Path,
        partitions: Sequence[int] = (0,),
        *,
        files: Files | None = None,
        commit_ms: int = 600_000,
        compact_files: int = 4,
        retention_hours: float = 24.0,
        file_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self.root = root
        self.clock_ms = 1_000_000
        config = MemoryConfig(str(root), commit_ms, retention_hours, compact_files, file_bytes)
        self.shard = MemoryShard(config, TOPIC, partitions, files=files, now_ms=lambda: self.clock_ms)
        self.rewind()

    def rewind(self, grid: SegmentGrid | None = None) -> None:
        self.start = self.shard.rewind(grid)
        self.seq = 0

    def append(self, *batches: TokenBatch, **positions: int) -> list[Progress]:
        """Append; positions are written p0=7 for partition 0."""
        seq, self.seq = self.seq, self.seq + 1
        return self.shard.append(self.start.session, seq, batches, {int(p[1:]): o for p, o in positions.items()})

    def commit(self, *batches: TokenBatch, **positions: int) -> list[Progress]:
        """Append and commit."""
        if batches or positions:
            self.append(*batches, **positions)
        return self.shard.commit(self.clock_ms)

    def maintain(self) -> int:
        """Maintain until nothing is left to do; returns the number of steps."""
        steps = 0
        while self.shard.maintain(self.clock_ms):
            steps += 1
        return steps

    def times(self, feed_id: str, window: Window = ALL) -> list[int]:
        held = self.shard.window(feed_id, window)
        return [int(t) for t in held.frame_ms]
