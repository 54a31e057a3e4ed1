"""Decides what happens in a scene, from a seed: which acts, how many, when, and in what light."""

import random
from collections.abc import Sequence
from dataclasses import replace

from standwatch.compression.world.acts import Act, kinds_for, stage_act
from standwatch.compression.world.kinds import KINDS, Kind, Role, of_role
from standwatch.compression.world.moves import Cast, Path
from standwatch.compression.world.script import Daylight, Doing, Scene, kind
from standwatch.compression.world.sites import Stage, build_stage

FPS = 10.0
_BEFORE_MS = 120_000  # acts begin so long before the scene, which so begins in the midst of things
_OFTEN = {
    Act.CROSSING: 5,
    Act.CARRYING: 3,
    Act.VISIT: 4,
    Act.ZONE_VISIT: 3,
    Act.APPROACH: 3,
    Act.DRIVE: 6,
    Act.WANDER: 2,
    Act.FALL: 1,
    Act.LEFT_BEHIND: 2,
    Act.FIRE: 1,
}
_ALIKE: dict[str, tuple[Act, ...]] = {  # acts in which that of the left happens too
    Act.LEFT_BEHIND: (Act.FIRE,),
    Act.CARRYING: (Act.LEFT_BEHIND, Act.FIRE),
}


def direct(
    seed: int,
    site: str,
    minutes: float,
    per_minute: float,
    *,
    once: str = "",
    place_seed: int | None = None,
    width: int = 224,
    height: int = 224,
    fps: float = FPS,
) -> Scene:
    """A scene of this site in which `per_minute` acts begin each minute on average; at 0 nothing ever happens.

    `once` names an act (see `Act`) or a kind: it happens exactly once, at any time in the middle eight tenths, and
    nothing else in the scene is like it. Things may stand there from the beginning. Raises ValueError for a site,
    size or name that there is none of, and where the act has no room at this site. `place_seed` is that of the stage
    (None: `seed`): scenes that share it are filmed at one place by one camera, which is drawn only once.
    """
    stage = build_stage(site, seed if place_seed is None else place_seed, width, height)
    chance = random.Random(f"acts {site} {seed}")
    cast = Cast(stage, chance)
    empty = Scene(stage, fps, minutes, _daylight(chance), ())
    length_ms = empty.length_ms
    rare = _rare(once, stage)
    banned = _like(rare[1]) if rare and once not in set(Act) else frozenset[str]()
    _furnish(cast, length_ms, banned)
    if rare:
        _stage_once(cast, rare, length_ms, once)
    acts = {act: often for act, often in _OFTEN.items() if act != once and act not in _ALIKE.get(once, ())}
    t_ms = -float(_BEFORE_MS)
    while per_minute > 0:
        t_ms += chance.expovariate(per_minute) * 60_000
        if t_ms >= length_ms:
            break
        _stage_any(cast, acts, banned, int(t_ms))
    return replace(empty, actors=tuple(cast.actors))


def still(
    seed: int,
    site: str,
    count: int,
    names: Sequence[str] = (),
    *,
    place_seed: int | None = None,
    width: int = 224,
    height: int = 224,
) -> Scene:
    """A scene of one second in which `count` objects stand about; fewer where there is no room.

    They are of the kinds named, in this order, the rest of any kind that can be at such a place. `place_seed` as in
    `direct`.
    """
    stage = build_stage(site, seed if place_seed is None else place_seed, width, height)
    chance = random.Random(f"still {site} {seed}")
    cast = Cast(stage, chance)
    roles = tuple(role for role in Role if role is not Role.FIRE and (stage.lanes or role is not Role.VEHICLE))
    for place in range(count):
        chosen = kind(names[place]) if place < len(names) else chance.choice(of_role(*roles))
        spot = cast.spot(cast.way(), 0, 1_000)
        if spot is not None:
            doing = Doing.STANDING if chosen.role is not Role.FIRE else Doing.BURNING
            if chosen.role is Role.PERSON:
                doing = chance.choice((Doing.STANDING, Doing.STANDING, Doing.KNEELING, Doing.LYING))
            cast.add(chosen, Path(0, spot).stay(1_000, doing))
    return Scene(stage, FPS, 1 / 60, _daylight(chance), tuple(cast.actors))


def _stage_any(cast: Cast, acts: dict[Act, int], banned: frozenset[str], start_ms: int) -> None:
    """One act that there is room for; after a few tries none."""
    for _ in range(5):
        (act,) = cast.chance.choices(list(acts), list(acts.values()))
        able = [one for one in _able(act, cast.stage) if one.name not in banned]
        before = len(cast.actors)
        if able and stage_act(act, cast, cast.chance.choice(able), start_ms):
            staged = cast.actors[before:]
            if any(actor.kind.name in banned for actor in staged):
                del cast.actors[before:]
                continue
            if all(actor.end_ms <= 0 for actor in staged):
                del cast.actors[before:]  # it was over before the scene began
            return


def _stage_once(cast: Cast, rare: tuple[tuple[Act, ...], Kind | None], length_ms: int, once: str) -> None:
    chance, (acts, star) = cast.chance, rare
    for _ in range(200):
        act = chance.choice(acts)
        main = star or chance.choice(_able(act, cast.stage))
        if stage_act(act, cast, main, int(length_ms * chance.uniform(0.1, 0.9))):
            return
    raise ValueError(f"once: there is no room for {once!r} at a {cast.stage.site} with seed {cast.stage.seed}")


def _rare(once: str, stage: Stage) -> tuple[tuple[Act, ...], Kind | None] | None:
    """The acts, and the kind, of which one is to happen; None where nothing was asked for."""
    if not once:
        return None
    if once in set(Act):
        acts: tuple[Act, ...] = (Act(once),)
        star = None
    elif once in KINDS:
        star = KINDS[once]
        acts = tuple(act for act in _OFTEN if act not in (Act.FIRE, Act.FALL) and star in _able(act, stage))
    else:
        raise ValueError(f"once: {once!r} is neither an act ({', '.join(Act)}) nor a kind of object")
    if not acts or not all(_able(act, stage) for act in acts):
        raise ValueError(f"once: {once!r} cannot happen at a {stage.site}; choose another site")
    return acts, star


def _able(act: Act, stage: Stage) -> tuple[Kind, ...]:
    return kinds_for(act, bool(stage.lanes), stage.indoors)


def _like(star: Kind | None) -> frozenset[str]:
    """Names of kinds that could be taken for this one."""
    if star is None:
        return frozenset()
    shared = {star.name, *star.also}
    return frozenset(one.name for one in KINDS.values() if shared & {one.name, *one.also})


def _furnish(cast: Cast, length_ms: int, banned: frozenset[str]) -> None:
    """Things that stand there all the time."""
    for _ in range(cast.chance.choice((0, 0, 1, 1, 2))):
        spot = cast.spot(cast.way(), -_BEFORE_MS, length_ms)
        able = [one for one in of_role(Role.THING) if one.name not in banned]
        if spot is not None:
            cast.add(cast.chance.choice(able), Path(0, spot).stay(length_ms, Doing.STANDING))


def _daylight(chance: random.Random) -> Daylight:
    """Most scenes are in daylight; in some a day passes within two hours."""
    hour = chance.uniform(8, 17) if chance.random() < 0.75 else chance.uniform(0, 24)
    pace = 1 / 60 if chance.random() < 0.7 else 0.2
    return Daylight(hour, pace, chance.uniform(0, 0.35), chance.random() < 0.3)
