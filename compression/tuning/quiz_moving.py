"""Decides what can be asked about what somebody is doing, and where it is heading.

What a single picture cannot show, whether a car stands or drives, is asked only where the frame before shows the same.
"""

from standwatch.compression.tuning.quiz_claims import Claim, Field
from standwatch.compression.tuning.quiz_subjects import PEOPLE, references
from standwatch.compression.tuning.quiz_words import sentence
from standwatch.compression.tuning.shown import Shown
from standwatch.compression.world.kinds import KINDS, Role
from standwatch.compression.world.script import MOVING, POSES, Doing
from standwatch.compression.world.seeing import Heading, Seen
from standwatch.compression.world.truth import is_clear

_OF_ROLE = {
    Role.PERSON: POSES,
    Role.RIDER: (Doing.STANDING, Doing.MOVING),
    Role.ANIMAL: (Doing.STANDING, Doing.MOVING),
    Role.VEHICLE: (Doing.STANDING, Doing.MOVING),
    Role.THING: (Doing.STANDING, Doing.CARRIED),
}
_WORDS = {Doing.LYING: "lying on the ground", Doing.CARRIED: "being carried"}
_MOVED_PX = 4.0
_DIRECTIONS = {
    Heading.LEFT: "to the left",
    Heading.RIGHT: "to the right",
    Heading.CLOSER: "towards the camera",
    Heading.AWAY: "away from the camera",
}


def doings(shown: Shown) -> list[Claim]:
    found = []
    for subject, one in references(shown.now, shown.fixtures):
        doing = _doing(shown, one)
        if doing:
            found.append(Claim({"it": (subject.noun,)}, answer=sentence(_word(doing))))
    return found


def is_doing(shown: Shown) -> list[Claim]:
    found = []
    for subject, one in references(shown.now, shown.fixtures):
        true = _doing(shown, one)
        for asked in _OF_ROLE[KINDS[one.name].role] if true else ():
            found.append(Claim({"it": (subject.noun,), "doing": (_word(asked),)}, asked is true))
    return found


def anyone_is_doing(shown: Shown) -> list[Claim]:
    """Of people only, whose drawings show it; each must be clear, or it must be true of a clear one."""
    found = []
    for subject in PEOPLE:
        among = subject.among(shown.now)
        doing = [_doing(shown, one) if KINDS[one.name].role is Role.PERSON else None for one in among]
        for asked in POSES:
            weight = 1.0 if among else 0.1
            fields: dict[str, tuple[Field, ...]] = {"it": (subject.noun,), "doing": (_word(asked),)}
            if asked in doing or None not in doing:
                found.append(Claim(fields, asked in doing, weight=weight))
            elif not any(is_clear(one) for one in among):
                found.append(Claim(fields, None))
    return found


def headings(shown: Shown) -> list[Claim]:
    found = []
    for subject, one in references(shown.now, shown.fixtures):
        heading = _heading(shown, one)
        if heading is not None:
            answer = sentence(_DIRECTIONS.get(heading, "nowhere"))
            found.append(Claim({"it": (subject.noun,)}, answer=answer, weight=1.0 if heading.value else 0.15))
    return found


def is_heading(shown: Shown) -> list[Claim]:
    found = []
    for subject, one in references(shown.now, shown.fixtures):
        true = _heading(shown, one)
        for asked, words in _DIRECTIONS.items() if true is not None else ():
            weight = 1.0 if true and true.value else 0.2
            found.append(Claim({"it": (subject.noun,), "where": (words,)}, asked is true, weight=weight))
    return found


def _word(doing: Doing) -> str:
    return _WORDS.get(doing, doing.value)


def _doing(shown: Shown, one: Seen) -> Doing | None:
    """What it does, if that can be told."""
    role = KINDS[one.name].role
    doing = Doing.MOVING if role is not Role.PERSON and one.doing is Doing.WALKING else one.doing
    if not is_clear(one) or doing not in _OF_ROLE.get(role, ()):
        return None
    return doing if role in (Role.PERSON, Role.THING) or _before(shown, one) else None


def _before(shown: Shown, one: Seen) -> Seen | None:
    """The same object in the frame before, if it is clear there and does the same."""
    before = shown.one(one.actor, len(shown.seen) - 2)
    return before if before and is_clear(before) and before.doing is one.doing else None


def _heading(shown: Shown, one: Seen) -> Heading | None:
    """Where it goes, NOWHERE if it stands, None if that cannot be told: it hardly moved, or turned."""
    before = _before(shown, one)
    if before is None or not is_clear(one) or one.heading is not before.heading:
        return None
    if one.doing is Doing.CARRIED or KINDS[one.name].role is Role.THING:
        return None
    if one.doing not in MOVING:
        return Heading.NOWHERE if one.doing is Doing.STANDING else None
    across = one.box.middle[0] - before.box.middle[0]
    closer = one.box.bottom - before.box.bottom
    moved = {Heading.LEFT: -across, Heading.RIGHT: across, Heading.CLOSER: closer, Heading.AWAY: -closer}
    return one.heading if moved.get(one.heading, 0.0) >= _MOVED_PX else None
