"""Decides which frames of the past a question needs: those before its window, and which of a span too long to read."""

from dataclasses import replace

import numpy as np

from standwatch.configs.schema import ReadingConfig
from standwatch.pipeline.segmentgrid import SegmentGrid
from standwatch.pipeline.types import Int64Array, Window, WindowTokens


def context_from_ms(reading: ReadingConfig, grid: SegmentGrid, window: Window) -> int:
    """From where on the memory of a window is to be fetched: its first segment's start, or its own for `passes`."""
    return grid.context_from_ms(window) if reading.method == "segments" else window.from_ms


def spread(frames: int, most: int, group: int) -> Int64Array:
    """Indices of at most `most` of `frames` frames: whole groups of `group` neighbours, evenly spread, in order.

    Neighbours stay together because the compressor mixed the frames of a clip.
    """
    if frames <= most:
        return np.arange(frames)
    groups = -(-frames // group)
    kept = max(1, most // group)
    starts = (np.arange(kept) * groups // kept) * group
    indices = (starts[:, None] + np.arange(group)).ravel()
    return indices[indices < frames][:most]


def thin(window: WindowTokens, most: int, group: int) -> WindowTokens:
    """The window with at most `most` frames; unchanged when it has no more."""
    if len(window.frame_ms) <= most:
        return window
    kept = spread(len(window.frame_ms), most, group)
    return replace(
        window,
        frame_ms=window.frame_ms[kept],
        frame_offset=window.frame_offset[kept],
        tokens=window.tokens[kept],
    )
