"""Decides where a feed is read again from, so that a compressor that has forgotten it comes to the very same state.

What a compressor keeps of a feed is its open segments, and they are made of whole clips. So the replay begins with the
clip that holds the first frame of the oldest segment that a coming frame can be read in, and clips end where they ended
before. What comes again is dropped when it is appended.

A feed that is more than one segment behind the others of its partition, by the time of its frames and by the clock, is
not read again: whatever comes of it in the order of time lies in segments of its own. Both must say so, because footage
of another day may be published beside a live feed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from standwatch.pipeline.manifest import Manifest
from standwatch.pipeline.rolling import Place
from standwatch.pipeline.segmentgrid import SegmentGrid
from standwatch.pipeline.types import FeedMark, Int64Array, UInt8Array

_LONGEST_CLIP = 256  # more rows than this need not be looked at for the beginning of one


@dataclass(frozen=True, slots=True, eq=False)
class ClipRows:
    """Rows of one feed in the order of time, without what they hold."""

    frame_ms: Int64Array  # [N]
    frame_offset: Int64Array  # [N]
    clip_frame: UInt8Array  # [N], 0 where a clip begins


@dataclass(frozen=True, slots=True)
class Replay:
    """What is to come again of one feed."""

    mark: FeedMark  # just before its first frame, and in the same chunk
    clip_ends: tuple[int, ...]


def active(manifest: Manifest, grid: SegmentGrid) -> Iterator[str]:
    """The feeds of a partition that are read again."""
    last_frame = max((state.frame_ms for state in manifest.feeds.values()), default=0)
    last_seen = max((state.seen_ms for state in manifest.feeds.values()), default=0)
    for feed_id, state in manifest.feeds.items():
        if min(last_frame - state.frame_ms, last_seen - state.seen_ms) <= grid.segment_ms:
            yield feed_id


def replay_of(
    places: Sequence[Place], read: Callable[[Place], ClipRows], last: FeedMark, grid: SegmentGrid
) -> Replay | None:
    """What to read again of a feed with that last frame; None when memory holds the beginning of no clip.

    `places` are all of the feed's, in the order of time; only those are read that are needed. A clip whose beginning
    retention has taken is left out.
    """
    since_ms = grid.replay_from_ms(last.frame_ms)
    rows = ClipRows(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint8))
    for place in reversed(places):
        if place.span.max_ms < since_ms and _clips_before(rows, since_ms):
            break
        rows = _joined(_from(read(place), since_ms), rows)
    begins = np.flatnonzero(rows.clip_frame == 0)
    if not len(begins):
        return None
    first = int(begins[max(0, _clips_before(rows, since_ms) - 1)])
    slot = grid.sampling.slot(int(rows.frame_ms[first]))  # a sampler that stands before it keeps this very frame
    at = replace(last.at, offset=int(rows.frame_offset[first]))
    ends = np.append(begins[begins > first] - 1, len(rows.frame_ms) - 1)
    return Replay(FeedMark(grid.sampling.start_ms(slot) - 1, at), tuple(rows.frame_ms[ends].tolist()))


def _clips_before(rows: ClipRows, since_ms: int) -> int:
    """How many clips begin at or before the first frame of that time or later."""
    return int(np.count_nonzero(rows.clip_frame[: np.searchsorted(rows.frame_ms, since_ms) + 1] == 0))


def _from(rows: ClipRows, since_ms: int) -> ClipRows:
    """The rows of that time and later, and those before that may be of the same clip."""
    first = max(0, int(np.searchsorted(rows.frame_ms, since_ms)) - _LONGEST_CLIP)
    return ClipRows(rows.frame_ms[first:], rows.frame_offset[first:], rows.clip_frame[first:])


def _joined(older: ClipRows, newer: ClipRows) -> ClipRows:
    return ClipRows(
        np.concatenate([older.frame_ms, newer.frame_ms]),
        np.concatenate([older.frame_offset, newer.frame_offset]),
        np.concatenate([older.clip_frame, newer.clip_frame]),
    )
