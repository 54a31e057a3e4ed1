"""Decides what can be asked about what is there: presence, near misses, colour, side, zone, number and lists.

The present tense is about the last frame, the past tense about all that are shown.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from standwatch.compression.tuning.quiz_claims import Claim, Field
from standwatch.compression.tuning.quiz_subjects import (
    ANIMALS,
    BY_COLOUR,
    BY_KIND,
    BY_NAME,
    PEOPLE,
    VEHICLES,
    Subject,
    asked_weight,
    references,
)
from standwatch.compression.tuning.quiz_words import MOST, listed, noun_of, number, quantity, sentence
from standwatch.compression.tuning.shown import Shown
from standwatch.compression.world.palette import COLOURS
from standwatch.compression.world.script import Doing
from standwatch.compression.world.seeing import Seen
from standwatch.compression.world.truth import colour, count, in_zone, is_clear, side

_UNCLEAR, _UNCLEAR_WEIGHT = "Unclear.", 0.3
_CONFUSED = 30.0  # of what is taken for true because every part of it is there, or was
_COUNTED = 6  # more are not counted


def presence(shown: Shown) -> list[Claim]:
    return [claim for subject in BY_NAME for claim in _there(shown, subject, shown.now)]


def presence_drilled(shown: Shown) -> list[Claim]:
    """The same, but rather for what is not there where it was before, or where its name is part of another's.

    A fire beside a fire engine, and who has left.
    """
    names = [one.name for one in shown.now]
    confused = {
        subject.noun
        for subject in BY_NAME
        if any(subject.name in name for name in names) or any(map(subject.there, shown.seen[:-1]))
    }
    return _rather(presence(shown), "it", confused)


def past_presence(shown: Shown) -> list[Claim]:
    """It is true if there was one in any frame, and cannot be told if there may have been one."""
    found = []
    for subject in BY_NAME:
        each = [subject.there(seen) for seen in shown.seen]
        verdict = True if True in each else None if None in each else False
        if verdict is True or not any(subject.in_doubt(seen, shown.fixtures) for seen in shown.seen):
            weight = asked_weight(subject, verdict, shown.now)
            evidence = tuple(frame for frame, there in enumerate(each) if there)
            found.append(Claim({"it": (subject.noun,)}, verdict, weight=weight, evidence=evidence))
    return found


def near_misses(shown: Shown) -> list[Claim]:
    names, colours = _names_and_colours(shown)
    found = []
    for subject in BY_COLOUR:
        if subject.name in names or subject.colour in colours:
            closer = 3.0 if subject.name in names else 1.0
            found += [(claim, closer) for claim in _there(shown, subject, shown.now)]
    return [Claim(one.fields, one.verdict, weight=closer, described=one.described) for one, closer in found]


def near_misses_drilled(shown: Shown) -> list[Claim]:
    """The same, but rather for one thing in the colour of another: a purple car where a car and a purple barrel are."""
    names, colours = _names_and_colours(shown)
    swapped = {subject.noun for subject in BY_COLOUR if subject.name in names and subject.colour in colours}
    return _rather(near_misses(shown), "it", swapped)


def colours(shown: Shown) -> list[Claim]:
    return [claim for claim in _colours(shown) if claim.fields["it"][0] != BY_KIND[0].noun]


def clothes(shown: Shown) -> list[Claim]:
    """Colours of people are asked for in other words."""
    return [claim for claim in _colours(shown) if claim.fields["it"][0] == BY_KIND[0].noun]


def has_colour(shown: Shown) -> list[Claim]:
    found = []
    for subject, one in references(shown.now, shown.fixtures):
        if not subject.colour and one.colour and subject.name != "person":
            true = colour(shown.now, subject.name)
            for other in COLOURS:
                fields: dict[str, tuple[Field, ...]] = {"it": (subject.noun,), "colour": (other,)}
                found.append(Claim(fields, other == true if true else None))
    return found


def has_colour_drilled(shown: Shown) -> list[Claim]:
    """The same, but rather for the colour of something else that is there."""
    return _rather(has_colour(shown), "colour", _names_and_colours(shown)[1])


def sides(shown: Shown) -> list[Claim]:
    found = []
    for subject, one in references(shown.now, shown.fixtures):
        answer = side([one], subject.name, shown.width)
        if answer or not is_clear(one):
            found.append(_words({"it": (subject.noun,)}, answer))
    return found


def is_on_side(shown: Shown) -> list[Claim]:
    found = []
    for subject, one in references(shown.now, shown.fixtures):
        true = side([one], subject.name, shown.width)
        for asked in ("left", "right") if true or not is_clear(one) else ():
            found.append(Claim({"it": (subject.noun,), "side": (asked,)}, asked == true if true else None))
    return found


def any_on_side(shown: Shown) -> list[Claim]:
    """Of several, and of what is not there at all; nobody is asked about where one is in the middle."""
    found = []
    for subject in BY_NAME:
        among = subject.among(shown.now)
        each = [side([one], subject.name, shown.width) for one in among]
        if None in each or subject.in_doubt(shown.now, shown.fixtures):
            continue
        for asked in ("left", "right"):
            weight = 1.0 if among else 0.05
            found.append(Claim({"it": (subject.noun,), "side": (asked,)}, asked in each, weight=weight))
    return found


def is_in_zone(shown: Shown) -> list[Claim]:
    """What is carried has no place on the floor and is not asked for."""
    found = []
    for subject in BY_NAME:
        among = subject.among(shown.now)
        if subject.in_doubt(shown.now, shown.fixtures) or any(one.doing is Doing.CARRIED for one in among):
            continue
        for zone in shown.zones:
            fields: dict[str, tuple[Field, ...]] = {"it": (subject.noun,), "zone": zone_words(zone)}
            weight = 1.0 if among else 0.05
            found.append(Claim(fields, in_zone(among, subject.name, zone), weight=weight))
    return found


def which_zone(shown: Shown) -> list[Claim]:
    found = []
    for subject, one in references(shown.now, shown.fixtures) if shown.zones else ():
        if one.doing is not Doing.CARRIED:
            answer = f"the {one.zones[0]}" if one.zones else "none"
            found.append(_words({"it": (subject.noun,)}, answer if is_clear(one) else None))
    return found


def in_the_zone(shown: Shown) -> list[Claim]:
    return [
        Claim({"zone": zone_words(zone)}, answer=listed(inside))
        for zone in shown.zones
        if (inside := _all_clear([one for one in shown.now if zone in one.zones])) is not None
    ]


def counts(shown: Shown) -> list[Claim]:
    found = []
    for subject in (*BY_KIND, VEHICLES[0], ANIMALS[0]):
        true = _count(shown, subject)
        if true != -1:
            weight = 0.02 if true == 0 else 1.0 if true is not None else _UNCLEAR_WEIGHT
            found.append(_words({"it": (subject.noun,)}, None if true is None else number(true), weight))
    return found


def has_count(shown: Shown) -> list[Claim]:
    """'two dogs' is never asked for where there are three: they are two as well."""
    found = []
    for subject in (*BY_KIND, VEHICLES[0], ANIMALS[0]):
        true = _count(shown, subject)
        for asked in range(1, 5) if true != -1 else ():
            words, are = quantity(asked, subject.noun), "is" if asked == 1 else "are"
            weight = 0.02 if true == 0 else 2.0 if true and true > 1 else 1.0
            found.append(_quantity(f"exactly {words}", are, None if true is None else true == asked, weight))
            if asked > 1:
                found.append(_quantity(f"at least {words}", are, None if true is None else true >= asked, weight))
                if true is None or true <= asked:
                    found.append(_quantity(words, are, None if true is None else true == asked, weight))
        if true != -1:
            fewer = f"more than one {subject.noun.one}"
            found.append(_quantity(fewer, "is", None if true is None else true > 1, 0.02 if true == 0 else 1.0))
    return found


def everything(shown: Shown) -> list[Claim]:
    inside = _all_clear(shown.now)
    return [] if inside is None else [Claim({}, answer=listed(inside))]


def all_of_a_role(shown: Shown) -> list[Claim]:
    found = []
    for subject in (PEOPLE[0], VEHICLES[0], ANIMALS[0]):
        among = _all_clear(subject.among(shown.now))
        if among is not None and not subject.in_doubt(shown.now, shown.fixtures):
            answer, weight = (listed(among), 1.0) if among else ("None.", 0.2)
            found.append(Claim({"it": (subject.noun,)}, answer=answer, weight=weight))
    return found


def zone_words(zone: str) -> tuple[str, ...]:
    colour_ = zone.removesuffix(" zone")
    return (f"the {zone}", f"the {zone}", f"the {colour_} area", f"the area marked in {colour_}")


def _there(shown: Shown, subject: Subject, seen: Sequence[Seen]) -> list[Claim]:
    verdict = subject.there(seen)
    if verdict is not True and subject.in_doubt(seen, shown.fixtures):
        return []
    among = subject.among(seen)
    described = _described(among[0], shown.width) if verdict and len(among) == 1 else ""
    weight = asked_weight(subject, verdict, seen)
    return [Claim({"it": (subject.noun,)}, verdict, weight=weight, described=described)]


def _rather(claims: Sequence[Claim], field: str, confused: Collection[Field]) -> list[Claim]:
    """The same claims; of the false ones rather those with one of these words in a field."""
    return [
        replace(claim, weight=_CONFUSED) if claim.verdict is False and claim.fields[field][0] in confused else claim
        for claim in claims
    ]


def _names_and_colours(shown: Shown) -> tuple[set[str], set[str]]:
    """Of all that is clear and has a colour."""
    painted = [one for one in shown.now if is_clear(one) and one.colour]
    return {name for one in painted for name in (one.name, *one.also)}, {one.colour for one in painted}


def _described(one: Seen, width: int) -> str:
    """'a red car on the left'"""
    where = side([one], one.name, width)
    return noun_of(one).a + (f" on the {where}" if where else " in the middle")


def _colours(shown: Shown) -> Iterator[Claim]:
    for subject, one in references(shown.now, shown.fixtures):
        if not subject.colour and one.colour:
            yield _words({"it": (subject.noun,)}, colour(shown.now, subject.name))


def _count(shown: Shown, subject: Subject) -> int | None:
    """How many, None if it cannot be told, -1 if it is not asked."""
    true = -1 if subject.in_doubt(shown.now, shown.fixtures) else count(shown.now, subject.name)
    return true if true is None or true <= min(_COUNTED, MOST) else -1


def _quantity(words: str, are: str, verdict: bool | None, weight: float) -> Claim:
    return Claim({"quantity": (words,), "are": (are,)}, verdict, weight=weight)


def _all_clear(seen: Sequence[Seen]) -> list[Seen] | None:
    """Those that are clear; None where there is something, but nothing clear, or too much to be told."""
    clear = [one for one in seen if is_clear(one)]
    if len(clear) > _COUNTED or (not clear and any(one.visible > 0 for one in seen)):
        return None
    return clear


def _words(fields: dict[str, tuple[Field, ...]], answer: str | None, weight: float = 1.0) -> Claim:
    if answer is None:
        return Claim(fields, answer=_UNCLEAR, weight=min(weight, _UNCLEAR_WEIGHT))
    return Claim(fields, answer=sentence(answer), weight=weight)
