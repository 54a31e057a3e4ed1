"""Decides how pixels become patch features: the UMT vision tower (spec §3)."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from standwatch.configs.schema import VisionConfig

BASE_FRAMES = 4  # the position table the tower was pre-trained with: 4 frames of 14 x 14 patches
BASE_SIDE = 14
BLOCK_EPS = 1e-6
FINAL_EPS = 1e-12


class VisionTower(nn.Module):
    """Features of short clips. A clip attends to all of its own frames and to nothing else."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)

    def forward(self, clips: Tensor) -> Tensor:
        """Pixels [B, T, 3, S, S] -> features [B, T*patches, W], ordered time, row, column."""
        features: Tensor = self.encoder(clips)
        return features


class Encoder(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.side = config.image_px // config.patch_px
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.vision_layernorm = nn.LayerNorm(config.width, eps=FINAL_EPS)

    def forward(self, clips: Tensor) -> Tensor:
        hidden: Tensor = self.patch_embed(clips)  # [B, T*p, W]
        hidden = hidden + _placed_table(clips.shape[1], self.side, hidden.shape[-1], hidden.device, hidden.dtype)
        for block in self.blocks:
            hidden = block(hidden)
        features: Tensor = self.vision_layernorm(hidden)
        return features


class PatchEmbed(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        kernel = (1, config.patch_px, config.patch_px)
        self.proj = nn.Conv3d(3, config.width, kernel_size=kernel, stride=kernel)

    def forward(self, clips: Tensor) -> Tensor:
        # One frame deep, so a 2-D convolution over all frames does the same and runs faster.
        kernel = self.proj.weight[:, :, 0]  # [W, 3, patch, patch]
        patches = F.conv2d(clips.flatten(0, 1), kernel, self.proj.bias, stride=kernel.shape[-1])  # [B*T, W, h, w]
        return patches.flatten(2).transpose(1, 2).reshape(clips.shape[0], -1, kernel.shape[0])


class Block(nn.Module):
    """Pre-norm transformer block with full attention and an erf-GELU MLP."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=BLOCK_EPS)
        self.attn = Attention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width, eps=BLOCK_EPS)
        self.mlp = Mlp(config.width, config.mlp_width)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden + self.attn(self.norm1(hidden))
        hidden = hidden + self.mlp(self.norm2(hidden))
        return hidden


class Attention(nn.Module):
    """One fused projection for query, key and value; the key has no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        fused = F.linear(hidden, self.qkv.weight, bias)  # [B, N, 3*W]
        q, k, v = torch.unflatten(fused, -1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, heads, N, hd]
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # [B, N, W]
        projected: Tensor = self.proj(mixed)
        return projected


class Mlp(nn.Module):
    def __init__(self, width: int, inner_width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner_width)
        self.fc2 = nn.Linear(inner_width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        projected: Tensor = self.fc2(F.gelu(self.fc1(hidden)))
        return projected


@lru_cache(maxsize=32)
def _placed_table(frames: int, side: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return position_table(frames, side, width).to(device, dtype)


def position_table(frames: int, side: int, width: int) -> Tensor:
    """Fixed sin-cos positions of one clip, float32 [1, frames*side*side, width] (spec §3).

    The pre-training grid is resized in space, then in time; a single image has a table of its own.
    """
    base_frames = 1 if frames == 1 else BASE_FRAMES
    grid = _sincos(base_frames * BASE_SIDE * BASE_SIDE, width).view(base_frames, BASE_SIDE, BASE_SIDE, width)
    if side != BASE_SIDE:
        grid = F.interpolate(grid.permute(0, 3, 1, 2), size=(side, side), mode="bicubic", align_corners=False)
        grid = grid.permute(0, 2, 3, 1)  # [base_frames, side, side, W]
    table = grid.reshape(base_frames, side * side * width)
    if frames != base_frames:
        table = F.interpolate(table.T[:, None], size=frames, mode="linear", align_corners=False)[:, 0].T
    return table.reshape(1, frames * side * side, width).contiguous()


def _sincos(positions: int, width: int) -> Tensor:
    """Even channels sine, odd channels cosine, one frequency per pair: float32 [positions, width]."""
    pair = torch.arange(width, dtype=torch.float64) // 2
    angle = torch.arange(positions, dtype=torch.float64)[:, None] / 10_000 ** (2 * pair / width)
    angle[:, 0::2] = angle[:, 0::2].sin()
    angle[:, 1::2] = angle[:, 1::2].cos()
    return angle.to(torch.float32)
