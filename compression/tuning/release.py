"""Decides what of a training run is published, and how it becomes an ordinary model again.

Published are the projector, the readout and the additions of low rank, as float16: 15 MB for a base of 300, and 17
where vision has learnt too. Whoever has the base model puts all of it together once; what comes out is a checkpoint
like any other.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from standwatch.compression.checkpoint import load_model
from standwatch.compression.checkpoint_layout import PROJECTOR, READOUT
from standwatch.compression.checkpoint_saving import save
from standwatch.compression.readout import Readout
from standwatch.compression.tuning.adapters import merged
from standwatch.configs.schema import ModelConfig


def write_release(learnt: Sequence[Path], to: Path, notes: Mapping[str, str]) -> None:
    """The files of training runs, or releases, as one to publish: their mean; `notes` say how it was made.

    Runs that go on from each other lie in one valley of the loss, and their mean is often more right about what
    neither was taught than both are ("model soups", Wortsman et al. 2022). A file from before the first readout has
    none: then it is that of the others. Raises ValueError, naming the file, where they are not of the same weights.
    """
    runs = [(path, read_learnt(path)) for path in learnt]
    readouts = [(path, {name: one for name, one in own.items() if name.startswith(READOUT)}) for path, own in runs]
    others = [(path, {name: one for name, one in own.items() if not name.startswith(READOUT)}) for path, own in runs]
    mean = _mean(others) | _mean([(path, readout) for path, readout in readouts if readout])
    save_file({name: tensor.to(torch.float16) for name, tensor in mean.items()}, to, metadata=dict(notes))
    to.chmod(0o644)  # safetensors' own are readable by their owner only


def read_learnt(path: Path) -> dict[str, Tensor]:
    """What a training run goes on from: the file of another run, or a release, as the learner takes it."""
    return {name: tensor.float() for name, tensor in load_file(path).items()}


def write_tuned(base: Path, release: Path, folder: Path) -> None:
    """The base model's checkpoint with what was learnt in it, as a checkpoint of its own, float16.

    Raises ValueError, naming the file, for a release that was made on another base.
    """
    model = load_model(ModelConfig(checkpoint=str(base), dtype="float16")).model
    learnt = load_file(release)
    translating = {name: one for name, one in learnt.items() if name.startswith((PROJECTOR, READOUT))}
    additions = {name: one for name, one in learnt.items() if name not in translating}
    if any(name.startswith(READOUT) for name in translating):
        model.readout = Readout(model.config.language.width).to(torch.float16)
    try:
        model.load({**merged(model.state_dict(), additions), **translating})
    except ValueError as error:
        raise ValueError(f"{release}: {error}") from None
    save(model, folder, origin=base)


def _mean(runs: Sequence[tuple[Path, Mapping[str, Tensor]]]) -> dict[str, Tensor]:
    """Of each weight over all runs, which are of the same weights; nothing of no run."""
    if not runs:
        return {}
    (path, first), *others = runs
    for other, learnt in others:
        if _shapes(learnt) != _shapes(first):
            raise ValueError(f"{other}: its weights are not those of {path}; only runs of one model have a mean")
    return {name: torch.stack([learnt[name] for _, learnt in runs]).mean(0) for name in first}


def _shapes(learnt: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in learnt.items()}
