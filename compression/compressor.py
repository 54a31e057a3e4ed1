"""Decides how clips of many feeds become memory tokens: the pure step of DESIGN §2.6."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from standwatch.compression.preprocess import UInt8Array, preprocess
from standwatch.compression.xcomp import XComp

Float16Array: TypeAlias = npt.NDArray[np.float16]

# Clips run through the vision tower together. On CPU one clip fills the vector units and more only spill the caches
# (float32: 1 to 2 is best, bfloat16: 2 to 4).
CPU_BATCH = 2
GPU_BATCH = 32


@dataclass(frozen=True)
class CompressorState:
    """All that a feed's compression depends on besides its next clip; rebuilt by replay.

    XComp's clips do not see each other, so only progress is left to carry.
    """

    frames_seen: int = 0


class Compressor:
    """Clips in, tokens out. Holds weights but no feed's state, so one instance serves every feed."""

    def __init__(self, model: XComp) -> None:
        self._model = model
        self._frames_per_clip = model.config.vision.frames_per_clip

    def start(self) -> CompressorState:
        """The state of a feed before its first clip."""
        return CompressorState()

    def step(self, state: CompressorState, frames: UInt8Array) -> tuple[CompressorState, Float16Array]:
        """Compress one clip, uint8 [T, H, W, 3] with T in 1..frames_per_clip, to float16 [T, n, D].

        Raises ValueError for anything else. A clip of another length has tokens of its own kind: frames are not
        interchangeable between clips.
        """
        return self.step_batch([state], [frames])[0]

    def step_batch(
        self, states: Sequence[CompressorState], clips: Sequence[UInt8Array]
    ) -> list[tuple[CompressorState, Float16Array]]:
        """`step` for clips of many feeds, in their order. Lengths and source sizes may differ between clips."""
        if len(states) != len(clips):
            raise ValueError(f"states and clips must pair up, got {len(states)} and {len(clips)}")
        for clip in clips:
            self._check(clip)
        tokens: list[Float16Array | None] = [None] * len(clips)
        for members in _groups([len(clip) for clip in clips], self._batch_size()):
            for member, compressed in zip(members, self._compress([clips[i] for i in members]), strict=True):
                tokens[member] = compressed
        results = []
        for state, clip_tokens in zip(states, tokens, strict=True):
            assert clip_tokens is not None, "every clip is in one group"
            results.append((CompressorState(state.frames_seen + len(clip_tokens)), clip_tokens))
        return results

    @torch.inference_mode()
    def _compress(self, clips: list[UInt8Array]) -> Float16Array:
        """Clips of equal length -> [B, T, n, D]."""
        pixels = preprocess([frame for clip in clips for frame in clip], self._model.config.vision.image_px)
        weight = self._model.decoder.embed_tokens.weight  # names the device and precision of all
        batch = torch.unflatten(pixels.to(weight), 0, (len(clips), -1))  # [B, T, 3, S, S]
        tokens: Float16Array = self._model.compress(batch).to(torch.float16).cpu().numpy()
        return tokens

    def _batch_size(self) -> int:
        return CPU_BATCH if self._model.config.device == "cpu" else GPU_BATCH

    def _check(self, clip: UInt8Array) -> None:
        if not isinstance(clip, np.ndarray) or clip.dtype != np.uint8:
            kind = getattr(clip, "dtype", type(clip).__name__)
            raise ValueError(
                f"frames: must be a uint8 array [T, H, W, 3], got {kind}; scale and convert the pixels first"
            )
        if clip.ndim != 4 or clip.shape[-1] != 3 or 0 in clip.shape:
            raise ValueError(f"frames: must be a non-empty uint8 array [T, H, W, 3], got shape {list(clip.shape)}")
        if len(clip) > self._frames_per_clip:
            raise ValueError(
                f"frames: a clip has at most frames_per_clip={self._frames_per_clip} frames, got {len(clip)}; cut it"
            )


def _groups(lengths: list[int], limit: int) -> list[list[int]]:
    """Indices of equal-length clips, at most `limit` together."""
    by_length: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        by_length.setdefault(length, []).append(index)
    return [same[i : i + limit] for same in by_length.values() for i in range(0, len(same), limit)]
