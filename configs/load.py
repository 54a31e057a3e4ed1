"""Decides which configuration a run gets: schema defaults, then a profile, the user's file, and `key=value` arguments.

The only module that knows OmegaConf or reads the environment (through `${oc.env:NAME,default}` in YAML). What comes
out is the frozen tree of `schema.py`; what cannot be right is refused with the full name of its key.
"""

import difflib
import math
import os
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigKeyError,
    ConfigTypeError,
    GrammarParseError,
    OmegaConfBaseException,
    ValidationError,
)

from standwatch.configs.schema import StandwatchConfig

_PROFILES = Path(__file__).resolve().parent
PROFILES = ("demo", "kafka", "local")
_INCLUDE = "include"  # a profile may name another YAML file here that it is laid over


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key (or file) and the fix."""


def load_config(profile: str, user_file: Path | None, overrides: Sequence[str]) -> StandwatchConfig:
    """The configuration of a run. Raises `ConfigError`."""
    if profile not in PROFILES:
        raise ConfigError(
            f"--config: {profile!r} is no profile; choose one of {', '.join(PROFILES)}, "
            "and give a file of your own with --file"
        )
    layers = _with_includes(_PROFILES / f"{profile}.yaml")
    if user_file is not None:
        layers.append((str(user_file), _read(user_file)))
    layers.extend((f"argument {text!r}", _override(text)) for text in overrides)
    return _merge(layers)


def load_resolved(path: Path) -> StandwatchConfig:
    """The configuration that a run saved beside its memory. Raises `ConfigError`."""
    return _merge([(str(path), _read(path))])


def save_resolved(config: StandwatchConfig, path: Path) -> None:
    """Write a configuration so that `load_resolved` gives it back; a kill leaves the old file or the new one."""
    unfinished = path.with_name(path.name + ".tmp")
    text = "# The configuration of the run that wrote this memory, as resolved.\n" + to_yaml(config)
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def to_yaml(config: StandwatchConfig) -> str:
    """All keys and values, in the order of the schema."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def cache_folder() -> Path:
    """Where what was fetched is kept for next time: XDG_CACHE_HOME, or ~/.cache; with our name."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if os.path.isabs(named) else Path.home() / ".cache") / "standwatch"


def _merge(layers: Sequence[tuple[str, DictConfig]]) -> StandwatchConfig:
    merged = OmegaConf.structured(StandwatchConfig)
    OmegaConf.set_struct(merged, True)
    for origin, layer in layers:
        _check_keys(layer, origin)
        try:
            merged = OmegaConf.merge(merged, layer)
        except (ValidationError, ConfigTypeError, ConfigKeyError) as error:
            key = getattr(error, "full_key", None) or "configuration"
            raise ConfigError(f"{key}: {_first_line(error)} (in {origin}); {_expected(key)}") from None
    return cast(StandwatchConfig, _build(StandwatchConfig, cast(DictConfig, merged), ""))


def _build(cls: type, node: DictConfig, path: str) -> object:
    """A frozen section from its node, innermost first, so that a refusal can say where it is."""
    hints = get_type_hints(cls)
    values = {}
    for f in fields(cls):
        try:
            value = node[f.name]  # interpolations are resolved here
        except OmegaConfBaseException as error:
            raise ConfigError(f"{path}{f.name}: {_first_line(error)}; give it a value") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{path}{f.name}: {value} is not a finite number; give it one")
        values[f.name] = _build(hints[f.name], value, f"{path}{f.name}.") if is_dataclass(hints[f.name]) else value
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(f"{path}{error}") from None


def _check_keys(layer: DictConfig, origin: str) -> None:
    """Refuse keys that the schema does not have, and guess what was meant."""
    known = _known_keys(StandwatchConfig, "")
    for key, leaf in _keys(OmegaConf.to_container(layer, resolve=False), ""):
        if key not in known:
            alike = [name for name, kind in known.items() if (kind is not None) == leaf]  # values for a value
            near = difflib.get_close_matches(key, alike, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else "see `standwatch config` for all keys"
            raise ConfigError(f"{key}: no such key (in {origin}); {hint}")
        if known[key] is None and leaf:
            raise ConfigError(f"{key}: is a section (in {origin}); set one of its keys, as in {key}.NAME=VALUE")


def _known_keys(cls: type, path: str) -> dict[str, type | None]:
    """Every key with the type of its value; None for a section."""
    known: dict[str, type | None] = {}
    for name, kind in get_type_hints(cls).items():
        if is_dataclass(kind):
            known[path + name] = None
            known.update(_known_keys(cast(type, kind), f"{path}{name}."))
        else:
            known[path + name] = kind
    return known


def _keys(value: Any, path: str) -> list[tuple[str, bool]]:
    """All keys with their full names, and whether they hold a value rather than further keys."""
    if not isinstance(value, dict):
        return []
    found = []
    for name, inner in value.items():
        found.append((f"{path}{name}", not isinstance(inner, dict)))
        found.extend(_keys(inner, f"{path}{name}."))
    return found


def _expected(key: str) -> str:
    kind = _known_keys(StandwatchConfig, "").get(key)
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return f"expected {words.get(kind, 'another kind of value')}" if kind else "see `standwatch config`"


def _with_includes(path: Path) -> list[tuple[str, DictConfig]]:
    layer = _read(path)
    included = layer.pop(_INCLUDE, None)
    below = [] if included is None else _with_includes(_PROFILES / f"{included}.yaml")
    return [*below, (path.name, layer)]


def _read(path: Path) -> DictConfig:
    try:
        content = OmegaConf.load(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; check the path") from None
    except (IsADirectoryError, PermissionError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({_first_line(error)})") from None
    except (yaml.YAMLError, GrammarParseError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or _first_line(error)
        raise ConfigError(f"{path}{line}: is not valid YAML ({problem})") from None
    except OSError as error:
        raise ConfigError(f"{path}: holds no mapping of keys ({_first_line(error)})") from None
    if not isinstance(content, DictConfig):
        raise ConfigError(f"{path}: holds a list; write keys and values, as `standwatch config` prints them")
    return content


def _override(text: str) -> DictConfig:
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"\w+(\.\w+)*", key):
        raise ConfigError(f"{text}: is not an override; write section.key=value, as in decode.sample_fps=2")
    try:
        return OmegaConf.from_dotlist([text])
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{key}: {value!r} cannot be read as a value ({_first_line(error)})") from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
