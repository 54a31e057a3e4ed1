"""Files of a checkpoint: found, mapped in portions, and refused by name when something is wrong with them."""

import json
import os
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from standwatch.compression.checkpoint_files import MAPPED_BYTES, open_checkpoint, portions
from tests.checkpoint_folder import write_weights

WEIGHTS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4), "c": torch.zeros(2, 2)}


class RunsCode:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._folder),)


def refusal(path: Path) -> str:
    with pytest.raises(ValueError, match=r"^checkpoint: ") as refused:
        open_checkpoint(path)
    text = str(refused.value)
    assert str(path) in text
    assert ";" in text  # what is wrong; what to do
    return text


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_large_weights_are_handed_out_in_portions_that_fit_the_limit(tmp_path: Path, kind: str) -> None:
    rows = MAPPED_BYTES // 4000 * 2 + 17
    weights = {
        "small": torch.arange(5.0),
        "large": torch.arange(rows * 1000.0).reshape(rows, 1000),
        "last": torch.ones(3),
    }
    write_weights(tmp_path, weights, kind)
    found = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    parts = 0
    for name, place, values in portions(open_checkpoint(tmp_path).weights):
        assert values.nbytes <= MAPPED_BYTES
        found[name][place] += values  # a row that came twice would show
        parts += 1
    assert parts == 5
    assert all(torch.equal(found[name], weight) for name, weight in weights.items())


def test_safetensors_are_preferred_where_both_formats_are(tmp_path: Path) -> None:
    write_weights(tmp_path, {"a": torch.ones(1)}, "bin")
    write_weights(tmp_path, {"a": torch.ones(2)}, "safetensors", 1)
    assert open_checkpoint(tmp_path).weights["a"].shape == (2,)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "not there" in refusal(tmp_path / "nowhere")


def test_a_folder_without_weights_says_what_it_expects_and_what_it_found(tmp_path: Path) -> None:
    assert "found nothing" in refusal(tmp_path)
    (tmp_path / "readme.md").write_text("hello")
    text = refusal(tmp_path)
    assert "found readme.md" in text
    assert "pytorch_model.bin.index.json" in text


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{}")
    assert "no file of weights" in refusal(path)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("kept", [0, 20, -50])
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, kind: str, kept: int) -> None:
    write_weights(tmp_path, WEIGHTS, kind)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:kept])
    assert f"{path} cannot be read" in refusal(tmp_path)


def test_a_pickle_that_wants_to_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.ones(1), "b": RunsCode(tmp_path / "ran")}, path)
    text = refusal(tmp_path)
    assert "mkdir" in text
    assert "safetensors" in text
    assert "weights_only" not in text  # torch's advice to switch the protection off is not passed on
    assert not (tmp_path / "ran").exists()


def test_a_pickle_of_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "pytorch_model.bin")
    assert "Linear" in refusal(tmp_path)


def test_the_old_format_of_torch_is_refused_with_its_reason(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert "1.6" in refusal(tmp_path)


def test_an_archive_of_torchscript_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "pytorch_model.bin"))
        assert "TorchScript" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"state_dict": {"a": torch.ones(1)}}, "state_dict is a dict"),
        ([torch.ones(1)], "no weights by name"),
        ({"a": torch.eye(2).to_sparse()}, "a is a torch.sparse_coo"),
    ],
)
def test_what_is_no_plain_weight_is_refused(tmp_path: Path, content: object, named: str) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    assert named in refusal(tmp_path)


def index_of(folder: Path) -> Path:
    write_weights(folder, WEIGHTS, shards=2)
    return folder / "model.safetensors.index.json"


def test_an_index_that_names_a_shard_that_is_not_there_is_refused(tmp_path: Path) -> None:
    index_of(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert "names model-00002-of-00002.safetensors, which is not there" in refusal(tmp_path)


def test_an_index_that_looks_for_a_weight_in_the_wrong_shard_is_refused(tmp_path: Path) -> None:
    index = index_of(tmp_path)
    places = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": {**places, "b": places["a"], "d": places["b"]}}))
    text = refusal(tmp_path)
    assert "b in model-00001-of-00002.safetensors" in text
    assert "d in model-00002-of-00002.safetensors" in text


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": "../other.safetensors"}}'],
)
def test_a_broken_index_is_refused(tmp_path: Path, content: str) -> None:
    index = index_of(tmp_path)
    index.write_text(content)
    assert str(index) in refusal(tmp_path)


def test_an_index_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "secret.safetensors")
    index = index_of(tmp_path / "folder")
    index.write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    assert "weight_map" in refusal(tmp_path / "folder")


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_file_that_changes_between_looking_and_reading_is_noticed(tmp_path: Path, kind: str) -> None:
    write_weights(tmp_path, WEIGHTS, kind)
    weights = open_checkpoint(tmp_path).weights
    write_weights(tmp_path, {name: weight + 1 for name, weight in WEIGHTS.items()}, kind)
    with pytest.raises(ValueError, match="changed while it was loaded"):
        next(portions(weights))  # before anything is handed out


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    write_weights(tmp_path, WEIGHTS)
    reading = portions(open_checkpoint(tmp_path).weights)
    next(reading)
    os.utime(tmp_path / "model.safetensors", ns=(1, 1))
    with pytest.raises(ValueError, match="changed while it was loaded"):
        list(reading)
