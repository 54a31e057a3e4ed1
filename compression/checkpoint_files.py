"""Decides which files a checkpoint consists of, and how much of them is in memory at once while they are read.

A file is mapped, never read as a whole, and mapped anew after every `MAPPED_BYTES` of it: mapped pages that were read
count as this process's memory until the map is gone. Nothing that is handed out may be kept; whoever needs it copies
it, so that a file which is replaced later changes nothing.
"""

import pickle
import re
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from standwatch.compression.checkpoint_config import folder_of
from standwatch.compression.checkpoint_layout import Shape
from standwatch.compression.json_files import json_object

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ADDITIONS = "standwatch.safetensors"  # weights that the published layout has no place for
MAPPED_BYTES = 32 * 2**20
_FORMATS = ((SINGLE, INDEX), ("pytorch_model.bin", "pytorch_model.bin.index.json"))
_SAFETENSORS = ".safetensors"
_SUFFIXES = (_SAFETENSORS, ".bin", ".pt", ".pth")

Stamp: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True)
class StoredWeight:
    """A weight on disk, under the name it has there. `stamp` says which version of the file was looked at."""

    file: Path
    name: str
    shape: Shape
    dtype: torch.dtype
    stamp: Stamp


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds; `additions` are weights that the published layout has no place for, often none."""

    path: Path
    weights: Mapping[str, StoredWeight]
    additions: Mapping[str, StoredWeight]


def open_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in a folder, or in one file; safetensors where a folder has both formats.

    Raises ValueError, naming the file and the fix, if there is nothing to load or it cannot be read. Code that a
    pickle asks for is never run.
    """
    if not path.exists():
        raise ValueError(f"checkpoint: {path} is not there; name a folder or a file of weights")
    if not path.is_dir() and path.suffix not in _SUFFIXES:
        raise ValueError(f"checkpoint: {path} is no file of weights ({', '.join(_SUFFIXES)}); name its folder")
    weights = _folder(path) if path.is_dir() else _contents(path)
    additions = folder_of(path) / ADDITIONS
    return Checkpoint(path, weights, _contents(additions) if additions.is_file() else {})


def portions(weights: Mapping[str, StoredWeight]) -> Iterator[tuple[str, slice, Tensor]]:
    """(key, rows, values of these rows) until every row of every weight was handed out, file by file.

    Values are valid until the next ones are asked for. Raises ValueError if a file changed since it was looked at.
    """
    files: dict[Path, list[_Piece]] = {}
    for key, weight in weights.items():
        files.setdefault(weight.file, []).extend(_pieces(key, weight))
    for pieces in files.values():
        for batch in _batches(pieces):
            yield from _mapped(batch)


@dataclass(frozen=True)
class _Piece:
    key: str
    weight: StoredWeight
    rows: slice
    bytes: int


def _pieces(key: str, weight: StoredWeight) -> Iterator[_Piece]:
    rows, row_bytes = weight.shape[0], prod(weight.shape[1:]) * weight.dtype.itemsize
    step = max(1, MAPPED_BYTES // max(1, row_bytes))
    for start in range(0, rows, step):
        end = min(start + step, rows)
        yield _Piece(key, weight, slice(start, end), (end - start) * row_bytes)


def _batches(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    """Neighbours whose bytes together fit what may be mapped."""
    batch: list[_Piece] = []
    size = 0
    for piece in pieces:
        if batch and size + piece.bytes > MAPPED_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(piece)
        size += piece.bytes
    if batch:
        yield batch


def _mapped(batch: list[_Piece]) -> Iterator[tuple[str, slice, Tensor]]:
    path, stamp = batch[0].weight.file, batch[0].weight.stamp
    tensors = _open(path, {piece.weight.name for piece in batch})
    _check_unchanged(path, stamp)
    for piece in batch:
        tensor = tensors[piece.weight.name]
        assert isinstance(tensor, Tensor), "the file is the one whose contents were checked"
        yield piece.key, piece.rows, tensor[piece.rows]
    _check_unchanged(path, stamp)


def _folder(folder: Path) -> dict[str, StoredWeight]:
    for single, index in _FORMATS:
        if (folder / single).is_file():
            return _contents(folder / single)
        if (folder / index).is_file():
            return _sharded(folder / index)
    held = sorted(item.name for item in folder.iterdir())
    raise ValueError(
        f"checkpoint: {folder} holds no weights; expected {', '.join(name for names in _FORMATS for name in names)}, "
        f"found {', '.join(held[:10]) or 'nothing'}{' and more' if len(held) > 10 else ''}"
    )


def _contents(path: Path) -> dict[str, StoredWeight]:
    stamp = _stamp(path)
    found = {}
    for name, tensor in _open(path).items():
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            kind = tensor.layout if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ValueError(f"checkpoint: {path}: {name} is a {kind}, no dense tensor; save a model's state_dict()")
        found[name] = StoredWeight(path, name, tuple(tensor.shape), tensor.dtype, stamp)
    return found


def _sharded(index: Path) -> dict[str, StoredWeight]:
    places = json_object(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(_is_name(file) for file in places.values()):
        raise ValueError(f"checkpoint: {index}: weight_map does not name a file of the folder per weight; copy it anew")
    files = sorted(set(places.values()))
    absent = [file for file in files if not (index.parent / file).is_file()]
    if absent:
        raise ValueError(f"checkpoint: {index} names {', '.join(absent)}, which is not there; copy all of its files")
    shards = {file: _contents(index.parent / file) for file in files}
    astray = [f"{name} in {file}" for name, file in places.items() if name not in shards[file]]
    if astray:
        more = f" and {len(astray) - 20} more" if len(astray) > 20 else ""
        raise ValueError(
            f"checkpoint: {index} looks for {', '.join(astray[:20])}{more} in vain; "
            "copy index and shards anew from the same place"
        )
    return {name: shards[file][name] for name, file in places.items()}


def _is_name(file: object) -> bool:
    """A file right in the folder, so that an index cannot point anywhere else."""
    return isinstance(file, str) and Path(file).name == file and Path(file).suffix in _SUFFIXES


def _open(path: Path, wanted: Collection[str] | None = None) -> Mapping[str, object]:
    """What a file holds, mapped: no value is read before it is used. At least what is `wanted` of it, or everything."""
    try:
        if path.suffix == _SAFETENSORS:
            with safe_open(path, framework="pt") as file:
                # Each tensor that is asked for maps its first page.
                return {name: file.get_tensor(name) for name in wanted or file.keys()}
        if not zipfile.is_zipfile(path):
            raise ValueError("no archive of torch.save since version 1.6, or cut short")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        called = re.search(r"GLOBAL (\S+)", str(error))
        raise ValueError(
            f"checkpoint: {path} holds more than weights{f' ({called[1]})' if called else ''} and was refused, "
            "because loading it would run code; get the weights as safetensors"
        ) from None
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, EOFError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise ValueError(f"checkpoint: {path} cannot be read ({reason}); copy it anew") from None
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"checkpoint: {path} holds no weights by name; save a model's state_dict()")
    return content


def _stamp(path: Path) -> Stamp:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _check_unchanged(path: Path, stamp: Stamp) -> None:
    if not path.is_file() or _stamp(path) != stamp:
        raise ValueError(f"checkpoint: {path} changed while it was loaded; load again when it is complete")
