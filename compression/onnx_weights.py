"""Decides which initialiser of an exported DINOv2 (transformers' module names, ONNX) is which weight of our tower.

The exporter keeps the names of weights that it uses as they are. Those it transposed or cut in folding constants it
calls by a number, and the graph tells what they are: a matrix is the weight of the module whose product uses it, and
the vectors that the embeddings use are the positions of the class token (one) and of the patches (many). The file is
read, never run; what it holds besides the backbone is left alone.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper
from torch import Tensor

_BACKBONE, _EMBEDDINGS = "backbone.", "backbone.embeddings."
_NUMBERED = "onnx::"
_CLASS, _PATCHES = f"{_EMBEDDINGS}class_position", f"{_EMBEDDINGS}patch_positions"  # our names: the file has none
_WHOLE = {
    "patch_embed.weight": f"{_EMBEDDINGS}patch_embeddings.projection.weight",
    "patch_embed.bias": f"{_EMBEDDINGS}patch_embeddings.projection.bias",
    "class_token": f"{_EMBEDDINGS}cls_token",
    "class_position": _CLASS,
    "patch_positions": _PATCHES,
    "norm.weight": f"{_BACKBONE}layernorm.weight",
    "norm.bias": f"{_BACKBONE}layernorm.bias",
}
_MODULES = {
    "norm1": ("norm1",),
    "attention.qkv": ("attention.attention.query", "attention.attention.key", "attention.attention.value"),
    "attention.out": ("attention.output.dense",),
    "norm2": ("norm2",),
    "mlp.fc1": ("mlp.fc1",),
    "mlp.fc2": ("mlp.fc2",),
}
_OF_BLOCK = {
    **{f"{ours}.weight": [f"{one}.weight" for one in theirs] for ours, theirs in _MODULES.items()},
    **{f"{ours}.bias": [f"{one}.bias" for one in theirs] for ours, theirs in _MODULES.items()},
    "scale1.weight": ["layer_scale1.lambda1"],
    "scale2.weight": ["layer_scale2.lambda1"],
}


def read_onnx(path: Path) -> dict[str, Tensor]:
    """All weights of the tower in an ONNX file, under our names, as they were stored.

    Raises ValueError naming the file, and what is missing of a tower or unknown in it.
    """
    try:
        return _ours(_by_module(onnx.load(path, load_external_data=False).graph))
    except DecodeError:
        raise ValueError(f"{path}: is no ONNX file, or cut short; get it anew") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None


def _by_module(graph: onnx.GraphProto) -> dict[str, Tensor]:
    """The backbone's weights under the names that its modules give them."""
    stored = {weight.name: weight for weight in graph.initializer}
    found = {name: _tensor(weight) for name, weight in stored.items() if name.startswith(_BACKBONE)}
    for node in graph.node:
        module = node.name.strip("/").replace("/", ".").rpartition(".")[0]
        for name in node.input:
            if name not in stored or not name.startswith(_NUMBERED) or not f"{module}.".startswith(_BACKBONE):
                continue
            weight = _tensor(stored[name])
            if f"{module}." == _EMBEDDINGS:
                found[_CLASS if weight.shape[-2] == 1 else _PATCHES] = weight
            elif node.op_type == "MatMul":
                found[f"{module}.weight"] = weight.T
            else:
                raise ValueError(f"{node.name}: uses the constant {name}, which is no matrix of a product")
    return found


def _tensor(weight: onnx.TensorProto) -> Tensor:
    if weight.data_location == onnx.TensorProto.EXTERNAL:
        raise ValueError(f"{weight.name}: lies in another file; export the weights within the model")
    return torch.tensor(numpy_helper.to_array(weight))


def _ours(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    layers = {int(match[1]) for name in found if (match := re.match(rf"{_BACKBONE}encoder\.layer\.(\d+)\.", name))}
    wanted = {ours: [theirs] for ours, theirs in _WHOLE.items()}
    for layer in sorted(layers):
        for ours, theirs in _OF_BLOCK.items():
            wanted[f"blocks.{layer}.{ours}"] = [f"{_BACKBONE}encoder.layer.{layer}.{one}" for one in theirs]
    names = [one for theirs in wanted.values() for one in theirs]
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"{', '.join(missing[:20])}: missing; only DINOv2 as transformers names it is known here")
    if unknown := sorted(set(found) - set(names)):
        raise ValueError(f"{', '.join(unknown[:20])}: unknown here; only DINOv2 as transformers names it is known")
    weights = {ours: torch.cat([found[one] for one in theirs]) for ours, theirs in wanted.items()}
    for name in ("class_token", "class_position"):
        weights[name] = weights[name].flatten()  # [1, 1, W]
    weights["patch_positions"] = weights["patch_positions"].flatten(0, 1)  # [1, patches, W]
    return weights
