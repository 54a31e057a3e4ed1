"""Decides who or what can be named in a question, and when a name is in doubt and better not used."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from standwatch.compression.tuning.quiz_words import Noun, noun
from standwatch.compression.tuning.shown import ANYTHING
from standwatch.compression.world.kinds import KINDS, Role
from standwatch.compression.world.palette import COLOURS
from standwatch.compression.world.seeing import Seen
from standwatch.compression.world.truth import is_clear, named, present

# Whether the name on the left is true of these is a matter of taste: it is not asked for where they are.
_DOUBTFUL = {
    "vehicle": ("bicycle", "cyclist", "kick scooter", "wheelchair", "person in a wheelchair", "shopping cart"),
    "bird": ("duck",),
    "box": ("present", "toolbox"),
    "bus": ("van",),
    "car": ("pickup truck", "van"),
    "motorcycle": ("motor scooter",),
    "motor scooter": ("motorcycle", "kick scooter"),
    "kick scooter": ("motor scooter",),
    "basket": ("shopping cart",),
    "suitcase": ("briefcase",),
    "briefcase": ("suitcase",),
    "plant": ("tree", "hedge"),  # fixtures
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A name, perhaps with a colour, and a noun for it."""

    name: str  # of a kind, or a word for a role
    noun: Noun
    colour: str = ""

    def among(self, seen: Iterable[Seen]) -> list[Seen]:
        """Those that it is true of and of which there is any pixel."""
        found = (one for one in named(seen, self.name) if one.visible > 0)
        return [one for one in found if not self.colour or one.colour == self.colour]

    def there(self, seen: Sequence[Seen]) -> bool | None:
        """Whether there is any; None where it cannot be told, also where only the colour cannot."""
        if present(self.among(seen), self.name):
            return True
        unclear = any(one.visible > 0 and not is_clear(one) for one in named(seen, self.name))
        return None if unclear else False

    def in_doubt(self, seen: Iterable[Seen], fixtures: Sequence[str] = ()) -> bool:
        """Whether somebody could call something there by this name, or could not, with good reason."""
        return self.may_be_called({one.name for one in seen if one.visible > 0} | set(fixtures)) or self._unpainted(
            seen
        )

    def may_be_called(self, names: Iterable[str]) -> bool:
        """Whether it is a matter of taste if it is true of any of these names."""
        return not set(_DOUBTFUL.get(self.name, ())).isdisjoint(names)

    def _unpainted(self, seen: Iterable[Seen]) -> bool:
        """Whether one of this name has a colour that is not to be asked for."""
        return bool(self.colour) and any(one.visible > 0 and not one.colour for one in named(seen, self.name))


def _of_role(name: str, *anyone_someone: tuple[str, str]) -> tuple[Subject, ...]:
    plural = noun(name).many
    return tuple(Subject(name, Noun(name, plural, anyone, someone)) for anyone, someone in anyone_someone)


PEOPLE = _of_role("person", ("anyone", "someone"), ("somebody", "somebody"), ("anybody", "somebody"))
VEHICLES = _of_role("vehicle", ("", ""), ("any vehicle", "a vehicle"))
ANIMALS = _of_role("animal", ("", ""), ("any animal", "an animal"))
THINGS = (Subject(ANYTHING, Noun("thing", "things", "anything", "something")),)
BY_KIND = tuple(Subject(name, noun(name)) for name in KINDS)
BY_NAME = (*BY_KIND, *PEOPLE, *VEHICLES, *ANIMALS)
BY_COLOUR = tuple(
    Subject(name, noun(name, colour), colour) for name, kind in KINDS.items() for colour in COLOURS if kind.colours
)
# What is nearly always there is asked for less where it is, and much more where it is not: so no name says the answer.
_WHERE_THERE = {"person": 0.25, "vehicle": 0.5, "animal": 0.4}
_WHERE_NOT = {"person": 12.0, "vehicle": 4.0, "animal": 7.0, "fire": 5.0}


def asked_weight(subject: Subject, verdict: bool | None, seen: Sequence[Seen]) -> float:
    """How gladly one asks if it is there: of what is not, rather for what is like what is there."""
    if verdict is not False:
        return _WHERE_THERE.get(subject.name, 1.0)
    roles = {KINDS[one.name].role for one in seen}
    like = subject.name in KINDS and KINDS[subject.name].role in roles
    return _WHERE_NOT.get(subject.name, 3.0 if like else 1.0)


def references(seen: Sequence[Seen], fixtures: Sequence[str]) -> list[tuple[Subject, Seen]]:
    """Every name, with a colour where there are several, that only one object there can be meant by; fires left out."""
    found = []
    for subject in (*BY_KIND, VEHICLES[0], ANIMALS[0], *BY_COLOUR):
        among = subject.among(seen)
        if len(among) != 1 or KINDS[among[0].name].role is Role.FIRE or subject.in_doubt(seen, fixtures):
            continue
        if subject.colour and not all(is_clear(one) for one in named(seen, subject.name)):
            continue
        found.append((subject, among[0]))
    return found
