"""Decides what events a scene has: read off the actors' paths alone, to the millisecond, whoever wrote them.

Something is in view while the middle of its foot is between the left and the right border of the picture, hidden or
not. It is in a zone while it is in view and that point is inside.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from standwatch.compression.world.perspective import Lens
from standwatch.compression.world.script import DOWN, STILL, Actor, Doing, Event, Leg, Scene, What
from standwatch.compression.world.sites import Place, Zone

Span = tuple[float, float]  # [from, to) in milliseconds

_WAITS_MS = 5_000  # standing for so long is waiting
_LASTING = frozenset({What.WAITS, What.FALLS, What.IS_LEFT_BEHIND, What.BURNS})
_MOVING = frozenset({Doing.WALKING, Doing.RUNNING, Doing.MOVING})


def events_of(scene: Scene) -> tuple[Event, ...]:
    """Every event of the scene in the order of beginning; one that goes on ends with the scene.

    What lasts (waiting, a fall, a fire, a thing left behind) and began before the scene begins with it.
    """
    lens, end_ms = scene.stage.lens, scene.length_ms
    views = [in_view(actor, lens) for actor in scene.actors]
    found: list[Event] = []
    for actor in scene.actors:
        found += _comings(actor, views[actor.number])
        found += _stops(actor, views[actor.number])
        found += _falls(actor)
        found += _fires(actor, scene)
        found += _left_behind(actor, scene, views)
        for zone in scene.stage.zones:
            found += _zone_visits(actor, zone, views[actor.number])
    shown = [_shown(event, end_ms) for event in found if event.start_ms < end_ms and _is_shown(event)]
    return tuple(sorted(shown, key=lambda event: (event.start_ms, event.actor, event.what)))


def in_view(actor: Actor, lens: Lens) -> list[Span]:
    """When an actor is in view."""
    reach = lens.width / 2 / (lens.focal * lens.height)
    sides: tuple[Callable[[Place], float], ...] = (
        lambda place: reach * place.z - place.x,
        lambda place: reach * place.z + place.x,
    )
    return _joined(_while_positive(leg, sides) for leg in actor.legs)


def in_zone(actor: Actor, zone: Zone) -> list[Span]:
    """When the foot of an actor is inside a zone, in view or not; what is carried has none."""
    sides: tuple[Callable[[Place], float], ...] = (
        lambda place: place.x - zone.x0,
        lambda place: zone.x1 - place.x,
        lambda place: place.z - zone.z0,
        lambda place: zone.z1 - place.z,
    )
    on_floor = (leg for leg in actor.legs if leg.start.above_m == leg.end.above_m == 0)
    return _joined(_while_positive(leg, sides) for leg in on_floor)


def _while_positive(leg: Leg, sides: tuple[Callable[[Place], float], ...]) -> Span | None:
    """When all of these are positive during a leg; each is linear in x and z, so it changes its sign at most once."""
    start, end = 0.0, 1.0
    for side in sides:
        first, last = side(leg.start), side(leg.end)
        if first <= 0 and last <= 0:
            return None
        if first < 0 < last:
            start = max(start, first / (first - last))
        elif last < 0 < first:
            end = min(end, first / (first - last))
    if start >= end:
        return None
    length = leg.end_ms - leg.start_ms
    return leg.start_ms + start * length, leg.start_ms + end * length


def _joined(spans: Iterator[Span | None]) -> list[Span]:
    found: list[Span] = []
    for span in spans:
        if span is None:
            continue
        if found and span[0] - found[-1][1] < 1e-6:
            found[-1] = (found[-1][0], span[1])
        else:
            found.append(span)
    return found


def _comings(actor: Actor, view: list[Span]) -> Iterator[Event]:
    for start, end in view:
        enters, leaves = start > actor.start_ms, end < actor.end_ms
        if enters:
            yield _event(What.ENTERS, actor, start, start)
        if leaves:
            yield _event(What.LEAVES, actor, end, end)
        if enters and leaves and _side(actor, start) != _side(actor, end):
            yield _event(What.CROSSES, actor, start, end)


def _side(actor: Actor, t_ms: float) -> bool:
    leg = actor.leg_at(t_ms)
    assert leg is not None, "an actor is in view only while it exists"
    return leg.at(t_ms).x > 0


def _stops(actor: Actor, view: list[Span]) -> Iterator[Event]:
    for place, leg in enumerate(actor.legs[1:], 1):
        if leg.doing not in STILL or actor.legs[place - 1].doing not in _MOVING or not _within(leg.start_ms, view):
            continue
        yield _event(What.STOPS, actor, leg.start_ms, leg.start_ms)
        end_ms = leg.end_ms
        for later in actor.legs[place + 1 :]:
            if later.doing not in STILL:
                break
            end_ms = later.end_ms
        if end_ms - leg.start_ms >= _WAITS_MS:
            yield _event(What.WAITS, actor, leg.start_ms, end_ms)


def _falls(actor: Actor) -> Iterator[Event]:
    for place, leg in enumerate(actor.legs):
        if leg.doing is Doing.FALLING:
            end_ms = leg.end_ms
            for later in actor.legs[place + 1 :]:
                if later.doing not in DOWN:
                    break
                end_ms = later.end_ms
            yield _event(What.FALLS, actor, leg.start_ms, end_ms)


def _fires(actor: Actor, scene: Scene) -> Iterator[Event]:
    if actor.burning is not None:
        yield _event(What.BURNS, scene.actors[actor.burning], actor.start_ms, actor.end_ms)


def _left_behind(actor: Actor, scene: Scene, views: list[list[Span]]) -> Iterator[Event]:
    """A thing is left behind if who brought it goes out of view while it stands there."""
    if actor.carrier is None:
        return
    gone = [end for _, end in views[actor.carrier] if end < scene.actors[actor.carrier].end_ms]
    put_ms = None
    for leg in actor.legs:
        if leg.doing is not Doing.CARRIED and put_ms is None:
            put_ms = leg.start_ms
        elif leg.doing is Doing.CARRIED and put_ms is not None:
            yield _event(What.IS_TAKEN, actor, leg.start_ms, leg.start_ms)
            if any(put_ms <= end < leg.start_ms for end in gone):
                yield _event(What.IS_LEFT_BEHIND, actor, put_ms, leg.start_ms)
            put_ms = None
    if put_ms is not None and any(put_ms <= end for end in gone):
        yield _event(What.IS_LEFT_BEHIND, actor, put_ms, actor.end_ms)


def _zone_visits(actor: Actor, zone: Zone, view: list[Span]) -> Iterator[Event]:
    for one_start, one_end in in_zone(actor, zone):
        for other_start, other_end in view:
            start, end = max(one_start, other_start), min(one_end, other_end)
            if start >= end:
                continue
            if start > actor.start_ms:
                yield _event(What.ENTERS_ZONE, actor, start, start, zone.name)
            if end < actor.end_ms:
                yield _event(What.LEAVES_ZONE, actor, end, end, zone.name)


def _within(t_ms: float, spans: list[Span]) -> bool:
    return any(start <= t_ms < end for start, end in spans)


def _event(what: What, actor: Actor, start: float, end: float, zone: str = "") -> Event:
    return Event(what, actor.number, actor.kind.name, round(start), round(end), zone)


def _is_shown(event: Event) -> bool:
    return event.start_ms >= 0 or (event.what in _LASTING and event.end_ms > 0)


def _shown(event: Event, end_ms: int) -> Event:
    return replace(event, start_ms=max(0, event.start_ms), end_ms=min(event.end_ms, end_ms))
