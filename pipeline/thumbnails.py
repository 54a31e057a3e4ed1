"""Decides what is kept of a frame to be looked at: a small JPEG."""

import io

from PIL import Image

from standwatch.pipeline.types import UInt8Array


def thumbnail(pixels: UInt8Array, side_px: int, quality: int) -> bytes:
    """A JPEG of [H, W, 3] RGB pixels with its longest side at most `side_px`, in the same aspect."""
    image = Image.fromarray(pixels)
    longest = max(image.size)
    if longest > side_px:
        width, height = (max(1, round(length * side_px / longest)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()
