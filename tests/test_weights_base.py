"""The real base weights, where `standwatch weights fetch` has brought them: they speak, and see what their makers' saw.

Token ids are those of llama.cpp for the same file. Features in tests/golden/dinov2.safetensors are those of the ONNX
graph itself (its metadata says how they were made); weights on disk are rounded to float16, hence the tolerance.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from standwatch.actors.base_weights import base_folder, held
from standwatch.compression.cells import describe_cells
from standwatch.compression.checkpoint import LoadedModel, load_model
from standwatch.compression.dinov2 import FrameTower
from standwatch.compression.generation import generate
from standwatch.compression.preprocess import preprocess
from standwatch.compression.schedule import runnable_schedule
from standwatch.configs.schema import ModelConfig
from tests.drawn_pictures import pictures

FOLDER = base_folder()
GOLDEN = Path(__file__).parent / "golden" / "dinov2.safetensors"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not FOLDER.exists(), reason=f"base weights are not in {FOLDER}; `standwatch weights fetch` gets them"
    ),
]


@pytest.fixture(scope="module")
def base() -> LoadedModel:
    return load_model(ModelConfig(checkpoint=str(held(FOLDER).folder), threads=2))


def said(base: LoadedModel, question: str) -> str:
    """The greedy answer: the whole prompt runs as frames of one token, which none is dropped of."""
    decoder = base.model.decoder
    prompt = f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n"
    rows = decoder.embed(base.tokenizer.encode(f"{prompt}<|im_start|>assistant\n"))
    whole = runnable_schedule(decoder.config.layers, 1, "suffix")
    appended = decoder.append([decoder.empty(whole, rows[:1], len(rows), room=24)], [rows[1:, None]])
    cache = appended.caches[0]

    def next_logits(token: int) -> torch.Tensor:
        nonlocal cache
        hidden, cache = decoder.extend(cache, decoder.embed([token]))
        return decoder.logits(hidden)[0]

    first = decoder.logits(appended.frames[0][-1])[0]
    stop = base.generation.eos_ids
    return base.tokenizer.decode(generate(first, next_logits, max_tokens=24, repetition_penalty=1.0, stop_ids=stop))


@pytest.mark.parametrize(
    ("question", "answer"), [("What is the capital of France?", "Paris"), ("What color is the sky?", "blue")]
)
def test_the_language_model_speaks(base: LoadedModel, question: str, answer: str) -> None:
    with torch.inference_mode():
        assert answer in said(base, question)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (
            "In 2026, 12345 people saw 3.14 cars",
            "788 216 34 32 34 38 28 216 33 34 35 36 37 701 3680 216 35 30 33 36 5989",
        ),
        ("It's they're I'LL don't we'd", "1589 506 502 2316 339 23 16421 1326 982 392 6737"),
        ("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n", "1 4093 198 19556 2 198 1 520 9531 198"),
        ("  two  spaces\n\n\ttab \r\n end   ", "216 827 216 5600 1116 197 15999 216 2738 1112 333"),
        (
            "naïve Ärger 你好 мир 😀 ½ ²",
            "3546 46494 5549 222 98 2008 216 18645 250 48392 138 41337 7872 9175 40303 218 216 16738 216 19133",
        ),
        ("a<|im_end|>b <|endoftext|> <repo_name>x", "81 2 82 216 0 216 3 104"),
        (
            "snake_case CamelCase x=1;y+=2 -- !!! ...",
            "48284 79 7544 5784 299 10802 1792 45 33 43 105 32657 34 3009 5728 10095 4563",
        ),
    ],
)
def test_text_becomes_the_tokens_that_llama_cpp_makes(base: LoadedModel, text: str, ids: str) -> None:
    assert base.tokenizer.encode(text) == [int(token) for token in ids.split()]
    assert base.tokenizer.vocab_size == base.model.config.language.vocab


def test_the_tower_sees_what_its_makers_graph_sees(base: LoadedModel) -> None:
    golden = load_file(GOLDEN)
    whole = FrameTower(replace(base.model.config.vision, taps=()))  # the graph gives what its last block leaves
    whole.load_state_dict(base.model.vision.state_dict())
    with torch.inference_mode():
        features = whole(preprocess(pictures(), 224)[None])
    features = features.view(2, 256, -1)
    for name, found in (
        ("cells", describe_cells(features, 16)[..., :384]),
        ("patches", features[:, [0, 100, 135, 255]]),
    ):
        error = (found - golden[name]).norm() / golden[name].norm()
        assert error < 2e-3, name


def test_the_projector_admits_that_nobody_trained_it(base: LoadedModel) -> None:
    assert base.weights == f"untrained projector in {FOLDER}"
