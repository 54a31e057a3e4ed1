"""What is installed is what is in the repository: wheel, source archive and editable install, through the links."""

import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("actors", "compression", "configs", "pipeline")
PARTS = (*FOLDERS, "standwatch", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
USE = (
    "import sys; sys.path.insert(0, sys.argv[1])\n"
    "import standwatch\n"
    "from standwatch.configs.load import PROFILES, load_config\n"
    "import standwatch.pipeline.types\n"
    "assert all(load_config(profile, None, ()) for profile in PROFILES)\n"
    "print(standwatch.__file__)\n"
)


def python(*arguments: str | Path, cwd: Path) -> str:
    """Output of a Python that sees neither the repository nor this process's environment."""
    command = [sys.executable, "-I", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def build(source: Path, kind: str) -> Path:
    """Let the build backend make a `wheel`, an `sdist` or an `editable` of a source tree; the file it made."""
    out = source.parent / f"{source.name}-{kind}"
    out.mkdir()
    # As `pip install` calls it; without its isolation, because tests need no network.
    backend = "import sys; sys.path.insert(0, '.'); from setuptools import build_meta"
    python("-c", f"{backend}; build_meta.build_{kind}(sys.argv[1])", out, cwd=source)
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("setuptools", minversion="77")
    copy = tmp_path_factory.mktemp("packaging") / "checkout"
    copy.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, copy / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, copy / part)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    return build(checkout, "wheel")


@pytest.fixture(scope="module")
def sdist(checkout: Path) -> Path:
    return build(checkout, "sdist")


def files_of(source: Path) -> set[str]:
    """What an installation needs, under the names it has there."""
    wanted = {path for folder in FOLDERS for path in (source / folder).rglob("*") if path.suffix in (".py", ".yaml")}
    wanted |= set((source / "standwatch" / "footage").iterdir())
    names = {path.relative_to(source).as_posix() for path in wanted}
    return {"standwatch/" + name.removeprefix("standwatch/") for name in names} | {"standwatch/py.typed"}


def test_a_wheel_holds_every_module_profile_and_video_once(checkout: Path, wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert len(names) == len(set(names))
    assert files_of(checkout) - set(names) == set()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"standwatch"}
    assert {Path(name).name for name in names if "/licenses/" in name} == {"LICENSE", "NOTICE"}


def test_a_wheel_works_where_there_is_no_repository(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    used = python("-c", USE, tmp_path / "site", cwd=tmp_path)
    assert Path(used.strip()).is_relative_to(tmp_path / "site")


def test_the_command_is_declared_and_there(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
    assert "standwatch = standwatch.actors.cli:main" in archive.read(name).decode()
    assert re.search(rb"^def main\(", archive.read("standwatch/actors/cli.py"), re.MULTILINE)


def test_a_source_archive_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        assert not [member.name for member in archive if member.issym() and member.linkname.startswith("/")]
        if sys.version_info >= (3, 12):
            archive.extractall(tmp_path, filter="data")
        else:
            archive.extractall(tmp_path)
    (source,) = tmp_path.iterdir()
    again = build(source, "wheel")
    assert set(zipfile.ZipFile(again).namelist()) == set(zipfile.ZipFile(wheel).namelist())


def test_an_editable_install_is_the_working_tree(checkout: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(build(checkout, "editable")).extractall(site)
    # Without the .pth files of this environment (-S): standwatch may be installed here, editable too.
    paths = f"import site, sys; site.addsitedir(sys.argv[1]); sys.path.append({sysconfig.get_path('purelib')!r})\n"
    used = python("-S", "-c", paths + USE, site, cwd=tmp_path)
    assert Path(used.strip()).is_relative_to(checkout)
