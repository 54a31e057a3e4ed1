"""Decides where the rows of a feed's window lie."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.manifest import FeedState, Manifest, RowFile, Span
from standwatch.pipeline.types import FeedMark, Progress, SourceOffset, Window


@dataclass(frozen=True, slots=True)
class Place:
    """A feed's rows in one file."""

    file: RowFile
    span: Span


@dataclass(frozen=True, slots=True)
class FeedStat:
    """What is held of one feed. Times are None when retention has taken every row."""

    feed_id: str
    topic: str
    partition: int
    frames: int
    bytes: int  # its share, by rows, of the files it is in
    first_ms: int | None
    last_ms: int | None
    token_space: str  # of its newest rows; empty when there are none


@dataclass(frozen=True, slots=True)
class PartitionStat:
    """What one partition's memory is made of. `damaged` names files that upkeep found changed since written."""

    topic: str
    partition: int
    files: int
    bytes: int
    next_offset: int | None
    epoch: int
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MemoryStat:
    """A memory at one moment; feeds by name, partitions by topic and number."""

    feeds: tuple[FeedStat, ...]
    partitions: tuple[PartitionStat, ...]


class RollingMemory:
    """The durable memory of one partition as of one manifest: for each feed its rows' places, in the order of time."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self._places: dict[str, list[Place]] = {feed_id: [] for feed_id in manifest.feeds}
        for file in manifest.files:
            for span in file.spans:
                self._places[span.feed_id].append(Place(file, span))

    def __contains__(self, feed_id: str) -> bool:
        return feed_id in self._places

    def places(self, feed_id: str, window: Window) -> Sequence[Place]:
        """Where rows of the window may be, in the order of time; nothing else need be opened."""
        places = self._places.get(feed_id, [])
        first = bisect_left(places, window.from_ms, key=lambda place: place.span.max_ms)
        end = bisect_left(places, window.to_ms, key=lambda place: place.span.min_ms)
        return places[first:end]

    def all_places(self, feed_id: str) -> Sequence[Place]:
        """Where all rows of a feed are, in the order of time."""
        return self._places.get(feed_id, [])

    def feed_stat(self, feed_id: str) -> FeedStat:
        places = self._places[feed_id]
        size = 0.0
        for place in places:
            size += place.file.bytes * place.span.rows / sum(span.rows for span in place.file.spans)
        return FeedStat(
            feed_id=feed_id,
            topic=self.manifest.topic,
            partition=self.manifest.partition,
            frames=self.manifest.feeds[feed_id].frames,
            bytes=round(size),
            first_ms=places[0].span.min_ms if places else None,
            last_ms=places[-1].span.max_ms if places else None,
            token_space=places[-1].file.token_space if places else "",
        )

    def stat(self, damaged: Sequence[str] = ()) -> MemoryStat:
        files = self.manifest.files
        partition = PartitionStat(
            topic=self.manifest.topic,
            partition=self.manifest.partition,
            files=len(files),
            bytes=sum(file.bytes for file in files),
            next_offset=self.manifest.next_offset,
            epoch=self.manifest.epoch,
            damaged=tuple(sorted(damaged)),
        )
        return MemoryStat(tuple(self.feed_stat(feed_id) for feed_id in self._places), (partition,))


def progress(manifest: Manifest) -> list[Progress]:
    """How far each feed of a partition is, by name."""
    return [
        Progress(
            feed_id=feed_id,
            watermark_ms=state.frame_ms,
            at=SourceOffset(manifest.topic, manifest.partition, state.offset),
            durable_offset=manifest.next_offset or 0,
            frames=state.frames,
        )
        for feed_id, state in sorted(manifest.feeds.items())
    ]


def mark(manifest: Manifest, state: FeedState) -> FeedMark:
    return FeedMark(state.frame_ms, SourceOffset(manifest.topic, manifest.partition, state.offset))


def holding(memories: Sequence[RollingMemory], feed_id: str, window: Window) -> RollingMemory:
    """The memory to read a feed's window from. Raises `BadInput` for a feed never seen.

    A feed is on one partition unless their number was changed; then the newest that has rows of the window is read.
    """
    found = [memory for memory in memories if feed_id in memory]
    if not found:
        known = sorted({feed for memory in memories for feed in memory.manifest.feeds})
        names = ", ".join(known[:10]) + (f" and {len(known) - 10} more" if len(known) > 10 else "")
        raise BadInput(f"feed: {feed_id!r} is not in memory; it holds {names or 'no feed yet'}")
    return max(found, key=lambda m: (bool(m.places(feed_id, window)), m.manifest.feeds[feed_id].frame_ms))


def together(stats: Sequence[MemoryStat]) -> MemoryStat:
    """Several partitions as one memory."""
    return MemoryStat(
        tuple(sorted((feed for stat in stats for feed in stat.feeds), key=lambda f: (f.feed_id, f.topic, f.partition))),
        tuple(sorted((p for stat in stats for p in stat.partitions), key=lambda p: (p.topic, p.partition))),
    )
