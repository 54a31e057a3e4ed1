"""Decides how small state is kept on disk: whole or not at all, and never half understood."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from standwatch.pipeline.errors import BadInput

JsonRecord = dict[str, object]


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` by `data`: after a crash at any moment it holds all of the old or all of the new, durably."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory (files created, replaced or removed) durable."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_snapshot(path: Path, format_version: int, content: Mapping[str, object]) -> None:
    """Write `content` as JSON that says its format version, atomically."""
    record = {"format": format_version, **content}
    write_atomically(path, (json.dumps(record, allow_nan=False, sort_keys=True) + "\n").encode())


def read_snapshot(path: Path, format_version: int, fix: str) -> JsonRecord | None:
    """What `write_snapshot` wrote; None when there is no such file.

    Raises `BadInput` naming the file and `fix` when it is not JSON or of another format version.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: is not valid JSON ({error}); {fix}") from None
    if not isinstance(content, dict) or "format" not in content:
        raise BadInput(f"{path}: does not say its format version; {fix}")
    found = content.pop("format")
    if found != format_version:
        raise BadInput(f"{path}: has format version {found!r}, this version reads {format_version}; {fix}")
    return content
