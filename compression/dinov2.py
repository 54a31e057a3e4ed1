"""Decides how pixels become patch features where each frame is seen alone: the DINOv2 vision tower (arXiv 2304.07193).

Its last block tells scenes apart better than things: colours and small objects are plainer half-way up. So features may
be taken after several blocks (`VisionConfig.taps`), each scaled to mean 0 and spread 1, and no later block runs then.

Positions were learnt on a square of 37 x 37 patches. For another square they are resized as the published conversions
do: bicubic (a = -0.75) between the centres of the cells, without antialiasing and without the offset of 0.1 patches
that the makers' first code added to the scale.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from standwatch.compression.vision import Mlp, check_clips
from standwatch.configs.schema import VisionConfig

LEARNT_SIDE = 37  # 518 pixels in patches of 14
EPS = 1e-6


class FrameTower(nn.Module):
    """Features of single frames. Frames of a clip do not see each other; the class token is dropped from the output."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.side = config.image_px // config.patch_px
        self.patch_embed = nn.Conv2d(3, config.width, kernel_size=config.patch_px, stride=config.patch_px)
        self.class_token = nn.Parameter(torch.zeros(config.width))
        self.class_position = nn.Parameter(torch.zeros(config.width))
        self.patch_positions = nn.Parameter(torch.zeros(LEARNT_SIDE * LEARNT_SIDE, config.width))
        self.blocks = nn.ModuleList(FrameBlock(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width, eps=EPS)

    def forward(self, clips: Tensor) -> Tensor:
        """Pixels [B, T, 3, S, S] -> features [B, T*patches, feature_width], ordered time, row, column.

        Raises ValueError for what `check_clips` refuses.
        """
        check_clips(clips, self.config)
        patches = self.patch_embed(clips.flatten(0, 1)).flatten(2).transpose(1, 2)  # [B*T, p, W]
        patches = patches + resized_positions(self.patch_positions, self.side)
        first = (self.class_token + self.class_position).expand(len(patches), 1, -1)
        hidden = torch.cat((first, patches), 1)  # [B*T, 1+p, W]
        taps = self.config.taps
        taken = []
        for number, block in enumerate(self.blocks[: taps[-1] if taps else None], 1):
            hidden = block(hidden)
            if number in taps:
                taken.append(F.layer_norm(hidden[:, 1:], hidden.shape[-1:], eps=EPS))
        features: Tensor = torch.cat(taken, -1) if taken else self.norm(hidden[:, 1:])
        return features.reshape(len(clips), -1, features.shape[-1])


class FrameBlock(nn.Module):
    """Pre-norm transformer block with full attention, an erf-GELU MLP, and a learnt scale on what each adds."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=EPS)
        self.attention = FrameAttention(config.width, config.heads)
        self.scale1 = LayerScale(config.width)
        self.norm2 = nn.LayerNorm(config.width, eps=EPS)
        self.mlp = Mlp(config.width, config.mlp_width)
        self.scale2 = LayerScale(config.width)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden + self.scale1(self.attention(self.norm1(hidden)))
        hidden = hidden + self.scale2(self.mlp(self.norm2(hidden)))
        return hidden


class FrameAttention(nn.Module):
    """One fused projection for query, key and value, all with bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        q, k, v = torch.unflatten(self.qkv(hidden), -1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [B, heads, N, hd]
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # [B, N, W]
        projected: Tensor = self.out(mixed)
        return projected


class LayerScale(nn.Module):
    """One learnt factor per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, added: Tensor) -> Tensor:
        return added * self.weight


def resized_positions(learnt: Tensor, side: int) -> Tensor:
    """Positions learnt on the square of LEARNT_SIDE patches, [LEARNT_SIDE**2, W], on one of `side`: [side**2, W].

    Both row by row. Computed in float32, given back in the precision they came in.
    """
    if side == LEARNT_SIDE:
        return learnt
    square = torch.unflatten(learnt.float().T, 1, (LEARNT_SIDE, LEARNT_SIDE))[None]  # [1, W, 37, 37]
    resized = F.interpolate(square, size=(side, side), mode="bicubic", align_corners=False)
    return resized[0].flatten(1).T.to(learnt.dtype)
