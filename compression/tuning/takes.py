"""Decides which scenes training sees: where, how many frames of it, and how far apart; from a seed alone.

Most are single frames full of things, which teach what things are; the rest are windows of a live scene in which things
happen. Places come from a small number of seeds, because what is drawn of a place is kept.
"""

import random
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial

from standwatch.compression.world.acts import Act
from standwatch.compression.world.director import direct, still
from standwatch.compression.world.happenings import events_of
from standwatch.compression.world.kinds import KINDS
from standwatch.compression.world.script import Scene, What
from standwatch.compression.world.sites import SITES

TEST_SEEDS = 1 << 32  # takes from this seed on are for tests: of scenes and places that nothing is trained on
_PLACES = 400
SIDE_PX = 224
_MINUTES = 2.0
_WINDOW_FRAMES = (4, 8, 8, 8, 12, 16)
_MOST_CONTEXT = 48  # frames: what a window of 16 can have before it in a segment of 64
_GAPS_MS = (500, 500, 1_000, 1_000, 2_000)
_AROUND = 0.6  # part of the windows of something rare that show some of it; the others of its scenes mostly do not
ORDER = "order"  # windows in which something happens to one, and then something to another
_APART_MS = 1_500  # two such events, at least
RARE = {Act.FALL.value: What.FALLS, Act.FIRE.value: What.BURNS, Act.LEFT_BEHIND.value: What.IS_LEFT_BEHIND}


@dataclass(frozen=True)
class Take:
    """A scene and the times at which it is filmed."""

    scene: Scene
    times_ms: tuple[int, ...]
    source: str  # says how it was made
    context: int = 0  # frames at the beginning that are not asked about


def subjects(windows: bool) -> tuple[str, ...]:
    """What takes can be `of`: a kind of object, and of windows a rare act or ORDER too."""
    return (*KINDS, *RARE, ORDER) if windows else tuple(KINDS)


def draw_take(
    seed: int, real_places: tuple[str, ...] = (), *, stills: bool = False, windows: bool = False, of: str = ""
) -> Take:
    """The take of this seed; a single frame or a window if only `stills` or only `windows` are wanted.

    Most stills `of` a kind have one or two. Windows `of` a kind or a rare act are cut from scenes in which it occurs
    once, where there is room for it, windows of ORDER around two events. Scenes stand at sites, and before pictures of
    real places where there are any. Raises ValueError if there is no such kind or rare act.
    """
    if of and of not in subjects(windows=not stills):
        raise ValueError(f"of: {of!r} is no kind of object, and of windows none of {', '.join((*RARE, ORDER))} either")
    chance = random.Random(f"take {seed}")
    site = chance.choice((*SITES, *SITES, *(f"real {name}" for name in real_places)))
    place_seed = chance.randrange(_PLACES) + (_PLACES if seed >= TEST_SEEDS else 0)
    single = chance.random() < 0.65
    if stills or (single and not windows):
        count = chance.choice((0, 1, 1, 2, 2, 3, 3, 4))
        names = (of,) * chance.choice((0, 1, 1, 1, 2)) if of else ()
        many = max(count, len(names))
        scene = still(seed, site, many, names, place_seed=place_seed, width=SIDE_PX, height=SIDE_PX)
        return Take(scene, (500,), f"still {site} {seed} {of}".rstrip())
    frames, gap_ms = chance.choice(_WINDOW_FRAMES[1 if of == ORDER else 0 :]), chance.choice(_GAPS_MS)
    per_minute = chance.choice((6.0, 9.0, 12.0) if of == ORDER else (0.0, 3.0, 6.0, 9.0, 12.0))
    scene = _scene(seed, site, per_minute, "" if of == ORDER else of, place_seed)
    latest_ms = scene.length_ms - frames * gap_ms
    first_ms = chance.randrange(0, latest_ms, 100)
    if of == ORDER:
        around = _around_two(scene, frames, gap_ms, chance)
        first_ms = first_ms if around is None else min(around, latest_ms)
    elif of:
        rare = [event for event in events_of(scene) if event.name == of or event.what is RARE.get(of)]
        if rare and chance.random() < _AROUND:
            event = chance.choice(rare)
            first_ms = min(max(0, chance.randint(event.start_ms - frames * gap_ms, event.end_ms)), latest_ms)
    times_ms = tuple(first_ms + number * gap_ms for number in range(frames))
    return Take(scene, times_ms, f"window {site} {seed} {of}".rstrip())


def _around_two(scene: Scene, frames: int, gap_ms: int, chance: random.Random) -> int | None:
    """When so many frames begin that are around two events of different ones, each the only one of its sort there.

    None where the scene has no such two.
    """
    moments = [one for one in events_of(scene) if one.what not in (What.WAITS, What.CROSSES)]
    longest_ms = (frames - 3) * gap_ms
    pairs = [
        (one, other)
        for one in moments
        for other in moments
        if one.actor != other.actor and _APART_MS <= other.start_ms - one.start_ms <= longest_ms
    ]
    for one, other in chance.sample(pairs, len(pairs)):
        latest_ms = one.start_ms - gap_ms
        first_ms = chance.randint(min(latest_ms, other.start_ms - (frames - 2) * gap_ms), latest_ms)
        span = range(first_ms, first_ms + frames * gap_ms)
        sorts = Counter((event.what, event.name) for event in moments if event.start_ms in span)
        if first_ms >= 0 and sorts[one.what, one.name] == sorts[other.what, other.name] == 1:
            return first_ms
    return None


def _scene(seed: int, site: str, per_minute: float, once: str, place_seed: int) -> Scene:
    """With what is to occur once, or without where there is no room for it."""
    directed = partial(direct, seed, site, _MINUTES, per_minute, place_seed=place_seed, width=SIDE_PX, height=SIDE_PX)
    try:
        return directed(once=once)
    except ValueError:
        return directed()


def with_context(take: Take) -> Take:
    """A window with some of what came before it, as it is read in a segment of a live feed; the same window.

    How much is drawn from where the take came from; a single frame, and a window at a scene's beginning, have none.
    """
    if len(take.times_ms) < 2:
        return take
    gap_ms = take.times_ms[1] - take.times_ms[0]
    wanted = random.Random(f"context {take.source}").randint(1, _MOST_CONTEXT)
    before = min(wanted, take.times_ms[0] // gap_ms)
    times_ms = tuple(take.times_ms[0] - gap_ms * number for number in range(before, 0, -1))
    return replace(take, times_ms=times_ms + take.times_ms, context=before)
