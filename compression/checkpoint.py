"""Decides where a model comes from, weights drawn from a seed or a checkpoint, and how a checkpoint's become ours.

Loading takes the memory of the model and little more: parameters exist as shapes only until everything is known to
fit, are allocated once, on their device and in their precision, and are filled piece by piece from mapped files.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from standwatch.compression.checkpoint_config import (
    GenerationConfig,
    folder_of,
    read_generation_config,
    resolved,
    untrained_parts,
)
from standwatch.compression.checkpoint_files import Checkpoint, open_checkpoint, portions
from standwatch.compression.checkpoint_layout import READOUT, by_parameter, check_layout
from standwatch.compression.tokenizer import TextTokenizer, byte_level, from_folder
from standwatch.compression.xcomp import XComp, build
from standwatch.configs.schema import ModelConfig

UNTRAINED = "untrained"
_PENALTY = 1.1  # the released model's (spec §10)
_STORED = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model with all that is needed to use it. Its shapes are `model.config`'s, not those it was asked for with."""

    model: XComp
    tokenizer: TextTokenizer
    generation: GenerationConfig
    name: str
    weights: str  # "untrained", or where they were read; before that which parts of them are untrained


def load_model(config: ModelConfig) -> LoadedModel:
    """The model of a configuration: from `config.checkpoint`, or drawn from `config.seed` where that is empty.

    Raises ValueError naming the file and the fix for whatever is missing or does not fit.
    """
    if not config.checkpoint:
        tokenizer = byte_level()
        generation = GenerationConfig(_PENALTY, (tokenizer.im_end_id,))
        return LoadedModel(build(config), tokenizer, generation, f"xcomp-seed-{config.seed}", UNTRAINED)
    checkpoint = open_checkpoint(Path(config.checkpoint))
    folder = folder_of(checkpoint.path)
    tokenizer, generation = from_folder(folder), read_generation_config(folder)
    # Whatever the folder says, the end of a turn ends an answer.
    eos_ids = tuple(dict.fromkeys((*generation.eos_ids, tokenizer.im_end_id)))
    with torch.device("meta"):
        model = XComp(resolved(config))
    fill(model, checkpoint, getattr(torch, config.dtype), config.device)
    weights = config.checkpoint
    if parts := untrained_parts(folder):
        weights = f"{UNTRAINED} {' and '.join(parts)} in {weights}"
    return LoadedModel(model, tokenizer, replace(generation, eos_ids=eos_ids), folder.resolve().name, weights)


@torch.no_grad()
def fill(model: nn.Module, checkpoint: Checkpoint, dtype: torch.dtype, device: str) -> None:
    """Give a model that was built on `meta` the weights of a checkpoint; it is ready for inference then.

    Raises ValueError before anything is allocated if names or shapes differ, all differences in one, or weights are
    quantised; and while filling if a value is not finite in `dtype`, or a file changes.
    """
    own = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    # A model that reads 16 tokens per frame has no use for a readout, and may share the folder with one that has.
    has_readout = any(name.startswith(READOUT) for name in own)
    try:
        found = by_parameter(checkpoint.weights, checkpoint.additions if has_readout else {})
        check_layout(own, {name: weight.shape for name, weight in found.items()})
        if other := sorted({str(weight.dtype) for weight in found.values() if weight.dtype not in _STORED}):
            raise ValueError(f"some weights are {', '.join(other)}; save them as float32, bfloat16 or float16")
    except ValueError as error:
        raise ValueError(f"checkpoint: {checkpoint.path}: {error}") from None
    weights = model.to(dtype).to_empty(device=device).state_dict()
    for name, rows, values in portions(found):
        part = weights[name][rows]
        part.copy_(values)
        low, high = part.aminmax()
        if not (low.isfinite() and high.isfinite()):
            raise ValueError(
                f"checkpoint: {checkpoint.path}: {name} has values that are not finite in {dtype}; "
                "use a wider model.dtype, or sound weights"
            )
    model.eval().requires_grad_(False)
