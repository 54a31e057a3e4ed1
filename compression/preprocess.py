"""Decides how camera frames become the pixels the vision tower was trained on (spec §2)."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

UInt8Array: TypeAlias = npt.NDArray[np.uint8]

CHANNEL_MEAN = (0.485, 0.456, 0.406)
CHANNEL_STD = (0.229, 0.224, 0.225)


def preprocess(frames: Sequence[UInt8Array] | UInt8Array, image_px: int) -> Tensor:
    """RGB frames uint8 [H, W, 3] each, any sizes -> float32 [F, 3, image_px, image_px], normalised.

    Aspect ratio is not kept and nothing is cropped: the model saw squares made this way.
    """
    squares = np.stack([_square(frame, image_px) for frame in frames])  # [F, S, S, 3]
    mean, std = torch.tensor(CHANNEL_MEAN), torch.tensor(CHANNEL_STD)
    pixels = torch.from_numpy(squares).permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    scale, shift = 1 / (255 * std), mean / std
    return pixels.mul_(scale[:, None, None]).sub_(shift[:, None, None])


def _square(frame: UInt8Array, side: int) -> UInt8Array:
    if frame.shape[:2] == (side, side):
        return frame
    return np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC))
