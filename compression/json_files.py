"""Decides how a JSON file beside weights is read: as an object with values of the expected kind, or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

V = TypeVar("V")


def json_object(path: Path) -> Mapping[str, object]:
    """The object in a file. Raises ValueError naming the file if it is not there, or holds no JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"checkpoint: {path} is not there; copy it from where the weights came from") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"checkpoint: {path} cannot be read as JSON ({error}); copy it anew") from None
    if not isinstance(content, dict):
        raise ValueError(f"checkpoint: {path} holds no JSON object; copy it anew")  # noqa: TRY004 (bad input, no bug)
    return content


def entry(content: Mapping[str, object], key: str, kind: type[V], default: V | None) -> V:
    """The value of a key, or `default` where the key is absent or null.

    Raises ValueError that starts with the key if there is neither, or the value is of another kind; a whole number
    passes for a float.
    """
    value = content.get(key)
    if value is None:
        value = default
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if value is None:
        raise ValueError(f"{key}: is not there; copy the file from where the weights came from")
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{key}: {value!r} is no {kind.__name__}; correct it")
    return value
