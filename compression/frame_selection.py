"""Decides which frames of a long video answer a question: passes over it, sums of scores, the K best (spec §9)."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from standwatch.compression.frame_sampling import GROUP
from standwatch.compression.qcomp import UNCOVERED, ScoreType

Float64Array: TypeAlias = npt.NDArray[np.float64]
Int64Array: TypeAlias = npt.NDArray[np.int64]

PASS_STRIDE = 512  # frames a pass scores validly, and by which the next one starts later
LEAST_FRAMES = 1024  # fewer are read in one go


def pass_length(score_type: ScoreType, stride: int = PASS_STRIDE) -> int:
    """Frames in one pass: the stride plus half a window of clips on either side."""
    return stride + 2 * score_type.stride * GROUP


def pass_starts(frames: int, duplicate: int, stride: int = PASS_STRIDE) -> list[int]:
    """First frame of every pass over a video of `frames`; it is gone over `duplicate` times, each time shifted."""
    if frames < 1 or duplicate < 1:
        raise ValueError(f"passes need frames and duplicate of at least 1, not {frames} and {duplicate}")
    rounds = -(-frames // stride)
    shift = GROUP // duplicate + stride // duplicate
    return [(stride * i + i // rounds * shift) % frames for i in range(duplicate * rounds)]


def pass_frames(start: int, length: int, frames: int) -> Int64Array:
    """Frame numbers of one pass, wrapping from the end of the video to its beginning: int64 [length]."""
    return (start + np.arange(length, dtype=np.int64)) % frames


def relevant_layers(layers: int) -> range:
    """The middle-to-late layers whose scores are summed: 6..23 of 28, and the same share of other depths."""
    return range(round(6 / 28 * layers), round(24 / 28 * layers))


def score_frames(
    score_pass: Callable[[Int64Array], Float64Array], frames: int, duplicate: int, score_type: ScoreType
) -> Float64Array:
    """Run every pass and add up: float64 [frames].

    `score_pass` gets the pass's frame numbers and returns clip scores [layers, clips] of the layers to be summed.
    """
    length = pass_length(score_type)
    passes = [pass_frames(start, length, frames) for start in pass_starts(frames, duplicate)]
    return sum_passes(passes, [score_pass(numbers) for numbers in passes], frames)


def sum_passes(passes: list[Int64Array], scores: list[Float64Array], frames: int) -> Float64Array:
    """Sum over layers of each frame's mean score over the passes that scored it: float64 [frames].

    ValueError if some frame was scored by no pass.
    """
    total = np.zeros((frames, scores[0].shape[0]))  # [F, layers]
    count = np.zeros_like(total)
    for numbers, pass_scores in zip(passes, scores, strict=True):
        by_frame = pass_scores.T.repeat(GROUP, axis=0)  # [frames of the pass, layers]
        valid = by_frame < UNCOVERED / 2  # false for NaN as well
        np.add.at(total, numbers, np.where(valid, by_frame, 0))
        np.add.at(count, numbers, valid)
    if not count.all():
        raise ValueError(f"frame {int((count == 0).any(1).argmax())} was scored by no pass: use a longer window")
    summed: Float64Array = (total / count).sum(1)
    return summed


def best_frames(scores: npt.NDArray[np.floating], keep: int) -> Int64Array:
    """The `keep` best-scored frames in time order; equal scores prefer the earlier frame. int64 [min(keep, F)]."""
    if keep < 1:
        raise ValueError(f"keep: {keep} must be at least 1 frame")
    order = np.argsort(-scores, kind="stable")
    return np.sort(order[:keep]).astype(np.int64)
