"""Reads a golden file (.safetensors with its .json beside it) and discovers what is in it.

The file is named by STANDWATCH_GOLDEN, by default the copy beside this module.
"""

import json
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from standwatch.compression.lpcomp import Decoder
from standwatch.compression.schedule import Schedule, runnable_schedule
from standwatch.compression.xcomp import VISION_PREFIXES, load_strictly
from standwatch.configs.schema import LanguageConfig

HERE = Path(__file__).parent
SHARED_MODEL = "model"


class GoldenFile:
    def __init__(self, path: Path) -> None:
        self.json: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
        self._file = safe_open(path, "pt")
        self.names: list[str] = sorted(self._file.keys())

    def cases(self, kind: str) -> list[Any]:
        """Cases of one kind as pytest parameters; one skipped parameter if the file has none."""
        found = self.json["cases"].get(kind) or []
        found = found if isinstance(found, list) else [found]
        return [pytest.param(case, id=str(case.get("tag", i))) for i, case in enumerate(found)] or absent(kind)

    def under(self, pattern: str) -> list[Any]:
        """Parts of the tensor names that `pattern`'s first group matches, as pytest parameters."""
        found = sorted({match[1] for name in self.names if (match := re.fullmatch(pattern, name))})
        return [pytest.param(part, id=part) for part in found] or absent(pattern)

    def tensor(self, name: str) -> Tensor:
        return self._file.get_tensor(name)

    def matches(self, pattern: str) -> list[re.Match[str]]:
        return [match for name in self.names if (match := re.fullmatch(pattern, name))]

    def weights(self, tag: str) -> dict[str, Tensor]:
        """The case's own weights, else those of its family, else the shared model's."""
        for owner in (tag, tag.split("/")[0], SHARED_MODEL):
            prefix = f"{owner}/weights/"
            found = {name.removeprefix(prefix): self.tensor(name) for name in self.names if name.startswith(prefix)}
            if found:
                return found
        raise KeyError(f"no weights for {tag}")

    def assert_close(self, actual: Tensor, expected: Tensor, kind: str = "hidden") -> None:
        text = self.json["tolerances"][kind]
        bounds = {name: float(value) for name, value in re.findall(r"(atol|rtol) ([\d.e-]+)", text)}
        assert bounds, f"tolerances.{kind} states no bound: {text}"
        torch.testing.assert_close(
            actual.to(expected.dtype), expected, atol=bounds.get("atol", 0), rtol=bounds.get("rtol", 0)
        )

    def language(self, tag: str) -> LanguageConfig:
        shape = self.json["llm_config"]
        return LanguageConfig(
            layers=shape["num_hidden_layers"],
            width=shape["hidden_size"],
            mlp_width=shape["intermediate_size"],
            heads=shape["num_attention_heads"],
            kv_heads=shape["num_key_value_heads"],
            head_dim=shape["head_dim"],
            vocab=shape["vocab_size"],
            rope_theta=shape["rope_theta"],
            rms_eps=shape["rms_norm_eps"],
            qkv_bias=shape["qkv_bias"],
        )

    def schedule(self, keep: str) -> Schedule:
        shape = self.json["llm_config"]
        return runnable_schedule(shape["num_hidden_layers"], shape["tokens_per_frame"], keep)

    def decoder(self, tag: str) -> Decoder:
        decoder = Decoder(self.language(tag))
        weights = {
            name.removeprefix("model."): tensor
            for name, tensor in self.weights(tag).items()
            if name != "lm_head.weight" and not name.startswith(VISION_PREFIXES)
        }
        load_strictly(decoder, weights)
        return decoder.requires_grad_(False)

    def ids(self, tag: str) -> list[int]:
        return self.tensor(f"{tag}/input_ids_with_placeholder").flatten().tolist()


def embed_mod_vocab(decoder: Decoder, ids: list[int]) -> Tensor:
    """Real token ids against the tiny vocabulary, as the reference was run (shim `vocab_mod`)."""
    return decoder.embed([token % decoder.config.vocab for token in ids])


def absent(kind: str) -> list[Any]:
    return [pytest.param(None, marks=pytest.mark.skip(reason=f"the golden file has no case of kind {kind}"))]


@lru_cache(maxsize=1)
def golden_file() -> GoldenFile:
    return GoldenFile(Path(os.environ.get("STANDWATCH_GOLDEN", HERE / "xcomp.safetensors")))
