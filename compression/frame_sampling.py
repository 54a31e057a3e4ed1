"""Decides which frames of a finite video are read, and how the prompt states it (spec §1)."""

import numpy as np

GROUP = 8  # frames per scored clip; sampled counts are multiples of it


def sample_frame_indices(
    total_frames: int, video_fps: float, *, sample_fps: int, min_frames: int, max_frames: int
) -> list[int]:
    """Frame numbers to read, in time order, from a video of `total_frames` at `video_fps` (spec §1).

    Short videos repeat frames until `min_frames` are reached. Raises ValueError for counts or rates below 1 or 0.
    """
    _check_request(total_frames, video_fps, sample_fps, min_frames, max_frames)
    if total_frames < GROUP:
        indices = [i * total_frames // GROUP for i in range(GROUP)]
    else:
        indices = _segment_centres(
            total_frames, _target_count(total_frames, video_fps, sample_fps, min_frames, max_frames)
        )
    if len(indices) < min_frames:
        indices = [indices[i * len(indices) // min_frames] for i in range(min_frames)]
    return indices


def time_message(duration_s: float, frames: int) -> str:
    """The sentence of the prompt that tells how long the video lasts and how many frames were sampled (spec §1)."""
    return f"\nThe video lasts for {duration_s:.2f} seconds, and {frames} frames are uniformly sampled from it. "


def _check_request(total_frames: int, video_fps: float, sample_fps: int, min_frames: int, max_frames: int) -> None:
    counts = (
        ("total_frames", total_frames),
        ("sample_fps", sample_fps),
        ("min_frames", min_frames),
        ("max_frames", max_frames),
    )
    for name, value in counts:
        if value < 1:
            raise ValueError(f"{name}: {value} must be at least 1")
    if not (0 < video_fps < float("inf")):
        raise ValueError(f"video_fps: {video_fps} must be a finite rate above 0")


def _target_count(total_frames: int, video_fps: float, sample_fps: int, min_frames: int, max_frames: int) -> int:
    whole_groups = GROUP * (total_frames // GROUP)
    least = whole_groups if min_frames > total_frames else min_frames
    wanted = GROUP * int(sample_fps * (total_frames / video_fps) / GROUP) or GROUP
    wanted = min(wanted, max_frames)
    if wanted > total_frames:
        wanted = whole_groups
    return max(wanted, least)


def _segment_centres(total_frames: int, wanted: int) -> list[int]:
    """Middle frame of each of `wanted` equal segments; more segments than frames repeat the last one."""
    segments = min(wanted, total_frames)
    bounds = np.linspace(0, total_frames, segments + 1).astype(np.int64)
    centres: list[int] = ((bounds[:-1] + bounds[1:] - 1) // 2).tolist()
    return centres + centres[-1:] * (wanted - segments)
