"""Decides which frames of an append are new, and holds them until they are committed."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from standwatch.pipeline.manifest import Manifest
from standwatch.pipeline.rows import Shape
from standwatch.pipeline.types import TokenBatch

_CLIP_FRAMES = 256  # what the column `clip_frame` can count


class PartitionBuffer:
    """Rows and position of one partition that are accepted but not yet durable."""

    def __init__(self, manifest: Manifest) -> None:
        self.batches: list[TokenBatch] = []
        self.next_offset = manifest.next_offset
        self.bytes = 0
        self.has_news = False
        self._told = manifest.next_offset or 0  # the last position that the sender told, or was told by `rewind`
        self._last = {feed_id: (state.frame_ms, state.offset) for feed_id, state in manifest.feeds.items()}
        self._shapes = {file.token_space: Shape.of(file) for file in manifest.files}

    def fresh(self, batches: Sequence[TokenBatch], next_offset: int | None) -> list[TokenBatch]:
        """What of these is new: frames later than the last of their feed. Changes nothing.

        Raises `ValueError` for what no correct sender sends.
        """
        if next_offset is not None and next_offset < self._told:
            raise ValueError(f"position {next_offset} is before {self._told}, which was appended earlier")
        last: dict[str, tuple[int, int]] = {}
        shapes: dict[str, Shape] = {}
        out = []
        for batch in batches:
            _check(batch)
            shape = Shape.of(batch)
            known = shapes.setdefault(shape.token_space, self._shapes.get(shape.token_space, shape))
            if known != shape:
                raise ValueError(f"{batch.feed_id!r}: tokens are {shape}, but those in memory are {known}")
            seen = last.get(batch.feed_id) or self._last.get(batch.feed_id)
            if seen is not None:
                batch = _after(batch, seen[0])
                if len(batch.frame_ms) and batch.frame_offset[0] < seen[1]:
                    raise ValueError(
                        f"{batch.feed_id!r}: frames later than all in memory come from offset {batch.frame_offset[0]}, "
                        f"before {seen[1]}, where the last one came from; was the topic made anew?"
                    )
            if len(batch.frame_ms):
                last[batch.feed_id] = int(batch.frame_ms[-1]), int(batch.frame_offset[-1])
                out.append(batch)
        return out

    def take(self, fresh: Sequence[TokenBatch], next_offset: int | None) -> None:
        """Hold what `fresh` gave, with the position that goes with it."""
        for batch in fresh:
            self._last[batch.feed_id] = int(batch.frame_ms[-1]), int(batch.frame_offset[-1])
            self._shapes[batch.token_space] = Shape.of(batch)
            self.bytes += batch.tokens.nbytes + sum(map(len, batch.thumbnails))
            self.batches.append(batch)
            self.has_news = True
        if next_offset is not None:
            self._told = next_offset
            if self.next_offset is None or next_offset > self.next_offset:  # else of records that are read again
                self.next_offset = next_offset
                self.has_news = True

    def rewind(self, position: int | None) -> None:
        """The sender goes on from this position: what lies between it and `next_offset` comes again."""
        self._told = position or 0

    def committed(self) -> None:
        """All of it is durable."""
        self.batches = []
        self.bytes = 0
        self.has_news = False


def _check(batch: TokenBatch) -> None:
    frames = len(batch.frame_ms)
    ok = (
        batch.tokens.dtype == np.float16
        and batch.tokens.ndim == 3
        and batch.tokens.size > 0
        and batch.tokens.shape[0] == frames
        and batch.frame_ms.shape == batch.frame_offset.shape == (frames,)
        and batch.frame_ms.dtype == batch.frame_offset.dtype == np.int64
        and len(batch.thumbnails) in (0, frames)
        and 0 <= batch.clip_frame <= _CLIP_FRAMES - frames
    )
    if not ok:
        raise ValueError(
            f"{batch.feed_id!r}: frame_ms {batch.frame_ms.shape}, frame_offset {batch.frame_offset.shape}, tokens "
            f"{batch.tokens.shape} {batch.tokens.dtype}, {len(batch.thumbnails)} thumbnails and clip_frame "
            f"{batch.clip_frame} do not fit together; a clip has at most {_CLIP_FRAMES} frames"
        )
    in_order = (batch.frame_ms[1:] > batch.frame_ms[:-1]) & (batch.frame_offset[1:] >= batch.frame_offset[:-1])
    if not in_order.all():
        raise ValueError(f"{batch.feed_id!r}: frames are not in strictly increasing order of time and order of offset")


def _after(batch: TokenBatch, frame_ms: int) -> TokenBatch:
    """The frames of a batch later than one."""
    if batch.frame_ms[0] > frame_ms:
        return batch
    new = int(np.searchsorted(batch.frame_ms, frame_ms, side="right"))
    return replace(
        batch,
        frame_ms=batch.frame_ms[new:],
        frame_offset=batch.frame_offset[new:],
        tokens=batch.tokens[new:],
        thumbnails=batch.thumbnails[new:],
        clip_frame=batch.clip_frame + new,
    )
