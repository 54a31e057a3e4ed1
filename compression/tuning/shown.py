"""Decides what there is to ask about: the truth of the frames a reader is shown, and what happened around them."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from standwatch.compression.world.camera import Camera
from standwatch.compression.world.happenings import events_of
from standwatch.compression.world.kinds import KINDS, Role
from standwatch.compression.world.script import Event, What
from standwatch.compression.world.seeing import Seen
from standwatch.compression.world.truth import is_clear

ANYTHING = "anything"
LASTING = frozenset({What.WAITS, What.FALLS, What.IS_LEFT_BEHIND, What.BURNS, What.CROSSES})
_AROUND_MS = 1_000  # what happened so shortly before or after the window is no clear no
_ROLE_WORDS = {Role.VEHICLE: ("vehicle",), Role.ANIMAL: ("animal",)}


@dataclass(frozen=True, eq=False)
class Shown:
    """Some frames of one scene. Each frame's objects also go by the words for their role: vehicle, animal, anything."""

    width: int  # of the picture, pixels
    zones: tuple[str, ...]  # names of all painted zones of the place
    fixtures: tuple[str, ...]  # what belongs to the place
    times_ms: tuple[int, ...]  # of the frames, increasing
    seen: tuple[tuple[Seen, ...], ...]  # of each frame
    events: tuple[Event, ...]  # of the whole scene
    carriers: tuple[tuple[int, int], ...] = ()  # numbers of a thing and of who carries it

    def __post_init__(self) -> None:
        if not self.times_ms or len(self.times_ms) != len(self.seen):
            raise ValueError(f"seen: {len(self.seen)} frames for {len(self.times_ms)} times; give one or more of each")
        if any(later <= one for one, later in zip(self.times_ms, self.times_ms[1:], strict=False)):
            raise ValueError("times_ms: each must be later than the one before it; sort them and leave out doubles")

    @property
    def now(self) -> tuple[Seen, ...]:
        """The last frame: what the present tense is about."""
        return self.seen[-1]

    @property
    def first_ms(self) -> int:
        return self.times_ms[0]

    @property
    def last_ms(self) -> int:
        return self.times_ms[-1]

    def one(self, actor: int, frame: int) -> Seen | None:
        """An object in a frame, if any pixel of it is visible there and the frame exists."""
        return self._by_actor[frame].get(actor) if 0 <= frame < len(self.seen) else None

    @cached_property
    def nearby(self) -> tuple[Event, ...]:
        """Events that touch the window, or begin or end within a second of it."""
        first, last = self.first_ms - _AROUND_MS, self.last_ms + _AROUND_MS
        return tuple(one for one in self.events if one.start_ms <= last and end_of(one) >= first)

    @cached_property
    def best(self) -> dict[int, Seen]:
        """Each object as it is seen best, if it is clear in any frame at all."""
        found: dict[int, Seen] = {}
        for one in (one for seen in self.seen for one in seen if is_clear(one)):
            if one.actor not in found or found[one.actor].visible < one.visible:
                found[one.actor] = one
        return found

    @cached_property
    def _by_actor(self) -> list[dict[int, Seen]]:
        return [{one.actor: one for one in seen if one.visible > 0} for seen in self.seen]


def end_of(event: Event) -> int:
    """When it is over; a moment is so at once."""
    return event.end_ms if event.what in LASTING else event.start_ms


def shown(camera: Camera, times_ms: tuple[int, ...]) -> Shown:
    """The truth about these times of a camera's scene; no picture is drawn. Raises ValueError unless they increase."""
    scene = camera.scene
    return Shown(
        width=scene.stage.lens.width,
        zones=tuple(zone.name for zone in scene.stage.zones),
        fixtures=tuple(fixture.what for fixture in scene.stage.fixtures),
        times_ms=times_ms,
        seen=tuple(tuple(_with_role_words(one) for one in camera.seen(t_ms)) for t_ms in times_ms),
        events=_events(camera),
        carriers=tuple((actor.number, actor.carrier) for actor in scene.actors if actor.carrier is not None),
    )


@lru_cache(4)
def _events(camera: Camera) -> tuple[Event, ...]:
    """Many windows are taken of one scene."""
    return events_of(camera.scene)


def role_words(name: str) -> tuple[str, ...]:
    """The words that are true of a kind because of its role."""
    return (*_ROLE_WORDS.get(KINDS[name].role, ()), ANYTHING)


def _with_role_words(one: Seen) -> Seen:
    return replace(one, also=(*one.also, *role_words(one.name)))
