"""Decides how pixels become patch features: the UMT vision tower (spec §3)."""

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from standwatch.compression.fusion import linear_biased, linear_gelu, linear_plus
from standwatch.configs.schema import VisionConfig

BASE_FRAMES = 4  # the position table the tower was pre-trained with: 4 frames of 14 x 14 patches
BASE_SIDE = 14
BLOCK_EPS = 1e-6
FINAL_EPS = 1e-12
# On a CPU, results above 32 MiB come from the system anew each time (glibc's M_MMAP_THRESHOLD), and every page of them
# costs a fault: at the published shape that is up to a fifth of the tower's time.
CPU_RESULT_BYTES = 32 * 1024 * 1024


class VisionTower(nn.Module):
    """Features of short clips. A clip attends to all of its own frames and to nothing else."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)

    def forward(self, clips: Tensor) -> Tensor:
        """Pixels [B, T, 3, S, S] -> features [B, T*patches, W], ordered time, row, column.

        Raises ValueError for what `check_clips` refuses. Every clip given is encoded: the reference drops the last
        `n mod 8` of n >= 1024 frames. A clip may be short: the reference stops with a reshape error there.
        """
        check_clips(clips, self.config)
        features: Tensor = self.encoder(clips)
        return features


def check_clips(clips: Tensor, config: VisionConfig) -> None:
    """Refuse pixels that no clip of the tower can have: ValueError naming the clip and the frame.

    Clips are [B, T, 3, S, S] with S = image_px and 1 <= T <= frames_per_clip, of finite numbers.
    """
    side, longest = config.image_px, config.frames_per_clip
    if clips.ndim != 5 or clips.shape[2:] != (3, side, side) or not len(clips) or not clips.is_floating_point():
        raise ValueError(
            f"clips: must be floating-point pixels [B, T, 3, {side}, {side}] of at least one clip, "
            f"got {clips.dtype} {list(clips.shape)}; preprocess the frames to image_px={side}"
        )
    if not 1 <= clips.shape[1] <= longest:
        raise ValueError(f"clips: a clip has 1 to frames_per_clip={longest} frames, got {clips.shape[1]}; cut it")
    if not clips.detach().sum().isfinite():  # one sum is quick; it may also overflow, so it does not decide
        damaged = (~clips.isfinite()).flatten(2).any(2).nonzero()
        for clip, frame in damaged[:1].tolist():
            raise ValueError(f"clips: clip {clip} has NaN or infinite pixels in its frame {frame}; repair or drop it")


class Encoder(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.side = config.image_px // config.patch_px
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.vision_layernorm = nn.LayerNorm(config.width, eps=FINAL_EPS)
        self.mlp_width = config.mlp_width

    def forward(self, clips: Tensor) -> Tensor:
        inner_width = clips.shape[1] * self.side * self.side * self.mlp_width
        return _joined([self._encode(part) for part in _parts(clips, inner_width)])

    def _encode(self, clips: Tensor) -> Tensor:
        hidden: Tensor = self.patch_embed(clips)  # [B, T*p, W]
        hidden = hidden + _placed_table(clips.shape[1], self.side, hidden.shape[-1], hidden.device, hidden.dtype)
        for block in self.blocks:
            hidden = block(hidden)
        features: Tensor = self.vision_layernorm(hidden)
        return features


class PatchEmbed(nn.Module):
    """A convolution whose patches do not overlap, and so a matrix product over them; it keeps the weight's shape."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        kernel = (1, config.patch_px, config.patch_px)
        self.proj = nn.Conv3d(3, config.width, kernel_size=kernel, stride=kernel)

    def forward(self, clips: Tensor) -> Tensor:
        patch = self.proj.kernel_size[-1]
        side = clips.shape[-1] // patch
        grid = clips.reshape(*clips.shape[:3], side, patch, side, patch)  # [B, T, 3, h, patch, w, patch]
        patches = grid.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(1, 3)  # [B, T*h*w, 3*patch*patch]
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class Block(nn.Module):
    """Pre-norm transformer block with full attention and an erf-GELU MLP."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=BLOCK_EPS)
        self.attn = Attention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width, eps=BLOCK_EPS)
        self.mlp = Mlp(config.width, config.mlp_width)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = linear_plus(self.attn(self.norm1(hidden)), self.attn.proj, hidden)
        parts = _parts(hidden.flatten(0, 1), self.mlp.fc1.out_features)
        changed = [linear_plus(linear_gelu(self.norm2(rows), self.mlp.fc1), self.mlp.fc2, rows) for rows in parts]
        return _joined(changed).view_as(hidden)


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
        """What each head gathers, side by side [B, N, W]; the caller applies `proj`."""
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        fused = linear_biased(hidden, self.qkv, bias)  # [B, N, 3*W]
        q, k, v = torch.unflatten(fused, -1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, heads, N, hd]
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Mlp(nn.Module):
    def __init__(self, width: int, inner_width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner_width)
        self.fc2 = nn.Linear(inner_width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        projected: Tensor = self.fc2(linear_gelu(hidden, self.fc1))
        return projected


def _parts(entries: Tensor, width: int) -> Sequence[Tensor]:
    """Entries [n, ...] in nearly equal parts; on a CPU `width` numbers per entry of a part fit CPU_RESULT_BYTES."""
    if entries.device.type != "cpu":
        return (entries,)
    fit = max(1, CPU_RESULT_BYTES // (width * entries.element_size()))
    parts = -(-len(entries) // fit)
    return torch.split(entries, -(-len(entries) // parts))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts))


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
