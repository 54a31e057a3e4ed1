"""Decides what can be asked about what happened: whether, in what order, how often, since when, and told in words."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from standwatch.compression.tuning.phrases_events import PASSIVE, verbs
from standwatch.compression.tuning.quiz_claims import Claim, Clauses, Field
from standwatch.compression.tuning.quiz_moments import Sort, frames_of, is_evident, of_sort
from standwatch.compression.tuning.quiz_subjects import ANIMALS, BY_COLOUR, BY_KIND, PEOPLE, THINGS, VEHICLES, Subject
from standwatch.compression.tuning.quiz_words import Noun, about, noun, noun_of, sentence, times
from standwatch.compression.tuning.shown import LASTING, Shown
from standwatch.compression.world.kinds import KINDS, Kind, Role
from standwatch.compression.world.script import MOVING, Doing, Event, What
from standwatch.compression.world.truth import is_clear

_MOVERS = (Role.PERSON, Role.RIDER, Role.ANIMAL, Role.VEHICLE)
_GROUPS = (*PEOPLE, *VEHICLES, *ANIMALS)
_APART_MS = 1_500  # events of which one is said to be the first
_NOBODY = 0.3  # of how often it is asked for what did not happen, where there is nobody it could happen to
_TOLD = 4  # more events are not told at once


@dataclass(frozen=True, slots=True)
class _Rule:
    """To whom it can happen, how gladly it is asked for where it has, and how often where it has not.

    With these, yes and no are balanced for each sort of event where somebody is seen to whom it can happen: otherwise
    who it can happen to would be the answer.
    """

    can: Callable[[Kind], bool]
    groups: tuple[Subject, ...]
    rare: float
    often: float


_RULES = {
    What.ENTERS: _Rule(lambda kind: kind.role is not Role.FIRE, (*_GROUPS, *THINGS), 1, 5.0),
    What.LEAVES: _Rule(lambda kind: kind.role is not Role.FIRE, (*_GROUPS, *THINGS), 1, 6.5),
    What.STOPS: _Rule(lambda kind: kind.role in _MOVERS, _GROUPS, 2, 2.2),
    What.IS_TAKEN: _Rule(lambda kind: kind.carried, THINGS, 6, 0.8),
    What.ENTERS_ZONE: _Rule(lambda kind: kind.role in _MOVERS, _GROUPS, 1, 2.0),
    What.LEAVES_ZONE: _Rule(lambda kind: kind.role in _MOVERS, _GROUPS, 1, 2.6),
    What.CROSSES: _Rule(lambda kind: kind.role in _MOVERS, _GROUPS, 3, 1.6),
    What.WAITS: _Rule(lambda kind: kind.role in _MOVERS, _GROUPS, 1, 4.5),
    What.FALLS: _Rule(lambda kind: kind.role is Role.PERSON, PEOPLE, 6, 6.5),
    What.IS_LEFT_BEHIND: _Rule(lambda kind: kind.carried, THINGS, 12, 0.6),
    What.BURNS: _Rule(lambda kind: kind.burns, (*VEHICLES, *THINGS), 2, 2.0),
}
_SORTS = tuple(
    Sort(what, subject)
    for what, rule in _RULES.items()
    for subject in (*BY_KIND, *rule.groups)
    if subject.name not in KINDS or rule.can(KINDS[subject.name])
)


@lru_cache(4)
def happened(shown: Shown) -> list[tuple[Sort, list[Event]]]:
    """Every sort of event with those of the window, as far as it can be told."""
    in_question = {event.what for event in shown.nearby} | {What.WAITS}
    names = {name for one in shown.best.values() for name in (one.name, *one.also)}
    painted = [subject for subject in BY_COLOUR if subject.name in names]
    found = []
    for sort in (*_SORTS, *(Sort(what, subject) for subject in painted for what in (What.ENTERS, What.LEAVES))):
        for zone in shown.zones if sort.what in (What.ENTERS_ZONE, What.LEAVES_ZONE) else ("",):
            one = Sort(sort.what, sort.subject, zone)
            events_ = of_sort(shown, one) if sort.what in in_question else []
            if events_ is not None:
                found.append((one, events_))
    return found


def events(shown: Shown) -> list[Claim]:
    """Whether it happened. What did not is asked for about as often as it does, whatever the number of names."""
    found = happened(shown)
    quiet = [(sort, _weight(shown, sort)) for sort, events_ in found if not events_]
    totals = {what: sum(weight for sort, weight in quiet if sort.what is what) for what in What}
    kinds = [KINDS[one.name] for one in shown.best.values()]
    often = {what: rule.often * (1 if any(map(rule.can, kinds)) else _NOBODY) for what, rule in _RULES.items()}
    claims = []
    for sort, events_ in found:
        rule, what = _RULES[sort.what], sort.what
        weight = rule.rare if events_ else often[what] * _weight(shown, sort) / totals[what]
        evidence = frames_of(shown, events_)
        claims.append(
            Claim(_fields(sort), bool(events_), weight=weight, templates=f"event {what.name}", evidence=evidence)
        )
    return claims


def fire(shown: Shown) -> list[Claim]:
    """Whether anything at all burned."""
    found = of_sort(shown, Sort(What.BURNS, THINGS[0]))
    return [] if found is None else [Claim({}, bool(found), evidence=frames_of(shown, found))]


def on_fire(shown: Shown) -> list[Claim]:
    """Whether it burns in the last frame; a fire that is over is not asked for."""
    return [
        Claim(_fields(sort), bool(found), weight=1.0 if found else _weight(shown, sort))
        for sort, found in happened(shown)
        if sort.what is What.BURNS and all(one.start_ms <= shown.last_ms < one.end_ms for one in found)
    ]


def orders(shown: Shown) -> list[Claim]:
    """What of two came first; each of the two says which one is meant."""
    return [
        replace(claim, verdict=None, answer=sentence(_first_then([words for words, _ in claim.clauses])))
        for claim in is_before(shown)
    ]


def is_before(shown: Shown) -> list[Claim]:
    found = []
    for clauses in _pairs(shown):
        (first, _), (second, _) = clauses
        evidence = tuple(sorted({frame for _, frames in clauses for frame in frames}))
        for one, other, verdict in ((first, second, True), (second, first, False)):
            found.append(Claim({"one": (one,), "other": (other,)}, verdict, evidence=evidence, clauses=clauses))
    return found


def how_often(shown: Shown) -> list[Claim]:
    return [
        Claim(_fields(sort), answer=sentence(times(len(found))), weight=1.0 if found else 0.02 * _weight(shown, sort))
        for sort, found in _countable(shown)
    ]


def several_times(shown: Shown) -> list[Claim]:
    """More than once; one that never happened is seldom asked for."""
    return [
        Claim(_fields(sort), len(found) > 1, weight=1.0 if found else 0.02 * _weight(shown, sort))
        for sort, found in _countable(shown)
    ]


def how_long_ago(shown: Shown) -> list[Claim]:
    return [
        Claim(_fields(sort), answer=sentence(f"{about(shown.last_ms - found[0].start_ms)} ago"))
        for sort, found in _countable(shown)
        if len(found) == 1 and found[0].start_ms >= shown.first_ms
    ]


def since_when(shown: Shown) -> list[Claim]:
    """How long somebody in view has been there: what is in view from the first frame on has been there all the time."""
    found = []
    for subject in BY_KIND:
        among = subject.among(shown.now)
        if len(among) != 1 or not is_clear(among[0]) or subject.in_doubt(shown.now, shown.fixtures):
            continue
        actor = among[0].actor
        views = [shown.one(actor, frame) for frame in range(len(shown.seen))]
        came = [one for one in shown.nearby if one.what is What.ENTERS and one.actor == actor]
        if not came and all(one and is_clear(one) for one in views):
            found.append(Claim({"it": (subject.noun,)}, answer="Since the beginning.", weight=0.5))
        elif came and is_evident(shown, came[-1]):
            words = sentence(f"for {about(shown.last_ms - came[-1].start_ms)}")
            found.append(Claim({"it": (subject.noun,)}, answer=words))
    return found


def story(shown: Shown) -> list[Claim]:
    """What happened, told in order; what cannot be told clearly is no part of it, and nothing is told of too much."""
    evident = [one for one in shown.nearby if is_evident(shown, one)]
    told = [one for one in evident if not _goes_without_saying(shown, one, evident)]
    if len(told) > _TOLD:
        told = [one for one in told if not one.zone]
    if 0 < len(told) <= _TOLD:
        return [Claim({}, answer=sentence(_first_then([_clause(shown, one) for one in told])))]
    if shown.nearby:
        return []
    moving = [one for one in shown.best.values() if one.doing in MOVING and one.doing is not Doing.CARRIED]
    if len(moving) > 1 or any(one.visible > 0 and not is_clear(one) for seen in shown.seen for one in seen):
        return []
    active = f"{noun_of(moving[0]).a} was {moving[0].doing.value}" if moving else "nothing"
    return [Claim({}, answer=sentence(active))]


def _countable(shown: Shown) -> Iterator[tuple[Sort, list[Event]]]:
    """Of moments and falls; who carries something would be counted as two things."""
    for sort, found in happened(shown):
        if sort.subject not in THINGS and (sort.what not in LASTING or sort.what is What.FALLS):
            yield sort, found


def _pairs(shown: Shown) -> Iterator[Clauses]:
    """Two events of different actors, each the only one of its sort, the earlier first.

    Waiting and crossing take too long to be before or after something.
    """
    only = [
        (found[0], f"{sort.subject.noun.a} {verbs(sort.what, sort.zone)[0].past}")
        for sort, found in happened(shown)
        if len(found) == 1
        and sort.subject in BY_KIND
        and sort.what not in (What.WAITS, What.CROSSES)
        and found[0].start_ms >= shown.first_ms
    ]
    for first, clause in only:
        for second, other in only:
            if first.actor != second.actor and second.start_ms - first.start_ms >= _APART_MS:
                yield (clause, frames_of(shown, [first])), (other, frames_of(shown, [second]))


def _fields(sort: Sort) -> dict[str, tuple[Field, ...]]:
    return {"it": (sort.subject.noun,), "verb": verbs(sort.what, sort.zone)}


def _weight(shown: Shown, sort: Sort) -> float:
    """Of asking for what did not happen: rather of those that are there."""
    if sort.subject in _GROUPS or sort.subject in THINGS:
        return 3.0
    if sort.subject.colour:
        return 0.5
    return 4.0 if any(sort.subject.name in (one.name, *one.also) for one in shown.best.values()) else 0.3


def _goes_without_saying(shown: Shown, event: Event, others: list[Event]) -> bool:
    """Coming and going of who crosses or is carried, and the stop of who waits."""
    if event.what in (What.ENTERS, What.LEAVES, What.CROSSES):
        best = shown.best.get(event.actor)
        if best is not None and best.doing is Doing.CARRIED:
            return True
    wider = {What.ENTERS: What.CROSSES, What.LEAVES: What.CROSSES, What.STOPS: What.WAITS}.get(event.what)
    return any(one.actor == event.actor and one.what is wider for one in others)


def _clause(shown: Shown, event: Event) -> str:
    what: Noun = noun_of(shown.best[event.actor]) if event.actor in shown.best else noun(event.name)
    if event.start_ms < shown.first_ms and event.what in PASSIVE:
        return f"{what.a} {PASSIVE[event.what]}"
    return f"{what.a} {verbs(event.what, event.zone)[0].past}"


def _first_then(clauses: list[str]) -> str:
    return clauses[0] if len(clauses) == 1 else f"first {', then '.join(clauses)}"
