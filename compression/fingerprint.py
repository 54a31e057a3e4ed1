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
    """16 hex digits over shapes, merging, representation and the content of all weights that tokens come from.

    `weights` are named as in the checkpoint. The projector's tokens do not depend on the language model's. Those of
    one token per frame do, and on the readout, the schedule and the segments they were compressed in.
    Raises ValueError if no vision or projector weight is among them.
    """
    one_token = config.frame_tokens < config.tokens_per_frame
    names = sorted(name for name in weights if one_token or name.startswith(VISION_PREFIXES))
    if not any(name.startswith(VISION_PREFIXES) for name in names):
        raise ValueError("weights: no vision tower or projector among them; pass the whole model's state_dict()")
    shape: dict[str, object] = {
        "representation": f"projector{config.tokens_per_frame}",
        "merging": _MERGING,
        "vision": asdict(config.vision),
        "width": config.language.width,
    }
    if one_token:
        shape |= {
            "representation": f"readout of the loudest of {config.tokens_per_frame}",
            "language": asdict(config.language),
            "keep": config.keep,
            "segment_frames": config.segment_frames,
        }
    digest = hashlib.blake2b(json.dumps(shape, sort_keys=True).encode(), digest_size=8)
    for name in names:
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
