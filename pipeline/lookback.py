"""Decides which frames of a long span are read when a question looks back further than one reading can hold."""

from dataclasses import replace

import numpy as np

from standwatch.pipeline.types import Int64Array, WindowTokens


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
    return indices[indices < frames]


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
