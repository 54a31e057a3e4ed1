"""Decides which weights the demo runs on: the base weights of the user's cache with what Standwatch itself has learnt.

What was learnt comes with Standwatch and is small; both are joined once, into a checkpoint beside the base weights.
Another release, or other base weights, are joined into another folder.
"""

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from standwatch.actors.base_weights import base_folder, fetch_base
from standwatch.actors.weights_source import Tell
from standwatch.configs.load import cache_folder

RELEASE = Path(str(files("standwatch") / "weights" / "small.safetensors"))


def tuned_folder() -> Path:
    """Where the demo's checkpoint lies, once it is made."""
    digest = hashlib.sha256(RELEASE.read_bytes()).hexdigest()[:12]
    return cache_folder() / f"small-{digest}-on-{base_folder().name}"


def quick_dtype() -> str:
    """The precision this machine's CPU multiplies fastest."""
    import torch

    return fastest(torch.cpu.get_capabilities())


def fastest(able: Mapping[str, object]) -> str:
    """The precision that a CPU of these abilities multiplies fastest: bfloat16 where it does so natively."""
    return "bfloat16" if able.get("amx_bf16") or able.get("avx512_bf16") else "float32"


def demo_settings(checkpoint: Path, dtype: str) -> list[str]:
    """What of the demo's configuration depends on the machine: its weights, their precision (the quickest), its pace.

    Two cores without native bfloat16 keep up with one frame per second of each feed, not with two
    (`benchmarks.demo_speed`).
    """
    pace = [] if dtype == "bfloat16" else ["decode.sample_fps=1"]
    return [f"model.checkpoint={checkpoint}", f"model.dtype={dtype}", *pace]


def make_tuned(tell: Tell) -> Path:
    """See that the demo's checkpoint is there, and return its folder.

    Raises BadInput if something else lies where the base weights belong, and Unavailable if they cannot be had.
    """
    folder = tuned_folder()
    if not folder.exists():
        fetch_base(base_folder(), tell)
        tell("joining base and released weights", 0, 0)
        from standwatch.compression.tuning.release import write_tuned  # imports torch: only here is it needed

        write_tuned(base_folder(), RELEASE, folder)
    return folder
