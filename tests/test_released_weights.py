"""The small file that comes with Standwatch: what is in it, that it fits its base, how large it is, how it is run."""

import re
from pathlib import Path

from safetensors import safe_open

from standwatch.actors.base_weights import BASE
from standwatch.actors.tuned_weights import RELEASE, demo_settings, fastest
from standwatch.compression.checkpoint_layout import LANGUAGE, PROJECTOR, READOUT, TOWER
from standwatch.configs.load import load_config

LAYERS, WIDTH, KV_WIDTH, MLP_WIDTH = 30, 576, 192, 1536
CELL = 2 * BASE.tower.feature_width  # mean and deviation
SHAPES = {
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (KV_WIDTH, WIDTH),
    "self_attn.v_proj": (KV_WIDTH, WIDTH),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (MLP_WIDTH, WIDTH),
    "mlp.up_proj": (MLP_WIDTH, WIDTH),
    "mlp.down_proj": (WIDTH, MLP_WIDTH),
}
VISION_WIDTH, VISION_MLP_WIDTH = BASE.tower.width, BASE.tower.mlp_width
VISION_SHAPES = {
    "attention.qkv": (3 * VISION_WIDTH, VISION_WIDTH),
    "attention.out": (VISION_WIDTH, VISION_WIDTH),
    "mlp.fc1": (VISION_MLP_WIDTH, VISION_WIDTH),
    "mlp.fc2": (VISION_WIDTH, VISION_MLP_WIDTH),
}


def shapes() -> dict[str, tuple[int, ...]]:
    with safe_open(RELEASE, framework="np") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (not a mapping)


def test_it_holds_projector_and_readout_and_an_addition_for_every_linear_layer_that_learns() -> None:
    found = shapes()
    projector = {name: shape for name, shape in found.items() if name.startswith(PROJECTOR)}
    expected = [(WIDTH, CELL), (WIDTH,), (WIDTH, WIDTH), (WIDTH,), (CELL,), (CELL,)]
    assert sorted(projector.values()) == sorted(expected)
    readout = {name: shape for name, shape in found.items() if name.startswith(READOUT)}
    assert sorted(readout.values()) == sorted([(WIDTH, WIDTH)] * 2 + [(WIDTH,)] * 4)
    rank = found["model.layers.0.self_attn.q_proj.weight.down"][0]
    linear = {f"{LANGUAGE}layers.{layer}.{part}": shape for layer in range(LAYERS) for part, shape in SHAPES.items()}
    learning = range(BASE.tower.taps[0], BASE.tower.taps[-1])
    linear |= {f"{TOWER}blocks.{block}.{part}": shape for block in learning for part, shape in VISION_SHAPES.items()}
    additions = {}
    for name, (rows, columns) in linear.items():
        additions[f"{name}.weight.down"] = (rank, columns)
        additions[f"{name}.weight.up"] = (rows, rank)
    assert {name: shape for name, shape in found.items() if name not in projector | readout} == additions


def test_a_cpu_without_native_bfloat16_watches_half_as_many_frames() -> None:
    without, native = (demo_settings(Path("small"), fastest({able: True})) for able in ("avx2", "avx512_bf16"))
    assert without == ["model.checkpoint=small", "model.dtype=float32", "decode.sample_fps=1"]
    assert native == ["model.checkpoint=small", "model.dtype=bfloat16"]
    assert load_config("demo", None, ()).decode.sample_fps == 2


def test_it_is_small_enough_to_come_along() -> None:
    assert RELEASE.stat().st_size <= 20e6


def test_what_made_it_is_written_beside_it() -> None:
    said = (Path(RELEASE).parent / "README.md").read_text(encoding="utf-8")
    assert re.search(r"train film .*\n.*train film .*\n.*train run align", said), "the commands, in their order"
    for part in ("seed", "Apache-2.0", "curve"):
        assert part in said
