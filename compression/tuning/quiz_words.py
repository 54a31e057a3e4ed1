"""Decides the words for objects, numbers and spans of time: articles, plurals, colours."""

from collections.abc import Sequence
from dataclasses import dataclass

from standwatch.compression.world.kinds import KINDS
from standwatch.compression.world.seeing import Seen

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
MOST = len(_NUMBERS) - 1


@dataclass(frozen=True, slots=True)
class Noun:
    """A word for objects. `anyone` and `someone` stand in questions and in statements where there is no article."""

    one: str
    many: str
    anyone: str = ""
    someone: str = ""

    @property
    def a(self) -> str:
        return self.someone or f"{'an' if self.one[0] in 'aeiou' else 'a'} {self.one}"

    @property
    def any(self) -> str:
        return self.anyone or self.a

    @property
    def the(self) -> str:
        return f"the {self.one}"


def noun(name: str, colour: str = "") -> Noun:
    """Of a kind or of a word for a role."""
    one, many = name, KINDS[name].plural if name in KINDS else f"{name}s"
    if not colour:
        return Noun(one, many)
    if name == "person":
        return Noun(f"{one} in {colour}", f"{many} in {colour}")
    return Noun(f"{colour} {one}", f"{colour} {many}")


def noun_of(one: Seen) -> Noun:
    """With its colour where it has one."""
    return noun(one.name, one.colour)


def number(count: int) -> str:
    return _word(count) if count else "none"


def quantity(count: int, what: Noun) -> str:
    """'two red cars', 'one dog'."""
    return f"{_word(count)} {what.one if count == 1 else what.many}"


def times(count: int) -> str:
    return ("never", "once", "twice")[count] if count < 3 else f"{_word(count)} times"


def _word(count: int) -> str:
    """Digits where nobody writes words."""
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def listed(seen: Sequence[Seen]) -> str:
    """'A dog and two red cars.' from left to right, those alike together; 'Nothing.' where there is nothing."""
    groups: dict[Noun, int] = {}
    for one in sorted(seen, key=lambda one: (one.box.middle[0], one.actor)):
        groups[noun_of(one)] = groups.get(noun_of(one), 0) + 1
    words = [what.a if count == 1 else quantity(count, what) for what, count in groups.items()]
    return sentence(joined(words) or "nothing")


def joined(words: Sequence[str]) -> str:
    """'a dog, a cat and a car'"""
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def about(span_ms: float) -> str:
    """'about 3 seconds': to the second, from 20 to five seconds, from two minutes on to the minute."""
    seconds = span_ms / 1000
    if seconds >= 120:
        return f"about {round(seconds / 60)} minutes"
    rounded = max(1, round(seconds) if seconds < 20 else 5 * round(seconds / 5))
    return f"about {rounded} second{'s' if rounded > 1 else ''}"
