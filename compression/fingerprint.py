"""Decides whether two memories speak the same language: a fingerprint of what gives memory tokens their meaning."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor

from standwatch.compression.xcomp import VISION_PREFIXES
from standwatch.configs.schema import ModelConfig

_MERGING = "tome16"  # changes when spec §4 is computed differently


def token_space(config: ModelConfig, weights: Mapping[str, Tensor]) -> str:
    """16 hex digits over shapes, merging, representation and the content of the vision and projector weights.

    `weights` are named as in the checkpoint; those of the language model do not count, tokens do not depend on them.
    Raises ValueError if no vision or projector weight is among them.
    """
    names = sorted(name for name in weights if name.startswith(VISION_PREFIXES))
    if not names:
        raise ValueError("weights: no vision tower or projector among them; pass the whole model's state_dict()")
    shape = {
        "representation": f"projector{config.tokens_per_frame}",
        "merging": _MERGING,
        "vision": asdict(config.vision),
        "width": config.language.width,
    }
    digest = hashlib.blake2b(json.dumps(shape, sort_keys=True).encode(), digest_size=8)
    for name in names:
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
