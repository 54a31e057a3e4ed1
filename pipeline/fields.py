"""Decides how mappings from outside are read: strictly, and a wrong field is refused by name with the fix."""

import difflib
import math
from collections.abc import Collection, Mapping

from standwatch.pipeline.errors import BadInput


class Fields:
    """One mapping (of a file, an event or a command line). All errors are `BadInput` and start with `source: field:`.

    With `known` given, any other key is an error; without it unknown keys are ignored, so that events may grow.
    Booleans are never numbers, and null counts as absent.
    """

    def __init__(
        self,
        value: object,
        source: str,
        prefix: str = "",
        known: Collection[str] | None = None,
    ) -> None:
        self._source = source
        self._prefix = prefix
        if not isinstance(value, Mapping):
            here = prefix.rstrip(".") or "the content"
            raise BadInput(f"{source}: {here}: must be a mapping of names to values, not {_kind(value)}")
        self._values: dict[str, object] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise self.error(str(key), "names must be text; put it in quotes")
            if known is not None and key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
                raise self.error(key, f"unknown key; {hint}")
            self._values[key] = item

    def error(self, name: str, problem: str) -> BadInput:
        """The error to raise about the field `name`."""
        return BadInput(f"{self._source}: {self._prefix}{name}: {problem}")

    def path(self, name: str) -> str:
        """The full name of a field, for messages made elsewhere."""
        return f"{self._source}: {self._prefix}{name}"

    def get(self, name: str) -> object:
        """The raw value; None when absent."""
        return self._values.get(name)

    def text(self, name: str, default: str | None = None) -> str:
        value = self._required(name, default)
        if not isinstance(value, str):
            raise self.error(name, f"must be text, not {_kind(value)}; put it in quotes")
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise self.error(name, "holds half of a surrogate pair; write it in UTF-8")
        return value

    def choice(self, name: str, options: Collection[str], default: str | None = None) -> str:
        value = self.text(name, default)
        if value not in options:
            raise self.error(name, f"{value!r} is none of {', '.join(options)}")
        return value

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        value = self._required(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(name, f"must be a whole number, not {_kind(value)}")
        if not low <= value <= high:
            raise self.error(name, f"{value} is not within {low}..{high}")
        return value

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        value = self._required(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(name, f"must be a number, not {_kind(value)}")
        if not (math.isfinite(value) and low <= value <= high):
            raise self.error(name, f"{value} is not within {low:g}..{high:g}")
        return float(value)

    def section(self, name: str, known: Collection[str] | None = None) -> "Fields":
        """The mapping under `name`; absent is an empty one, so that its own fields say what is missing."""
        value = self._values.get(name)
        return Fields(
            {} if value is None else value,
            self._source,
            f"{self._prefix}{name}.",
            known,
        )

    def sections(self, name: str, known: Collection[str] | None = None) -> "list[Fields]":
        """The list of mappings under `name`."""
        value = self._required(name, None)
        if not isinstance(value, list):
            raise self.error(name, f"must be a list, not {_kind(value)}")
        return [Fields(item, self._source, f"{self._prefix}{name}[{i}].", known) for i, item in enumerate(value)]

    def _required(self, name: str, default: object) -> object:
        value = self._values.get(name)
        if value is not None:
            return value
        if default is None:
            raise self.error(name, "is missing; add it")
        return default


def _kind(value: object) -> str:
    """What a value is, in the words of someone who wrote YAML."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, list | Mapping):
        return "a list" if isinstance(value, list) else "a mapping"
    return f"a {type(value).__name__}"
