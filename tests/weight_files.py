"""Weights as others store them, at a size that costs nothing: a GGUF, an ONNX graph, and wheels that carry them."""

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import dequantize, quantize
from onnx import TensorProto, helper, numpy_helper
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor

from standwatch.actors.weights_source import Wheel
from standwatch.compression.dinov2 import LEARNT_SIDE
from standwatch.compression.lpcomp import Decoder
from standwatch.configs.schema import LanguageConfig, VisionConfig

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("t h", "th e", "Ġ the", "1 2", "i n")
TOKENS = (*CONTROL, *sorted(ByteLevel.alphabet()), "th", "the", "Ġthe", "12", "in")
LANGUAGE = LanguageConfig(
    layers=6,
    width=32,
    mlp_width=64,
    heads=4,
    kv_heads=2,
    head_dim=16,
    vocab=len(TOKENS),
    rope_theta=100_000.0,
    rms_eps=1e-5,
    qkv_bias=False,
    positions=512,
)
VISION = VisionConfig(
    tower="dinov2", image_px=16, patch_px=4, width=16, heads=2, blocks=2, mlp_width=24, frames_per_clip=4
)
_NAMES = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@dataclass
class Gguf:
    """What goes into a GGUF file; tests change what they are about."""

    architecture: str = "llama"
    weights: dict[str, Tensor] = field(default_factory=lambda: language_weights())
    extra: dict[str, Tensor] = field(default_factory=dict)  # under their names in the file
    tokens: Sequence[str] = TOKENS
    types: Sequence[int] = (TokenType.CONTROL,) * len(CONTROL) + (TokenType.NORMAL,) * (len(TOKENS) - len(CONTROL))
    merges: Sequence[str] = MERGES
    cut: str = "smollm"
    scaling: bool = False

    def write(self, path: Path) -> dict[str, Tensor]:
        """The file; and the weights that it stands for, rounded as it stores them, under our names."""
        writer = GGUFWriter(path, self.architecture)
        writer.add_block_count(LANGUAGE.layers)
        writer.add_context_length(LANGUAGE.positions)
        writer.add_embedding_length(LANGUAGE.width)
        writer.add_feed_forward_length(LANGUAGE.mlp_width)
        writer.add_head_count(LANGUAGE.heads)
        writer.add_head_count_kv(LANGUAGE.kv_heads)
        writer.add_rope_dimension_count(LANGUAGE.head_dim)
        writer.add_rope_freq_base(LANGUAGE.rope_theta)
        writer.add_layer_norm_rms_eps(LANGUAGE.rms_eps)
        if self.scaling:
            writer.add_rope_scaling_factor(2.0)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.cut)
        writer.add_token_list(list(self.tokens))
        writer.add_token_types(list(self.types))
        writer.add_token_merges(list(self.merges))
        writer.add_eos_token_id(0)
        rounded = {}
        for name, weight in self.weights.items():
            rounded[name] = _stored(writer, name, weight)
        for name, weight in self.extra.items():
            writer.add_tensor(name, weight.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return rounded


def language_weights() -> dict[str, Tensor]:
    """A decoder's weights, no two alike."""
    generator = torch.Generator().manual_seed(5)
    shapes = {name: weight.shape for name, weight in Decoder(LANGUAGE).state_dict().items()}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def paired(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q or k as llama.cpp's converter reorders them (the formula of its `permute`)."""
    return rows.reshape(heads, 2, len(rows) // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def _stored(writer: GGUFWriter, name: str, weight: Tensor) -> Tensor:
    layer, _, rest = name.removeprefix("layers.").partition(".") if name.startswith("layers.") else ("", "", name)
    stored = f"blk.{layer}." if layer else ""
    stored += f"{_NAMES[rest.removesuffix('.weight')]}.weight"
    values = weight.numpy()
    kind = GGMLQuantizationType.F32
    if weight.dim() > 1:
        kind = GGMLQuantizationType.Q8_0 if stored == "token_embd.weight" else GGMLQuantizationType.Q4_1
        packed = quantize(values, kind)
        rounded = torch.from_numpy(dequantize(packed, kind))
        heads = {"attn_q": LANGUAGE.heads, "attn_k": LANGUAGE.kv_heads}.get(_NAMES[rest.removesuffix(".weight")])
        if heads is not None:  # whole rows change places, so what they are rounded to stays
            packed = quantize(np.ascontiguousarray(paired(values, heads)), kind)
        writer.add_tensor(stored, packed, raw_dtype=kind)
        return rounded
    writer.add_tensor(stored, values)
    return weight


def tower_weights(config: VisionConfig = VISION) -> dict[str, Tensor]:
    """A tower's weights by the modules' names in transformers, no two alike."""
    generator = torch.Generator().manual_seed(6)
    width, inner = config.width, config.mlp_width
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.position_embeddings": (1, 1 + LEARNT_SIDE**2, width),
        "embeddings.patch_embeddings.projection.weight": (width, 3, config.patch_px, config.patch_px),
        "embeddings.patch_embeddings.projection.bias": (width,),
        "layernorm.weight": (width,),
        "layernorm.bias": (width,),
    }
    for block in range(config.blocks):
        at = f"encoder.layer.{block}."
        for norm in ("norm1", "norm2"):
            shapes |= {f"{at}{norm}.weight": (width,), f"{at}{norm}.bias": (width,)}
        for part in ("attention.attention.query", "attention.attention.key", "attention.attention.value"):
            shapes |= {f"{at}{part}.weight": (width, width), f"{at}{part}.bias": (width,)}
        shapes |= {f"{at}attention.output.dense.weight": (width, width), f"{at}attention.output.dense.bias": (width,)}
        shapes |= {f"{at}mlp.fc1.weight": (inner, width), f"{at}mlp.fc1.bias": (inner,)}
        shapes |= {f"{at}mlp.fc2.weight": (width, inner), f"{at}mlp.fc2.bias": (width,)}
        shapes |= {f"{at}layer_scale1.lambda1": (width,), f"{at}layer_scale2.lambda1": (width,)}
    return {name: torch.randn(shape, generator=generator) * shape[-1] ** -0.5 for name, shape in shapes.items()}


def write_onnx(path: Path, weights: Mapping[str, Tensor], external: bool = False) -> None:
    """A graph as PyTorch's exporter leaves it: matrices transposed under numbers, positions cut in two, a head on top.

    Its nodes say who uses what; it is not meant to run.
    """
    initialisers, nodes = [], []

    def constant(name: str, values: Tensor) -> str:
        initialisers.append(numpy_helper.from_array(values.contiguous().numpy(), name))
        return name

    for name, weight in weights.items():
        module, kind = name.rsplit(".", 1)
        scope = "/backbone/" + module.replace(".", "/")
        if name == "embeddings.position_embeddings":
            first, rest = constant("onnx::Concat_1957", weight[:, :1]), constant("onnx::Reshape_1962", weight[:, 1:])
            nodes.append(helper.make_node("Reshape", [rest, "shape"], ["grid"], name=f"{scope}/Reshape_1"))
            nodes.append(helper.make_node("Concat", [first, "grid"], ["table"], name=f"{scope}/Concat_6", axis=1))
        elif weight.dim() == 2:
            number = constant(f"onnx::MatMul_{len(initialisers)}", weight.T)
            nodes.append(helper.make_node("MatMul", ["rows", number], [f"{scope}/product"], name=f"{scope}/MatMul"))
        else:
            kept = constant(f"backbone.{name}", weight)
            nodes.append(helper.make_node("Add", ["rows", kept], [f"{scope}/{kind}"], name=f"{scope}/Add"))
    head = constant("onnx::MatMul_9", torch.ones(2, 2))
    constant("decoder.final_conv.bias", torch.ones(1))
    nodes.append(helper.make_node("MatMul", ["rows", head], ["output"], name="/decoder/MatMul"))
    if external:
        initialisers[0].data_location = TensorProto.EXTERNAL
        initialisers[0].ClearField("raw_data")
        initialisers[0].external_data.add(key="location", value="elsewhere.bin")
    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, None)
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
    path.write_bytes(
        helper.make_model(helper.make_graph(nodes, "tower", [rows], [output], initialisers)).SerializeToString()
    )


def write_wheel(folder: Path, package: str, content: bytes, member: str = "weights.bin", version: str = "1.2") -> Wheel:
    """A wheel that carries one file; how it is asked for."""
    file = f"{package}-{version}-py3-none-any.whl"
    about = f"{package}-{version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    held = {
        f"{package}/__init__.py": b"raise SystemExit('a wheel was run')\n",
        f"{package}/{member}": content,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode(),
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": b"",
    }
    with zipfile.ZipFile(folder / file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in held.items():  # without a date: the same content makes the same file
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    whole = (folder / file).read_bytes()
    return Wheel(
        package=package,
        version=version,
        file=file,
        bytes=len(whole),
        sha256=hashlib.sha256(whole).hexdigest(),
        member=f"{package}/{member}",
        member_bytes=len(content),
    )
