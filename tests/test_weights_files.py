"""Reading what others stored: every weight under our name, every shape and token, and nothing that would be another."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import TokenType

from standwatch.compression.decoder import rotary_frequencies, rotate
from standwatch.compression.dinov2 import FrameTower
from standwatch.compression.gguf_weights import halves, read_gguf
from standwatch.compression.lpcomp import Decoder
from standwatch.compression.onnx_weights import read_onnx
from standwatch.compression.tokenizer import TextTokenizer
from standwatch.compression.xcomp import load_strictly
from tests.weight_files import LANGUAGE, TOKENS, VISION, Gguf, paired, tower_weights, write_onnx

HEADS, HALF = 3, 4


def test_a_language_model_is_read_with_its_shape_and_every_weight(tmp_path: Path) -> None:
    stored = Gguf().write(tmp_path / "model.gguf")
    found = read_gguf(tmp_path / "model.gguf")
    assert found.config == LANGUAGE
    assert found.eos_id == 0
    assert found.weights.keys() == stored.keys()
    for name, weight in stored.items():
        assert found.weights[name].dtype == torch.float32
        torch.testing.assert_close(found.weights[name], weight, rtol=0, atol=0, msg=name)
    load_strictly(Decoder(found.config), found.weights)


def test_weights_do_not_change_with_the_file_they_came_from(tmp_path: Path) -> None:
    stored = Gguf().write(tmp_path / "model.gguf")
    found = read_gguf(tmp_path / "model.gguf")
    with (tmp_path / "model.gguf").open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(0)
        file.write(bytes(size))
    assert torch.equal(found.weights["norm.weight"], stored["norm.weight"])


def test_queries_and_keys_meet_as_in_llama_cpp() -> None:
    """There each pair of neighbours is turned; here a row and the one half a head further. Products are the same."""
    generator = np.random.default_rng(1)
    at_home = generator.normal(size=(HEADS * 2 * HALF, 5)).astype(np.float32)  # as its makers have it
    stored = paired(at_home, HEADS)
    back = halves(torch.from_numpy(stored), HEADS)
    assert back.tolist() == at_home.tolist()
    inputs = generator.normal(size=(2, 5)).astype(np.float32)
    frequencies = rotary_frequencies(2 * HALF, 10_000.0, torch.float32)
    theirs, ours = [], []
    for position, row in zip((3, 11), inputs, strict=True):
        neighbours = (stored @ row).reshape(HEADS, HALF, 2)
        turned = (neighbours[..., 0] + 1j * neighbours[..., 1]) * np.exp(1j * position * frequencies.numpy())
        theirs.append(turned)
        angles = torch.cat((frequencies, frequencies)) * position
        heads = (back @ torch.from_numpy(row)).view(HEADS, 2 * HALF)
        ours.append(rotate(heads, angles.cos(), angles.sin()))
    expected = (theirs[0] * theirs[1].conj()).real.sum(-1)
    torch.testing.assert_close((ours[0] * ours[1]).sum(-1), torch.from_numpy(expected).float())


def test_text_becomes_tokens_with_digits_apart_and_markers_whole(tmp_path: Path) -> None:
    Gguf().write(tmp_path / "model.gguf")
    tokenizer = TextTokenizer(read_gguf(tmp_path / "model.gguf").tokenizer)
    assert (tokenizer.im_start_id, tokenizer.im_end_id, tokenizer.vocab_size) == (1, 2, len(TOKENS))
    text = "<|im_start|>the the 12in<|im_end|>"
    tokens = [TOKENS[token_id] for token_id in tokenizer.encode(text)]
    assert tokens == ["<|im_start|>", "the", "Ġthe", "Ġ", "1", "2", "in", "<|im_end|>"]
    for words in ("naïve 你好 😀", "  two  spaces\n\tand a tab ", "½ ٣ x_1"):
        assert tokenizer.decode(tokenizer.encode(words)) == words


@pytest.mark.parametrize(
    ("gguf", "problem"),
    [
        (Gguf(architecture="qwen2"), "general.architecture: 'qwen2' is not known here, only 'llama' is"),
        (Gguf(scaling=True), "llama.rope.scaling.factor: scaled positions are not known here"),
        (Gguf(extra={"output.weight": torch.ones(4, 4)}), "output.weight: is not known here; the head of ours is the"),
        (Gguf(extra={"blk.0.attn_q.bias": torch.ones(4)}), "blk.0.attn_q.bias: is not known here; only weights of"),
        (Gguf(extra={"rope_freqs.weight": torch.ones(4)}), "rope_freqs.weight: is not known here; only weights of"),
        (Gguf(cut="llama-bpe"), "tokenizer.ggml.pre: 'llama-bpe' is not known here, only 'smollm' is"),
        (Gguf(types=(TokenType.BYTE,) * len(TOKENS)), "tokenizer.ggml.token_type: must call each token normal or"),
        (Gguf(types=(TokenType.NORMAL,)), "tokenizer.ggml.token_type: must call each token normal or"),
        (Gguf(merges=("t h", "th at")), "tokenizer.ggml.merges: do not fit the tokens"),
    ],
)
def test_a_language_model_that_would_become_another_is_refused(tmp_path: Path, gguf: Gguf, problem: str) -> None:
    path = tmp_path / "model.gguf"
    gguf.write(path)
    with pytest.raises(ValueError) as refusal:
        read_gguf(path)
    assert str(refusal.value).startswith(f"{path}: {problem}")


def test_a_weight_that_is_missing_is_told_by_the_decoder(tmp_path: Path) -> None:
    gguf = Gguf()
    del gguf.weights["layers.3.mlp.up_proj.weight"]
    gguf.write(tmp_path / "model.gguf")
    found = read_gguf(tmp_path / "model.gguf")
    with pytest.raises(ValueError, match=r"1 missing.* layers\.3\.mlp\.up_proj\.weight"):
        load_strictly(Decoder(found.config), found.weights)


@pytest.mark.parametrize("kept", [0, 3, 100, 5_000, -20])
def test_a_gguf_that_is_cut_short_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "model.gguf"
    Gguf().write(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"model\.gguf: "):
        read_gguf(path)


def test_a_tower_is_read_with_every_weight(tmp_path: Path) -> None:
    theirs = {f"backbone.{name}": weight for name, weight in tower_weights().items()}
    write_onnx(tmp_path / "tower.onnx", tower_weights())
    found = read_onnx(tmp_path / "tower.onnx")
    load_strictly(FrameTower(VISION), found)
    positions = theirs["backbone.embeddings.position_embeddings"][0]
    assert torch.equal(found["class_token"], theirs["backbone.embeddings.cls_token"][0, 0])
    assert torch.equal(found["class_position"], positions[0])
    assert torch.equal(found["patch_positions"], positions[1:])
    patch = "backbone.embeddings.patch_embeddings.projection"
    for kind in ("weight", "bias"):
        assert torch.equal(found[f"patch_embed.{kind}"], theirs[f"{patch}.{kind}"])
        assert torch.equal(found[f"norm.{kind}"], theirs[f"backbone.layernorm.{kind}"])
        for block in range(VISION.blocks):
            at = f"backbone.encoder.layer.{block}."
            fused = [theirs[f"{at}attention.attention.{part}.{kind}"] for part in ("query", "key", "value")]
            assert torch.equal(found[f"blocks.{block}.attention.qkv.{kind}"], torch.cat(fused))
            for ours, name in (("attention.out", "attention.output.dense"), ("mlp.fc1",) * 2, ("mlp.fc2",) * 2):
                assert torch.equal(found[f"blocks.{block}.{ours}.{kind}"], theirs[f"{at}{name}.{kind}"])
            for norm in ("norm1", "norm2"):
                assert torch.equal(found[f"blocks.{block}.{norm}.{kind}"], theirs[f"{at}{norm}.{kind}"])
    for block in range(VISION.blocks):
        for number in (1, 2):
            scale = theirs[f"backbone.encoder.layer.{block}.layer_scale{number}.lambda1"]
            assert torch.equal(found[f"blocks.{block}.scale{number}.weight"], scale)


def test_a_tower_that_lacks_a_weight_or_has_another_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tower.onnx"
    weights = tower_weights()
    query = weights.pop("encoder.layer.1.attention.attention.query.weight")
    write_onnx(path, weights)
    with pytest.raises(ValueError, match=r"tower\.onnx: backbone\.encoder\.layer\.1\..*query\.weight: missing"):
        read_onnx(path)
    weights["encoder.layer.1.attention.attention.query.weight"] = query
    write_onnx(path, {**weights, "embeddings.register_tokens": torch.ones(1, 4, 16)})
    with pytest.raises(ValueError, match=r"tower\.onnx: backbone\.embeddings\.register_tokens: unknown here"):
        read_onnx(path)


def test_a_tower_whose_weights_lie_elsewhere_is_refused(tmp_path: Path) -> None:
    write_onnx(tmp_path / "tower.onnx", tower_weights(), external=True)
    with pytest.raises(ValueError, match="lies in another file"):
        read_onnx(tmp_path / "tower.onnx")


@pytest.mark.parametrize("content", [b"no graph at all", b""])
def test_what_is_no_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tower.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=r"tower\.onnx: "):
        read_onnx(tmp_path / "tower.onnx")
