"""Decides how clips of many feeds become memory tokens: the pure step of DESIGN §2.6."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from standwatch.compression.preprocess import UInt8Array, preprocess
from standwatch.compression.segments import Int64Array, OpenSegments, SegmentBuilder
from standwatch.compression.xcomp import XComp

Float16Array: TypeAlias = npt.NDArray[np.float16]

# Clips run through the vision tower together. On CPU one clip fills the vector units and more only spill the caches
# (float32: 1 to 2 is best, bfloat16: 2 to 4).
CPU_BATCH = 2
GPU_BATCH = 32


@dataclass(frozen=True, eq=False)
class FeedClip:
    """Frames uint8 [T, H, W, 3] of one feed, T in 1..frames_per_clip, and their slots [T] on the sampling grid."""

    frames: UInt8Array
    slots: Int64Array


class Compressor:
    """Clips in, tokens out. Holds weights but no feed's state, so one instance serves every feed.

    A feed's state is its open segments: all that its compression and its questions depend on besides the next clip,
    bounded, and rebuilt by replay. With `segments`, every clip is appended to them: questions find them ready, and
    where memory holds one token per frame it is their result. Without, states stay empty, and memory must hold the
    projector's tokens.
    """

    def __init__(self, model: XComp, segments: SegmentBuilder | None) -> None:
        if segments is None and model.reads_one_token:
            raise ValueError("frame_tokens: 1 token per frame is made in segments; use the method 'segments'")
        self._model = model
        self._segments = segments
        self._frames_per_clip = model.config.vision.frames_per_clip

    def start(self) -> OpenSegments:
        """The state of a feed before its first clip."""
        return OpenSegments()

    def step(self, state: OpenSegments, clip: FeedClip) -> tuple[OpenSegments, Float16Array]:
        """Compress one clip to float16 [T, n, D], n being the model's `frame_tokens`.

        Raises ValueError for frames that are not a clip, and for slots that do not come after the last ones. A clip
        of fewer frames has tokens of its own kind: frames are not interchangeable between clips.
        """
        return self.step_batch([state], [clip])[0]

    def step_batch(
        self, states: Sequence[OpenSegments], clips: Sequence[FeedClip]
    ) -> list[tuple[OpenSegments, Float16Array]]:
        """`step` for one clip each of many feeds, in their order. Lengths and source sizes may differ between clips.

        All or nothing: after an error the states are as good as before.
        """
        if len(states) != len(clips):
            raise ValueError(f"states and clips must pair up, got {len(states)} and {len(clips)}")
        for clip in clips:
            self._check(clip.frames)
        projected: dict[int, Tensor] = {}
        for members in _groups([len(clip.frames) for clip in clips], self._batch_size()):
            projected.update(zip(members, self._project([clips[i].frames for i in members]), strict=True))
        tokens = [projected[i] for i in range(len(clips))]
        opened = list(states)
        if self._segments is not None and clips:
            opened, tokens = self._append(opened, tokens, [clip.slots for clip in clips])
        return [(segments, made.cpu().numpy()) for segments, made in zip(opened, tokens, strict=True)]

    @torch.inference_mode()
    def _project(self, clips: list[UInt8Array]) -> Tensor:
        """Clips of equal length -> projector tokens float16 [B, T, n, D]."""
        pixels = preprocess([frame for clip in clips for frame in clip], self._model.config.vision.image_px)
        weight = self._model.decoder.embed_tokens.weight  # names the device and precision of all
        batch = torch.unflatten(pixels.to(weight), 0, (len(clips), -1))  # [B, T, 3, S, S]
        return self._model.compress(batch).to(torch.float16)

    @torch.inference_mode()
    def _append(
        self, opened: Sequence[OpenSegments], tokens: Sequence[Tensor], slots: Sequence[Int64Array]
    ) -> tuple[list[OpenSegments], list[Tensor]]:
        """Run the clips into their feeds' segments; what memory holds of them then."""
        assert self._segments is not None, "called only where there are segments"
        # What is read later from memory went through float16, so the open segments take it from there too.
        videos = [own.to(self._segments.prefix.dtype) for own in tokens]
        advanced = self._segments.advance(opened, videos, slots)
        if self._model.readout is None:
            return [state for state, _ in advanced], list(tokens)
        read = [self._model.readout(left).to(torch.float16) for _, left in advanced]
        return [state for state, _ in advanced], read

    def _batch_size(self) -> int:
        return CPU_BATCH if self._model.config.device == "cpu" else GPU_BATCH

    def _check(self, frames: UInt8Array) -> None:
        if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8:
            kind = getattr(frames, "dtype", type(frames).__name__)
            raise ValueError(
                f"frames: must be a uint8 array [T, H, W, 3], got {kind}; scale and convert the pixels first"
            )
        if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
            raise ValueError(f"frames: must be a non-empty uint8 array [T, H, W, 3], got shape {list(frames.shape)}")
        if len(frames) > self._frames_per_clip:
            raise ValueError(
                f"frames: a clip has at most frames_per_clip={self._frames_per_clip} frames, got {len(frames)}; cut it"
            )


def _groups(lengths: list[int], limit: int) -> list[list[int]]:
    """Indices of equal-length clips, at most `limit` together."""
    by_length: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        by_length.setdefault(length, []).append(index)
    return [same[i : i + limit] for same in by_length.values() for i in range(0, len(same), limit)]
