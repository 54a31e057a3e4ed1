"""Decides the true answers about a frame or a span of time, and when there is none: too small, too dark, too hidden.

An answer is None where it cannot be told: what decides it is in the picture, but not clear enough. Fires and what is
carried count like everything else.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from standwatch.compression.world.script import Event
from standwatch.compression.world.seeing import Seen


@dataclass(frozen=True, slots=True)
class Sight:
    """What is needed to tell what an object is."""

    visible: float = 0.4  # part of it
    size_px: int = 30
    light: float = 0.2


CLEAR = Sight()
_MIDDLE = 0.06  # of the picture's width: what lies within it is neither left nor right


def is_clear(one: Seen, sight: Sight = CLEAR) -> bool:
    """Whether anybody could tell what this is."""
    return one.visible >= sight.visible and one.size_px >= sight.size_px and one.light >= sight.light


def named(seen: Iterable[Seen], name: str) -> list[Seen]:
    """Those that the name is true of: a taxi is a car."""
    return [one for one in seen if name == one.name or name in one.also]


def present(seen: Iterable[Seen], name: str, sight: Sight = CLEAR) -> bool | None:
    """Whether there is any; None where there is one, but none is clear."""
    found = named(seen, name)
    if any(is_clear(one, sight) for one in found):
        return True
    return None if _noticed(found) else False


def count(seen: Iterable[Seen], name: str, sight: Sight = CLEAR) -> int | None:
    """How many there are; None unless each is clear."""
    found = _noticed(named(seen, name))
    return len(found) if all(is_clear(one, sight) for one in found) else None


def colour(seen: Iterable[Seen], name: str, sight: Sight = CLEAR) -> str | None:
    """The colour of the only one; None where there is none or another, or where its colour is not to be asked for."""
    found = _noticed(named(seen, name))
    if len(found) != 1 or not is_clear(found[0], sight):
        return None
    return found[0].colour or None


def side(seen: Iterable[Seen], name: str, width: int, sight: Sight = CLEAR) -> str | None:
    """'left' or 'right' half of a picture of this width, of the only one; None in the middle."""
    found = _noticed(named(seen, name))
    if len(found) != 1 or not is_clear(found[0], sight):
        return None
    part = found[0].box.middle[0] / width - 0.5
    if abs(part) < _MIDDLE:
        return None
    return "left" if part < 0 else "right"


def in_zone(seen: Iterable[Seen], name: str, zone: str, sight: Sight = CLEAR) -> bool | None:
    """Whether any stands in a zone of this name; None where there is one, but none is clear."""
    return present([one for one in seen if zone in one.zones], name, sight)


def within(events: Sequence[Event], from_ms: int, to_ms: int) -> list[Event]:
    """Events that overlap [from_ms, to_ms); a moment belongs to it where it lies inside."""
    return [one for one in events if one.start_ms < to_ms and (one.end_ms > from_ms or from_ms <= one.start_ms)]


def _noticed(found: Sequence[Seen]) -> list[Seen]:
    """Those of which there is any pixel."""
    return [one for one in found if one.visible > 0]
