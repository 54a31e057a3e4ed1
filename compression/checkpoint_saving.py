"""Decides how a model is written: the published layout, so that whatever reads such checkpoints reads ours."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from uuid import uuid4

from safetensors.torch import save_file
from torch import Tensor

from standwatch.compression.checkpoint_config import CONFIG, GENERATION, config_json
from standwatch.compression.checkpoint_files import ADDITIONS, INDEX, SINGLE
from standwatch.compression.checkpoint_layout import READOUT
from standwatch.compression.json_files import json_object
from standwatch.compression.tokenizer import TOKENIZER_FILES
from standwatch.compression.xcomp import XComp

SHARD_BYTES = 5 * 10**9
_FORMAT = {"format": "pt"}  # other readers of safetensors ask for it


def save(
    model: XComp,
    folder: Path,
    *,
    origin: Path | None = None,
    untrained: Sequence[str] = (),
    max_shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write all weights, in their precision, with a config.json to load them again; the tied head is left out.

    `origin` is the folder of the checkpoint the model came from: tokenizer, generation settings and what its
    config.json says besides shapes are taken over. `untrained` names the parts whose weights mean nothing yet: whoever
    loads the model is told, and it is not taken over from the origin. One file up to `max_shard_bytes`, else shards
    of at most that, or of one larger weight, with an index. The folder is there complete or not at all, whatever
    happens meanwhile; it must be new or empty. Raises ValueError if it is not, and OSError if it cannot be written.
    """
    if max_shard_bytes < 1:
        raise ValueError(f"max_shard_bytes: {max_shard_bytes} must be at least 1")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"folder: {folder} is not empty; name a new one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{uuid4().hex}")
    unfinished.mkdir()
    try:
        _write_config(model, origin, untrained, unfinished)
        _write_weights(model.state_dict(), unfinished, max_shard_bytes)
        for path in unfinished.iterdir():
            path.chmod((unfinished / CONFIG).stat().st_mode)  # safetensors' own are readable by their owner only
            _sync(path)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    _sync(folder.parent)


def _write_config(model: XComp, origin: Path | None, untrained: Sequence[str], folder: Path) -> None:
    known: Mapping[str, object] = {}
    if origin is not None:
        known = json_object(origin / CONFIG)
        for name in (GENERATION, *TOKENIZER_FILES):
            if (origin / name).is_file():
                shutil.copyfile(origin / name, folder / name)
    _write_json(folder / CONFIG, {**known, **config_json(model.config, untrained)})


def _write_weights(weights: Mapping[str, Tensor], folder: Path, max_shard_bytes: int) -> None:
    published = {name: weight for name, weight in weights.items() if not name.startswith(READOUT)}
    shards = list(_shards(published, max_shard_bytes))
    names = [SINGLE]
    if len(shards) > 1:
        names = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        _write_tensors(folder / name, shard)
    if len(shards) > 1:
        places = {weight: name for name, shard in zip(names, shards, strict=True) for weight in shard}
        total = sum(weight.nbytes for weight in published.values())
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})
    if additions := {name: weight for name, weight in weights.items() if name not in published}:
        _write_tensors(folder / ADDITIONS, additions)


def _shards(weights: Mapping[str, Tensor], max_bytes: int) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    size = 0
    for name, weight in weights.items():
        if shard and size + weight.nbytes > max_bytes:
            yield shard
            shard, size = {}, 0
        shard[name] = weight
        size += weight.nbytes
    yield shard


def _write_tensors(path: Path, weights: Mapping[str, Tensor]) -> None:
    save_file({name: weight.detach().contiguous() for name, weight in weights.items()}, path, metadata=_FORMAT)


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
