"""Decides which events can be told from the frames shown: what decides them is clear in a frame, before and after.

Whoever asks for an event that only may have been seen, or that began or ended just outside, gets no true answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from standwatch.compression.tuning.quiz_subjects import Subject
from standwatch.compression.tuning.shown import ANYTHING, LASTING, Shown, role_words
from standwatch.compression.world.kinds import KINDS, Role
from standwatch.compression.world.script import DOWN, STILL, Doing, Event, What
from standwatch.compression.world.seeing import Seen
from standwatch.compression.world.truth import is_clear

_WAITED_MS = 3_000  # standing that is seen for so long is waiting
_PART = 0.6  # of an object that comes or goes, visible outside: more of it, and it was there already


@dataclass(frozen=True, slots=True)
class Sort:
    """A sort of event: what, to whom, where."""

    what: What
    subject: Subject
    zone: str = ""


def of_sort(shown: Shown, sort: Sort) -> list[Event] | None:
    """Every such event of the window, in order; None if it cannot be said for each whether it is one."""
    found = [one for one in shown.nearby if one.what is sort.what and sort.zone in ("", one.zone)]
    subject = sort.subject
    if any(subject.may_be_called({one.name}) for one in found):
        return None
    found = [one for one in found if _is_called(one.name, subject.name)]
    if subject.colour:
        colours = {one.actor: shown.best[one.actor].colour if one.actor in shown.best else "" for one in found}
        if "" in colours.values():
            return None
        found = [one for one in found if colours[one.actor] == subject.colour]
    if sort.what is What.WAITS and not found and _may_wait(shown, subject):
        return None
    return found if all(is_evident(shown, one) for one in found) else None


def is_evident(shown: Shown, event: Event) -> bool:
    """Whether the frames show it."""
    if event.what is What.ENTERS:
        return _comes(shown, event.actor, event.start_ms)
    if event.what is What.LEAVES:
        return _goes(shown, event.actor, event.start_ms)
    if event.what is What.CROSSES:
        return _comes(shown, event.actor, event.start_ms) and _goes(shown, event.actor, event.end_ms)
    if event.what in (What.ENTERS_ZONE, What.LEAVES_ZONE):
        return _changes_zone(shown, event)
    if event.what in (What.STOPS, What.IS_TAKEN):
        before, after = _neighbours(shown, event.actor, event.start_ms)
        wanted = STILL if event.what is What.STOPS else {Doing.CARRIED}
        return _clear(before) and after is not None and is_clear(after) and after.doing in wanted
    if event.what is What.IS_LEFT_BEHIND:
        return _is_left(shown, event)
    return _lasts(shown, event)


def frames_of(shown: Shown, events: Sequence[Event]) -> tuple[int, ...]:
    """The frames in which who it happened to is clear while it did; of a moment those before and after it."""
    found: set[int] = set()
    for event in events:
        before = _frame_before(shown, event.start_ms)
        frames = _frames_during(shown, event) if event.what in LASTING else (before, before + 1)
        found.update(frame for frame in frames if _clear(shown.one(event.actor, frame)))
    return tuple(sorted(found))


def _comes(shown: Shown, actor: int, t_ms: int) -> bool:
    """Hardly there in the frame before, and clear in one of the two after."""
    before = _frame_before(shown, t_ms)
    if not 0 <= before < len(shown.seen) - 1:
        return False
    return _part(shown.one(actor, before)) < _PART and any(_clear(shown.one(actor, before + step)) for step in (1, 2))


def _goes(shown: Shown, actor: int, t_ms: int) -> bool:
    before = _frame_before(shown, t_ms)
    if not 0 <= before < len(shown.seen) - 1:
        return False
    return _part(shown.one(actor, before + 1)) < _PART and any(_clear(shown.one(actor, before - n)) for n in (0, 1))


def _changes_zone(shown: Shown, event: Event) -> bool:
    """Clear in it on one side of the moment, and not in it on the other."""
    before, after = _neighbours(shown, event.actor, event.start_ms)
    if not 0 <= _frame_before(shown, event.start_ms) < len(shown.seen) - 1:
        return False
    inside, outside = (after, before) if event.what is What.ENTERS_ZONE else (before, after)
    if inside is None or not is_clear(inside) or event.zone not in inside.zones:
        return False
    return outside is None or event.zone not in outside.zones


def _is_left(shown: Shown, event: Event) -> bool:
    """It is seen how it is put down, that it stands there, and that who brought it has gone."""
    carrier = dict(shown.carriers)[event.actor]
    before, _ = _neighbours(shown, event.actor, event.start_ms)
    gone = [one.start_ms for one in shown.events if one.what is What.LEAVES and one.actor == carrier]
    gone_ms = min((t_ms for t_ms in gone if t_ms >= event.start_ms), default=shown.last_ms)
    standing = [
        shown.one(event.actor, frame) for frame, t_ms in enumerate(shown.times_ms) if gone_ms < t_ms < event.end_ms
    ]
    brought = shown.one(carrier, _frame_before(shown, event.start_ms))
    return _clear(brought) and before is not None and any(_clear(one) for one in standing)


def _lasts(shown: Shown, event: Event) -> bool:
    frames = _frames_during(shown, event)
    clear = [(frame, one) for frame in frames if (one := shown.one(event.actor, frame)) and is_clear(one)]
    if event.what is What.FALLS:
        return any(one.doing in DOWN for _, one in clear)
    if event.what is What.WAITS:
        return bool(clear) and shown.times_ms[clear[-1][0]] - shown.times_ms[clear[0][0]] >= _WAITED_MS
    return any(_clear(one) and one.name == "fire" for frame, _ in clear for one in shown.seen[frame])


def _may_wait(shown: Shown, subject: Subject) -> bool:
    """Whether one of them stands so long that somebody would say it waits, whatever came before."""
    since: dict[int, int] = {}
    for t_ms, seen in zip(shown.times_ms, shown.seen, strict=True):
        still = (one for one in subject.among(seen) if one.doing in STILL and KINDS[one.name].role is not Role.THING)
        if any(t_ms - since.setdefault(one.actor, t_ms) >= _WAITED_MS for one in still):
            return True
    return False


def _is_called(name: str, called: str) -> bool:
    return called in (name, ANYTHING, *KINDS[name].also, *role_words(name))


def _neighbours(shown: Shown, actor: int, t_ms: int) -> tuple[Seen | None, Seen | None]:
    before = _frame_before(shown, t_ms)
    return shown.one(actor, before), shown.one(actor, before + 1)


def _frames_during(shown: Shown, event: Event) -> list[int]:
    return [frame for frame, t_ms in enumerate(shown.times_ms) if event.start_ms <= t_ms < event.end_ms]


def _frame_before(shown: Shown, t_ms: int) -> int:
    """The last frame not after this time; -1 if there is none."""
    return sum(1 for one in shown.times_ms if one <= t_ms) - 1


def _clear(one: Seen | None) -> bool:
    return one is not None and is_clear(one)


def _part(one: Seen | None) -> float:
    return one.visible if one else 0.0
