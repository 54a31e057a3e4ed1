"""Decides how a feed that never ends is cut into segments that the decoder can hold: the streaming mode.

The published method reads a finished video: passes of 576 frames (512 and a margin on either side), each one causal
sequence; a score depends on all frames of its pass, and one taken before the pass is complete is another score
(spec §14). A live feed has no end and no such passes. Here it is cut into segments of `segment_frames` slots of the
sampling grid (64 by default: 8 clips, the window of the published scoring), and a new one begins every half segment,
as those windows do. Each is a sequence of its own, with fresh prefix and positions. What differs, and why:

- A frame sees at most one segment before it, not the pass: state and cost of a feed stay bounded for ever.
- Segments lie on the absolute grid of slots and not where a video happens to begin. Which frames form one depends on
  their times alone, so a worker that starts again, a look back next week and another worker all find the same.
- A frame of half h is read in segment h-1, where half a segment stands before it already; segment h is being built
  for the half to come. So the open segment can be read at any moment, and is never short of context.
- The window of a question may lie anywhere. It is read in as few segments as hold it, each frame in exactly one;
  frames before the window are context of those in it and are not seen by the question.
- Scores are those of the whole visible part ("default"): the segment is the window that `segments_8_4` would cut.

States, scores and verdicts therefore are not those of the published passes; which is better for a model is a question
to its training. Both methods run on the same weights and the same memory (`reading.method`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from standwatch.compression.lpcomp import Decoder
from standwatch.compression.schedule import Schedule
from standwatch.compression.videocache import VideoCache

Int64Array: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Segment:
    """One segment of a feed: which slots its frames have, and what the decoder knows of them."""

    number: int
    slots: Int64Array  # [F], strictly increasing
    cache: VideoCache

    def up_to(self, slot: int) -> "Segment | None":
        """The segment as it was after the last frame at or before `slot`; None if there is none."""
        frames = int(np.searchsorted(self.slots, slot, side="right"))
        return Segment(self.number, self.slots[:frames], self.cache.first(frames)) if frames else None


@dataclass(frozen=True)
class OpenSegments:
    """The two segments of a feed that its next frame may belong to, older first; none before its first frame.

    `closed` is the one before them, whole: a window that ended with it may be asked about a moment later.
    """

    segments: tuple[Segment, ...] = ()
    closed: Segment | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values; bounded, whatever the feed's length."""
        return sum(segment.cache.nbytes for segment in self._held)

    @property
    def last_slot(self) -> int:
        """Of the newest frame; 0 where there is none."""
        return int(self.segments[0].slots[-1]) if self.segments else 0

    def find(self, number: int) -> Segment | None:
        return next((segment for segment in self._held if segment.number == number), None)

    @property
    def _held(self) -> tuple[Segment, ...]:
        return self.segments if self.closed is None else (self.closed, *self.segments)


@dataclass(frozen=True)
class SegmentBuilder:
    """How segments are made: `frames` slots each (even), under one prefix [P, D] and schedule."""

    decoder: Decoder
    schedule: Schedule
    prefix: Tensor
    frames: int

    @property
    def hop(self) -> int:
        return self.frames // 2

    def advance(
        self, states: Sequence[OpenSegments], videos: Sequence[Tensor], slots: Sequence[Int64Array]
    ) -> list[tuple[OpenSegments, Tensor]]:
        """Append new frames [F, n, D] of each feed, at their slots [F], to both of its open segments.

        All feeds go through as one batch. Returns each feed's state then, and the states [F, n_last, D] that the last
        layer leaves of its frames in the segment that they are read in. Raises ValueError for slots that do not follow.
        """
        for state, video, own in zip(states, videos, slots, strict=True):
            _check_slots(state, video, own)
        current = list(states)
        found: list[list[Tensor]] = [[] for _ in states]
        runs = [_halves(own, self.hop) for own in slots]  # a clip may reach into the next half
        for turn in range(max((len(own) for own in runs), default=0)):
            taking = [(feed, *own[turn]) for feed, own in enumerate(runs) if turn < len(own)]
            self._take(taking, current, videos, slots, found)
        return [(state, torch.cat(parts)) for state, parts in zip(current, found, strict=True)]

    def build(self, parts: Sequence[tuple[int, Int64Array, Tensor]]) -> list[Segment]:
        """Segments (number, slots [F], video [F, n, D]) in one go, as one batch, in storage for just these frames."""
        if not parts:
            return []
        caches = [self.decoder.empty(self.schedule, self.prefix, len(video)) for _, _, video in parts]
        filled = self.decoder.append(caches, [video for _, _, video in parts]).caches
        return [Segment(number, slots, cache) for (number, slots, _), cache in zip(parts, filled, strict=True)]

    def _take(
        self,
        taking: Sequence[tuple[int, int, int, int]],
        current: list[OpenSegments],
        videos: Sequence[Tensor],
        slots: Sequence[Int64Array],
        found: Sequence[list[Tensor]],
    ) -> None:
        """Append frames low..high-1 of half h of each feed to its segments h-1 and h."""
        segments = [
            current[feed].find(number) or self._empty(number)
            for feed, half, _, _ in taking
            for number in (half - 1, half)
        ]
        pieces = [videos[feed][low:high] for feed, _, low, high in taking for _ in range(2)]
        appended = self.decoder.append([segment.cache for segment in segments], pieces)
        for place, (feed, half, low, high) in enumerate(taking):
            older, newer = (
                replace(
                    segments[i],
                    slots=np.concatenate((segments[i].slots, slots[feed][low:high])),
                    cache=appended.caches[i],
                )
                for i in (2 * place, 2 * place + 1)
            )
            current[feed] = OpenSegments((older, newer), current[feed].find(half - 2))
            found[feed].append(appended.frames[2 * place])

    def _empty(self, number: int) -> Segment:
        return Segment(number, np.empty(0, np.int64), self.decoder.empty(self.schedule, self.prefix, self.frames))


def _halves(slots: Int64Array, hop: int) -> list[tuple[int, int, int]]:
    """Runs (half, low, high) of frames whose slots lie in one half."""
    halves = slots // hop
    bounds = [0, *(np.flatnonzero(np.diff(halves)) + 1).tolist(), len(slots)]
    return [(int(halves[low]), low, high) for low, high in pairwise(bounds)]


def _check_slots(state: OpenSegments, video: Tensor, slots: Int64Array) -> None:
    if len(slots) != len(video) or not len(slots):
        raise ValueError(f"slots: one for each frame, at least one, is needed; got {len(slots)} for {len(video)}")
    last = state.segments[0].slots[-1:] if state.segments else slots[:0]
    if (np.diff(np.concatenate((last, slots))) <= 0).any():
        raise ValueError(f"slots: must increase from frame to frame; got {slots.tolist()} after {last.tolist()}")
