"""Decides what becomes of records: which are refused, which frames are new, which clips go on, what is wholly done."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from standwatch.configs.schema import DecodeConfig, FlowConfig
from standwatch.pipeline.clock import rfc3339
from standwatch.pipeline.codec import read_chunk
from standwatch.pipeline.decode import Decoded, Outcome, Refused
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.sampling import ClipAssembler, SampledFrame, SampleGrid, Sampler
from standwatch.pipeline.thumbnails import thumbnail
from standwatch.pipeline.types import Chunk, Clip, DeadLetter, FeedMark, Record, Rewind, SourceOffset

_AHEAD_MS = 7 * 24 * 3_600_000  # how far a feed may run ahead of the clock, as when a long film is published fast


class InFlight:
    """Bounds the clips that one shard has accepted but not finished; the only source of backpressure."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0

    @property
    def count(self) -> int:
        return self._count

    def has_room(self, clips: int) -> bool:
        """Whether so many more may be admitted; a batch above the limit itself goes alone."""
        return self._count == 0 or self._count + clips <= self._limit

    def admit(self, clips: int) -> None:
        assert self.has_room(clips), "caller must wait before admitting"
        self._count += clips

    def finish(self, clips: int) -> None:
        assert clips <= self._count, "finished more than was admitted"
        self._count -= clips


class Decoder(Protocol):
    """Chunks to pictures; `ChunkDecoder` is the one that runs ffmpeg."""

    def decode(self, feeds: Sequence[Sequence[Chunk]]) -> list[list[Outcome]]: ...


@dataclass(frozen=True, slots=True)
class Intake:
    """What came of some records. Clips of one feed are in the order of time.

    `positions`: for each partition read so far the offset before which every record is wholly in clips returned
    (this Intake's included), dead-lettered, or held nothing new.
    """

    clips: tuple[Clip, ...]
    positions: Mapping[int, int]
    dead: tuple[DeadLetter, ...]
    frames_dropped: Mapping[str, int]  # by reason: "replayed", "late"


@dataclass(slots=True)
class _Feed:
    """State of one feed; only `IngestFlow` touches it."""

    sampler: Sampler
    assembler: ClipAssembler
    mark: FeedMark | None
    seen_ms: int = 0  # wall clock of its last record


@dataclass(slots=True)
class _Gathered:
    clips: list[Clip] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


class IngestFlow:
    """Records of one topic in, clips out. State: a sampler and an assembler per feed, the next offset per partition.

    After `rewind` the frames that come are those after each feed's mark, and their grouping into clips is that of
    a flow that was never interrupted (short clips flushed for silence aside). Clips that memory has come again as they
    were, those too.
    """

    def __init__(
        self, topic: str, decode: DecodeConfig, flow: FlowConfig, frames_per_clip: int, decoder: Decoder
    ) -> None:
        self._topic = topic
        self._decode_config, self._flow_config = decode, flow
        self._frames_per_clip = frames_per_clip
        self._decoder = decoder
        self._grid = SampleGrid(decode.sample_fps)
        self._feeds: dict[str, _Feed] = {}
        self._marks: dict[str, FeedMark] = {}
        self._clip_ends: dict[str, tuple[int, ...]] = {}
        self._settled: dict[int, int] = {}
        self._next: dict[int, int] = {}

    def rewind(self, state: Rewind) -> None:
        """Forget everything and go on from `state`; the next records are those at its positions."""
        self._feeds.clear()
        self._marks = dict(state.feeds)
        self._clip_ends = dict(state.clip_ends)
        self._settled = dict(state.settled)
        self._next = {}

    def take(self, records: Sequence[Record], now_ms: int) -> Intake:
        """Take records, in order within each partition. All feeds are decoded before this returns."""
        gathered = _Gathered()
        chunks: list[tuple[Record, Chunk]] = []
        for record in records:
            assert record.at.topic == self._topic, "a flow reads one topic"
            try:
                chunks.append((record, read_chunk(record, self._decode_config.max_chunk_ms, now_ms + _AHEAD_MS)))
            except BadInput as error:
                self._refuse(record, str(error), gathered)
            self._next[record.at.partition] = record.at.offset + 1
        # In record order, so that no feed's clips wait behind all those of another.
        for (record, chunk), outcome in zip(chunks, self._decoded([chunk for _, chunk in chunks]), strict=True):
            self._take_chunk(record, chunk, outcome, now_ms, gathered)
        return self._intake(gathered)

    def flush(self, now_ms: int, everything: bool = False) -> Intake:
        """Short clips of the feeds that have been silent for `flush_partial_clip_ms`, or of all feeds.

        A clip that is to come again as it was waits for its end however long that takes.
        """
        gathered = _Gathered()
        for feed in self._feeds.values():
            silent = now_ms - feed.seen_ms >= self._flow_config.flush_partial_clip_ms
            if everything or (silent and not feed.assembler.replaying):
                gathered.clips.extend(feed.assembler.flush())
        return self._intake(gathered)

    def _decoded(self, chunks: Sequence[Chunk]) -> list[Outcome]:
        """Outcomes in the order of the chunks; the decoder is given them by feed."""
        places: dict[str, list[int]] = {}
        for place, chunk in enumerate(chunks):
            places.setdefault(chunk.feed_id, []).append(place)
        by_feed = self._decoder.decode([[chunks[place] for place in feed] for feed in places.values()])
        found = {
            place: outcome
            for feed, outcomes in zip(places.values(), by_feed, strict=True)
            for place, outcome in zip(feed, outcomes, strict=True)
        }
        return [found[place] for place in range(len(chunks))]

    def _take_chunk(self, record: Record, chunk: Chunk, outcome: Outcome, now_ms: int, gathered: _Gathered) -> None:
        feed = self._feed(chunk.feed_id)
        feed.seen_ms = now_ms
        replayed = feed.mark is not None and _not_after(chunk.at, feed.mark.at)
        last_ms = feed.sampler.last_ms
        if not replayed and last_ms is not None and chunk.start_ms + chunk.duration_ms <= last_ms:
            self._refuse(record, _backwards(chunk, last_ms), gathered)
        elif isinstance(outcome, Refused):
            self._refuse(record, outcome.reason, gathered)
        else:
            old = "replayed" if replayed or self._is_settled(record.at) else "late"
            self._take_frames(chunk, outcome, feed, old, gathered)

    def _refuse(self, record: Record, reason: str, gathered: _Gathered) -> None:
        if not self._is_settled(record.at):  # else it is among the dead letters already
            gathered.dead.append(DeadLetter(record, reason))

    def _is_settled(self, at: SourceOffset) -> bool:
        return at.offset < self._settled.get(at.partition, 0)

    def _take_frames(self, chunk: Chunk, decoded: Decoded, feed: _Feed, old: str, gathered: _Gathered) -> None:
        for frame_ms, pixels in zip(decoded.frame_ms.tolist(), decoded.frames, strict=True):
            if feed.sampler.last_ms is not None and frame_ms <= feed.sampler.last_ms:
                gathered.dropped[old] += 1
            elif feed.sampler.keep(frame_ms):
                gathered.clips.extend(feed.assembler.add(SampledFrame(frame_ms, chunk.at, pixels)))

    def _feed(self, feed_id: str) -> _Feed:
        feed = self._feeds.get(feed_id)
        if feed is None:
            mark = self._marks.get(feed_id)
            sampler = Sampler(self._grid, mark.frame_ms if mark else None)
            ends = self._clip_ends.pop(feed_id, ())
            assembler = ClipAssembler(feed_id, self._frames_per_clip, self._flow_config.max_gap_ms, ends)
            feed = self._feeds[feed_id] = _Feed(sampler, assembler, mark)
        return feed

    def _intake(self, gathered: _Gathered) -> Intake:
        positions = dict(self._next)
        for feed in self._feeds.values():
            oldest = feed.assembler.oldest
            if oldest is not None:
                positions[oldest.partition] = min(positions[oldest.partition], oldest.offset)
        clips = tuple(self._with_thumbnails(clip) for clip in gathered.clips)
        return Intake(clips, positions, tuple(gathered.dead), dict(gathered.dropped))

    def _with_thumbnails(self, clip: Clip) -> Clip:
        side_px, quality = self._decode_config.thumbnail_side_px, self._decode_config.thumbnail_quality
        if side_px == 0:
            return clip
        return replace(clip, thumbnails=tuple(thumbnail(pixels, side_px, quality) for pixels in clip.frames))


def _not_after(at: SourceOffset, mark: SourceOffset) -> bool:
    return (at.topic, at.partition) == (mark.topic, mark.partition) and at.offset <= mark.offset


def _backwards(chunk: Chunk, last_ms: int) -> str:
    return (
        f"ce_time: clock went backwards: the chunk ends at {rfc3339(chunk.start_ms + chunk.duration_ms)}, but feed "
        f"{chunk.feed_id!r} is already at {rfc3339(last_ms)}; give each chunk a later time than the one before"
    )
