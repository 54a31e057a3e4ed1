"""The layers of the design, enforced from the import statements: who may know whom, and who may know which library."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("actors", "compression", "configs", "pipeline")
MAY_KNOW = {
    "actors": set(FOLDERS),
    "compression": {"compression", "configs"},
    "configs": {"configs"},
    "pipeline": {"pipeline", "configs"},
}
SHELL_ONLY = {
    *("ray", "kafka", "mii", "deepspeed", "fastapi", "starlette", "uvicorn", "aiohttp", "httpx", "requests"),
    *("prometheus_client", "typer", "click", "rich"),
}
FOREIGN = {
    "actors": set[str](),
    "compression": SHELL_ONLY | {"pyarrow", "ffmpeg"},
    "configs": SHELL_ONLY | {"torch", "pyarrow", "numpy", "ffmpeg"},
    "pipeline": SHELL_ONLY | {"torch", "transformers", "safetensors"},
}
LOADER = Path("configs/load.py")  # the only reader of OmegaConf and of the environment
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv"}


def offences(path: Path, source: str) -> list[str]:
    """What in a module breaks the layers; `path` is relative to the repository and begins with the folder."""
    folder = path.parts[0]
    tree = ast.parse(source)
    found = []
    if not ast.get_docstring(tree):
        found.append("has no docstring at its top")
    for line, name in _imported(tree):
        root, _, rest = name.partition(".")
        ours = rest.partition(".")[0]
        if root == "":
            found.append(f"line {line}: a relative import")
        elif root in FOLDERS:
            found.append(f"line {line}: imports {name}; write standwatch.{name}")
        elif root == "standwatch" and ours in FOLDERS and ours not in MAY_KNOW[folder]:
            found.append(f"line {line}: {folder} may not know {ours}")
        elif root in FOREIGN[folder]:
            found.append(f"line {line}: {folder} may not know {root}")
        elif path != LOADER and (root == "omegaconf" or (root == "os" and rest in ENVIRONMENT)):
            found.append(f"line {line}: only {LOADER} may use {name}")
    if path != LOADER:
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT:
                found.append(f"line {node.lineno}: only {LOADER} may read the environment")
    return found


def _imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every imported name with its line, also inside functions and by `import_module`; relative ones begin with '.'."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                yield node.lineno, str(node.args[0].value)


def modules() -> list[Path]:
    return sorted(path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=str)
def test_a_module_knows_only_what_its_layer_may_know(path: Path) -> None:
    assert offences(path, (ROOT / path).read_text(encoding="utf-8")) == []


def test_every_file_name_is_used_once_and_says_something() -> None:
    names = [path.name for path in modules()]
    assert names, "there is nothing to check"
    assert [name for name, times in Counter(names).items() if times > 1] == []
    assert "utils.py" not in names
    assert "__init__.py" not in names, "the four folders are namespace packages"


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_is_part_of_the_package_by_a_relative_link(folder: str) -> None:
    link = ROOT / "standwatch" / folder
    assert link.is_symlink()
    assert link.readlink() == Path("..") / folder


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("pipeline/a.py", "import torch.nn as nn"),
        ("pipeline/a.py", "from standwatch import actors"),
        ("pipeline/a.py", "from standwatch.compression.lpcomp import Decoder"),
        ("pipeline/a.py", "def f():\n    import ray"),
        ("pipeline/a.py", "if TYPE_CHECKING:\n    from kafka import KafkaConsumer"),
        ("pipeline/a.py", "importlib.import_module('mii')"),
        ("pipeline/a.py", "from omegaconf import OmegaConf"),
        ("pipeline/a.py", "from .types import Chunk"),
        ("pipeline/a.py", "from . import types"),
        ("pipeline/a.py", "import pipeline.types"),
        ("compression/a.py", "import pyarrow as pa"),
        ("compression/a.py", "import standwatch.pipeline.types"),
        ("configs/a.py", "from standwatch.pipeline import types"),
        ("configs/schema.py", "from omegaconf import MISSING"),
        ("actors/a.py", "import os\nos.environ['HOME']"),
        ("actors/a.py", "from os import getenv"),
        ("actors/a.py", "import os\nos.getenv('HOME')"),
    ],
)
def test_an_offence_is_found(path: str, line: str) -> None:
    assert offences(Path(path), f'"""Decides."""\n{line}\n') != []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("pipeline/a.py", "from standwatch.configs.schema import MemoryConfig\nimport pyarrow as pa, os"),
        ("compression/a.py", "from standwatch.configs import schema\nimport torch"),
        ("actors/a.py", "import ray\nfrom standwatch.pipeline.types import Chunk"),
        ("configs/load.py", "import os\nfrom omegaconf import OmegaConf\nos.environ.get('HOME')"),
    ],
)
def test_what_the_layers_allow_is_no_offence(path: str, line: str) -> None:
    assert offences(Path(path), f'"""Decides."""\n{line}\n') == []


def test_a_module_without_a_docstring_is_an_offence() -> None:
    assert offences(Path("actors/a.py"), "import ray\n") == ["has no docstring at its top"]
