"""Decides how the parts form one model: vision, projector and decoder under the checkpoint's names (spec §13)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from standwatch.compression.cells import CellProjector, check_cells, describe_cells
from standwatch.compression.checkpoint_layout import PROJECTOR, by_parameter, check_layout
from standwatch.compression.dinov2 import FrameTower
from standwatch.compression.lpcomp import Decoder
from standwatch.compression.merging import Projector, merge, merge_schedule
from standwatch.compression.readout import Readout, readable
from standwatch.compression.schedule import Schedule, runnable_schedule
from standwatch.compression.vision import VisionTower
from standwatch.configs.schema import ModelConfig

VISION_PREFIXES = ("model.vision_tower.", PROJECTOR)


class Backbone(Decoder):
    """Everything with weights; exists because the checkpoint names nest this way."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.language)
        alone, width = config.vision.tower == "dinov2", config.language.width
        tower = FrameTower(config.vision) if alone else VisionTower(config.vision)
        self.vision_tower = nn.ModuleDict({"vision_tower": tower})
        self.mm_projector = (
            CellProjector(config.vision.feature_width, width) if alone else Projector(config.vision.width, width)
        )


class XComp(nn.Module):
    """The whole model. `compress` makes tokens of frames; `decoder` shrinks and reads them.

    Where memory holds one token per frame there is a `readout` too, which no published checkpoint has.
    Raises ValueError for shapes that cannot work: too few decoder layers for the tokens, too few patches per frame.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        # Refuse impossible shapes early.
        if config.vision.tower == "dinov2":
            check_cells(config.vision.patches_per_frame, config.tokens_per_frame)
        else:
            merge_schedule(config.vision.patches_per_frame, config.tokens_per_frame)
        self.config = config
        self.lpcomp_schedule: Schedule = runnable_schedule(config.language.layers, config.tokens_per_frame, config.keep)
        self.model = Backbone(config)
        self.readout = Readout(config.language.width) if self.reads_one_token else None

    @property
    def reads_one_token(self) -> bool:
        """Whether LP-Comp runs before memory and leaves it one token per frame, instead of while reading."""
        return self.config.frame_tokens < self.config.tokens_per_frame

    @property
    def reading_schedule(self) -> Schedule:
        """What the decoder does with frames from memory: LP-Comp in full, or nothing where they are compressed."""
        return runnable_schedule(self.config.language.layers, self.config.frame_tokens, self.config.keep)

    @property
    def memory_schedule(self) -> Schedule:
        """What LP-Comp does with frames before memory where that holds one token of each."""
        return readable(self.lpcomp_schedule)

    @property
    def segment_schedule(self) -> Schedule:
        """What the decoder does with frames in the segments that are still open."""
        return self.memory_schedule if self.reads_one_token else self.lpcomp_schedule

    @property
    def decoder(self) -> Decoder:
        return self.model

    @property
    def vision(self) -> VisionTower | FrameTower:
        tower = self.model.vision_tower["vision_tower"]
        assert isinstance(tower, VisionTower | FrameTower)
        return tower

    @property
    def projector(self) -> Projector:
        return self.model.mm_projector

    def compress(self, clips: Tensor) -> Tensor:
        """Pixels [B, T, 3, S, S] -> tokens [B, T, n, D] (spec §3, §4). Clips do not see each other.

        Of UMT, which frame a token is filed under is nominal: tokens of a clip are mixtures over its frames. Of DINOv2
        a frame's tokens are the cells of its picture, row by row, and nothing else.
        """
        tokens: Tensor = self.projector(self.features(clips))
        return tokens

    def features(self, clips: Tensor) -> Tensor:
        """What `compress` does up to the projector: pixels [B, T, 3, S, S] -> merged features [B, T, n, W].

        Of DINOv2 these are cells, float32 [B, T, n, 2*feature_width]: the projector subtracts their mean first.
        """
        frames, tokens = clips.shape[1], self.config.tokens_per_frame
        seen = self.vision(clips)  # [B, T*patches, W]
        # Sums over up to hundreds of patches do not survive 8 bits of mantissa, hence float32.
        wide = seen.float()
        if self.config.vision.tower == "dinov2":
            return describe_cells(torch.unflatten(wide, 1, (frames, -1)), tokens)
        merged = merge(wide, self.config.vision.heads, frames * tokens).to(seen.dtype)  # [B, T*n, W]
        return torch.unflatten(merged, 1, (frames, tokens))

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take all weights from checkpoint-named tensors; ValueError naming what is missing, unknown or misshapen.

        `checkpoint.load_model` reads files; this is for tensors in memory.
        """
        load_strictly(self, by_parameter(tensors))


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into a module's parameters, all or nothing; ValueError unless names and shapes are the module's."""
    own = {name: tuple(weight.shape) for name, weight in module.state_dict().items()}
    check_layout(own, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    module.load_state_dict(tensors)


def build(config: ModelConfig) -> XComp:
    """The model with weights drawn from `config.seed`, on the configured device and in the configured dtype.

    The same seed gives the same weights in every process, and whatever the device.
    """
    with torch.device("meta"):
        model = XComp(config)
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(config.seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            _draw(name, weight, generator)
    dtype: torch.dtype = getattr(torch, config.dtype)
    return model.to(device=config.device, dtype=dtype).eval().requires_grad_(False)


def _draw(name: str, weight: Tensor, generator: torch.Generator) -> None:
    """Matrices keep the size of what passes through them; norms and scales start as identity, biases at zero."""
    if weight.dim() > 1:
        weight.normal_(0, weight[0].numel() ** -0.5, generator=generator)
    elif name.endswith(".weight"):
        weight.fill_(1)
    else:
        weight.zero_()
