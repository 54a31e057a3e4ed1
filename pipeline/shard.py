"""Decides what becomes durable when: one keeper's partitions, from appended token batches to committed memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from standwatch.configs.schema import MemoryConfig
from standwatch.pipeline import clock
from standwatch.pipeline.buffering import PartitionBuffer
from standwatch.pipeline.errors import BadInput, StaleEpoch, StaleSession
from standwatch.pipeline.files import Files
from standwatch.pipeline.recall import Recall
from standwatch.pipeline.replay import Replay, active, replay_of
from standwatch.pipeline.rolling import MemoryStat, RollingMemory, holding, mark, progress, together
from standwatch.pipeline.segmentgrid import SegmentGrid
from standwatch.pipeline.store import PartitionStore
from standwatch.pipeline.types import (
    Evidence,
    FeedMark,
    Float32Array,
    Int64Array,
    Progress,
    Rewind,
    TokenBatch,
    Window,
    WindowTokens,
)

_SESSIONS = 1 << 20  # sessions of one epoch; epochs keep those of different keepers apart


class MemoryShard:
    """The memory of some partitions of a topic. Constructing it claims them: an older keeper's writes are refused.

    Not safe for threads: calls follow each other. What is read is what is durable.
    """

    def __init__(
        self,
        config: MemoryConfig,
        topic: str,
        partitions: Sequence[int],
        *,
        files: Files | None = None,
        now_ms: Callable[[], int] = clock.now_ms,
    ) -> None:
        if not topic or "/" in topic or topic.startswith("."):
            raise BadInput(f"topics.chunks: {topic!r} cannot name a directory; use letters, digits, '.', '_' and '-'")
        self._config = config
        self._topic = topic
        self._now_ms = now_ms
        self._files = files or Files(config.path)
        self._stores = {p: PartitionStore.claim(self._files, topic, p) for p in sorted(set(partitions))}
        self._buffers = {p: PartitionBuffer(store.manifest) for p, store in self._stores.items()}
        self._memories = {p: RollingMemory(store.manifest) for p, store in self._stores.items()}
        self._recall = Recall(self._files)
        self._session = max((s.manifest.epoch for s in self._stores.values()), default=0) * _SESSIONS
        self._next_seq = 0
        self._committed_ms = now_ms()
        self._turn = 0

    def rewind(self, grid: SegmentGrid | None = None) -> Rewind:
        """Commit what is buffered and start a session: its appends count from 0, those of older ones are refused.

        With `grid`, positions and marks lie so far back that the compressor, having forgotten every feed, can rebuild
        their open segments (see `replay`).
        """
        self.commit(self._now_ms())
        self._session += 1
        self._next_seq = 0
        settled = self.positions()
        feeds: dict[str, FeedMark] = {}
        for store in self._stores.values():
            for feed_id, state in store.manifest.feeds.items():
                if feed_id not in feeds or feeds[feed_id].frame_ms < state.frame_ms:
                    feeds[feed_id] = mark(store.manifest, state)
        again = self._replays(grid, feeds) if grid is not None else {}
        feeds.update({feed_id: replay.mark for feed_id, replay in again.items()})
        positions = dict(settled)
        for replay in again.values():
            at = replay.mark.at
            if at.partition in positions:  # else it is read from the beginning
                positions[at.partition] = min(positions[at.partition], at.offset)
        for partition, buffer in self._buffers.items():
            buffer.rewind(positions.get(partition))
        ends = {feed_id: replay.clip_ends for feed_id, replay in again.items()}
        return Rewind(self._session, positions, feeds, settled, ends)

    def positions(self) -> dict[int, int]:
        """Next offset to read of each partition, as durable; partitions without one are absent."""
        found = {p: store.manifest.next_offset for p, store in self._stores.items()}
        return {p: offset for p, offset in found.items() if offset is not None}

    def append(
        self, session: int, seq: int, batches: Sequence[TokenBatch], positions: Mapping[int, int]
    ) -> list[Progress]:
        """Take batches in the order of time of each feed, and how far their partitions are read with them.

        Rows and positions take effect together. Frames up to the last one a feed has are replays and dropped.
        Commits when `commit_ms` have passed or much is buffered; returns what `commit` returns, else nothing.
        Raises `StaleSession` unless it is the next append of the current session, `ValueError` for batches that
        cannot follow what is held; nothing of them is taken then.
        """
        if session != self._session or seq != self._next_seq:
            raise StaleSession(
                f"append {seq} of session {session} does not follow: append {self._next_seq} of session "
                f"{self._session} is next; rewind and send again from its positions"
            )
        ready = self._sorted_in(batches, positions)
        for partition, mine in ready.items():
            self._buffers[partition].take(mine, positions.get(partition))
        self._next_seq += 1
        now_ms = self._now_ms()
        waited = now_ms - self._committed_ms
        if not 0 <= waited < self._config.commit_ms or self._buffered() > self._config.file_bytes // 4:
            return self.commit(now_ms)
        return []

    def commit(self, now_ms: int) -> list[Progress]:
        """Make everything appended so far durable. Returns how far the feeds of the partitions that moved are."""
        self._committed_ms = now_ms
        out = []
        for partition, buffer in self._buffers.items():
            if buffer.has_news:
                store = self._stores[partition]
                store.commit(buffer.batches, buffer.next_offset, now_ms)
                buffer.committed()
                out += progress(store.manifest)
        return out

    def progress(self) -> list[Progress]:
        """How far every feed is."""
        return [one for store in self._stores.values() for one in progress(store.manifest)]

    def window(self, feed_id: str, window: Window, context_from_ms: int | None = None) -> WindowTokens:
        """The durable rows of a window, and those before it that `Recall.window` says.

        Raises `BadInput` for a feed never seen and for two token spaces in the window.
        """
        with self._reading():
            return self._recall.window(self._holding(feed_id, window), feed_id, window, context_from_ms)

    def evidence(self, feed_id: str, window: Window, frame_ms: Int64Array, scores: Float32Array) -> Evidence:
        """Some frames of a window with their thumbnails, in the order of time. Raises `BadInput` if one is not held."""
        with self._reading():
            return self._recall.evidence(self._holding(feed_id, window), feed_id, window, frame_ms, scores)

    def maintain(self, now_ms: int) -> bool:
        """One bounded step of merging or forgetting; False when no partition needs any. Call it between appends."""
        partitions = list(self._stores)
        for _ in partitions:
            partition = partitions[self._turn % len(partitions)]
            self._turn += 1
            if self._stores[partition].maintain(self._config):
                self._recall.keep_only(self._memory(partition))
                return True
        return False

    def stat(self) -> MemoryStat:
        """What is held, as durable."""
        return together([self._memory(p).stat(sorted(store.damaged)) for p, store in self._stores.items()])

    def close(self) -> None:
        """Let go of files. What is not committed is dropped, as in a crash; commit first."""
        self._recall.close()

    def _sorted_in(self, batches: Sequence[TokenBatch], positions: Mapping[int, int]) -> dict[int, list[TokenBatch]]:
        """The batches by partition, replays dropped. Changes nothing, so a bad batch leaves everything as it was."""
        by_partition: dict[int, list[TokenBatch]] = {partition: [] for partition in positions}
        for batch in batches:
            if batch.at.topic != self._topic:
                raise ValueError(f"a batch of topic {batch.at.topic!r} was appended to the memory of {self._topic!r}")
            by_partition.setdefault(batch.at.partition, []).append(batch)
        unknown = by_partition.keys() - self._buffers.keys()
        if unknown:
            raise ValueError(f"partitions {sorted(unknown)} are not kept here; this keeper has {sorted(self._buffers)}")
        return {p: self._buffers[p].fresh(mine, positions.get(p)) for p, mine in by_partition.items()}

    def _replays(self, grid: SegmentGrid, marks: Mapping[str, FeedMark]) -> dict[str, Replay]:
        """What is to be read again of each feed, on the partition where its mark is."""
        found = {}
        with self._reading():
            for partition, store in self._stores.items():
                memory = self._memory(partition)
                read = partial(self._recall.clip_rows, memory)
                for feed_id in active(store.manifest, grid):
                    last = marks[feed_id]
                    if last.at.partition != partition:
                        continue
                    replay = replay_of(memory.all_places(feed_id), read, last, grid)
                    if replay is not None:
                        found[feed_id] = replay
        return found

    def _buffered(self) -> int:
        return sum(buffer.bytes for buffer in self._buffers.values())

    def _memory(self, partition: int) -> RollingMemory:
        manifest = self._stores[partition].manifest
        if self._memories[partition].manifest is not manifest:
            self._memories[partition] = RollingMemory(manifest)
        return self._memories[partition]

    def _holding(self, feed_id: str, window: Window) -> RollingMemory:
        having = [p for p, store in self._stores.items() if feed_id in store.manifest.feeds] or list(self._stores)
        return holding([self._memory(partition) for partition in having], feed_id, window)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if any(store.is_stale for store in self._stores.values()):
                raise StaleEpoch(f"{error}; another keeper has claimed this partition, this one must stop") from None
            raise BadInput(f"{error}; its manifest names this file: restore it from a backup") from None
