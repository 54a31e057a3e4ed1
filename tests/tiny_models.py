"""Models small enough for milliseconds, with every weight drawn, biases and norms too, so that none can be left out."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn

from standwatch.compression.lpcomp import Decoder
from standwatch.compression.schedule import Schedule, runnable_schedule
from standwatch.compression.xcomp import XComp, build
from standwatch.configs.schema import LanguageConfig, ModelConfig, VisionConfig

QUICK = settings(deadline=None, max_examples=25)  # the machine's speed is not what these tests are about

# Layers and tokens per frame whose schedule can run; the last two drop several tokens at once and end with many ones.
DEPTHS = ((3, 3), (4, 2), (5, 6), (6, 4), (6, 8), (10, 16))

TINY = ModelConfig(
    vision=VisionConfig(image_px=32, patch_px=16, width=16, heads=2, blocks=1, mlp_width=16, frames_per_clip=4),
    language=LanguageConfig(layers=6, width=24, mlp_width=32, heads=4, kv_heads=2, head_dim=8, vocab=300),
    tokens_per_frame=4,
    frame_tokens=4,
    segment_frames=16,
)
TINY_ONE = replace(TINY, frame_tokens=1)
_CELLS = VisionConfig(
    tower="dinov2", image_px=28, patch_px=7, width=16, heads=2, blocks=3, mlp_width=16, frames_per_clip=4, taps=(1, 3)
)
TINY_CELLS = replace(TINY, vision=_CELLS)


def drawn(module: nn.Module, seed: int) -> None:
    """Draw every weight: matrices keep the size of what passes, norms lie around 1, biases are of the same order."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(module.named_parameters()):
            if weight.dim() > 1:
                weight.normal_(0, weight[0].numel() ** -0.5, generator=generator)
            elif "norm" in name and name.endswith("weight"):
                weight.normal_(1, 0.2, generator=generator)
            else:
                weight.normal_(0, 0.3, generator=generator)
    module.eval().requires_grad_(False)


@lru_cache(maxsize=64)
def tiny_decoder(config: LanguageConfig, seed: int = 0, dtype: torch.dtype = torch.float32) -> Decoder:
    decoder = Decoder(config)
    drawn(decoder, seed)
    return decoder.to(dtype)


@lru_cache(maxsize=8)
def tiny_xcomp(config: ModelConfig = TINY, seed: int = 0) -> XComp:
    model = build(config)
    drawn(model, seed)
    return model


def fresh_xcomp() -> XComp:
    """A model of one's own, to be changed."""
    model = build(TINY)
    drawn(model, 3)
    return model


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def memory_tokens(frames: int, n: int = 4, width: int = 24, seed: int = 0) -> np.ndarray:
    """Frames as memory holds them, float16 [F, n, D]."""
    return normal(frames, n, width, seed=seed).half().numpy()


@dataclass(frozen=True)
class Shape:
    """A decoder and the schedule that its frames shrink by."""

    config: LanguageConfig
    schedule: Schedule

    @property
    def decoder(self) -> Decoder:
        return tiny_decoder(self.config)

    @property
    def n(self) -> int:
        return self.schedule.tokens_per_frame

    def video(self, frames: int, seed: int = 0) -> Tensor:
        return normal(frames, self.n, self.config.width, seed=seed)

    def rows(self, count: int, seed: int = 1) -> Tensor:
        return normal(count, self.config.width, seed=seed)


def shape_of(
    layers: int = 6, n: int = 4, heads: int = 4, kv_heads: int = 2, keep: str = "suffix", positions: int = 131_072
) -> Shape:
    config = LanguageConfig(
        layers=layers,
        width=24,
        mlp_width=40,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=8,
        vocab=60,
        rope_theta=10_000.0,
        positions=positions,
    )
    return Shape(config, runnable_schedule(layers, n, keep))


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Every sharing of keys among heads, both ways to keep tokens, schedules of several depths, and the trivial one."""
    layers, n = draw(st.sampled_from((*DEPTHS, (4, 1))))
    heads, kv_heads = draw(st.sampled_from(((1, 1), (4, 4), (4, 1), (6, 2))))
    return shape_of(layers, n, heads, kv_heads, draw(st.sampled_from(("suffix", "uniform"))))


@st.composite
def pieces(draw: st.DrawFn, most: int = 12) -> tuple[int, ...]:
    """A number of frames, cut into runs of at least one."""
    return tuple(draw(st.lists(st.integers(1, most), min_size=1, max_size=5)))


def cut(video: Tensor, lengths: tuple[int, ...]) -> tuple[Tensor, ...]:
    return torch.split(video, list(lengths))
