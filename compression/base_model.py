"""Decides how a base model is made: a stored language model, a stored vision tower, and a projector nobody trained.

Both parts are as their makers trained them. The projector between them is drawn from a seed, so the model reads and
writes English and makes nothing of what it is shown until it is trained; the checkpoint says so itself.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from standwatch.compression.checkpoint_config import CONFIG, GENERATION
from standwatch.compression.checkpoint_layout import LANGUAGE, PROJECTOR, TOWER
from standwatch.compression.checkpoint_saving import save
from standwatch.compression.gguf_weights import read_gguf
from standwatch.compression.onnx_weights import read_onnx
from standwatch.compression.tokenizer import WHOLE_FILE
from standwatch.compression.xcomp import build
from standwatch.configs.schema import ModelConfig, VisionConfig

SEED = 0  # of the projector


def write_base_model(
    gguf: Path,
    onnx: Path,
    folder: Path,
    *,
    vision: VisionConfig,
    tokens_per_frame: int,
    notes: Mapping[str, object],
) -> None:
    """Join both files into a checkpoint that `load_model` takes; `notes` are further keys of its config.json.

    `vision` is the shape of the tower, which its file does not tell in full. Weights are written as float16: as small
    as bfloat16, and the next word's distribution diverges 15 times less from what the weights as they came give
    (4.4e-6 against 6.7e-5 nat for SmolLM2); the largest of them is 37, of 65,504. The folder must be new or empty, and
    is there complete or not at all. Raises ValueError naming the file that cannot be used, what of it does not fit, or
    the folder; and OSError if that cannot be written.
    """
    language, tower = read_gguf(gguf), read_onnx(onnx)
    model = build(
        ModelConfig(
            vision=vision,
            language=language.config,
            tokens_per_frame=tokens_per_frame,
            frame_tokens=tokens_per_frame,
            seed=SEED,
        )
    )
    model.load(
        {name: weight for name, weight in model.state_dict().items() if name.startswith(PROJECTOR)}
        | {LANGUAGE + name: weight for name, weight in language.weights.items()}
        | {TOWER + name: weight for name, weight in tower.items()}
    )
    with TemporaryDirectory() as beside:
        origin = Path(beside)
        (origin / CONFIG).write_text(json.dumps(notes), encoding="utf-8")
        (origin / GENERATION).write_text(json.dumps({"eos_token_id": language.eos_id}), encoding="utf-8")
        language.tokenizer.save(str(origin / WHOLE_FILE))
        save(model.to(torch.float16), folder, origin=origin, untrained=("projector",))
