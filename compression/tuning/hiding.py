"""Decides how moments are hidden among many frames, for questions to learn to find them there.

Lessons are windows of a few frames, a look back goes over segments of 64. Frames of several scenes, one behind the
other, make a segment at no cost: they are encoded already, and what they show is known. Asked is only what stays true
however many frames come before and behind: whether something was there, or happened, and what came or went first. In
segments of a few frames that is the shortest way to learn what earlier and later are.

Most of what happened is denied where nothing is that it could have happened to. Whether anyone fell is asked by what
the people in every frame do: among people who stand and walk, too, a fall is to be found, and to be denied.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch

from standwatch.compression.tuning.examples import Example, Object
from standwatch.compression.tuning.phrases_events import verbs
from standwatch.compression.tuning.quiz import EVENT, IS_BEFORE, ORDER, PAST_PRESENCE, Asked, worded
from standwatch.compression.tuning.quiz_claims import VERDICTS, Claim, Field, Phrasing, Topic
from standwatch.compression.tuning.quiz_subjects import BY_KIND, PEOPLE, THINGS, Subject
from standwatch.compression.tuning.quiz_words import sentence
from standwatch.compression.world.kinds import KINDS, Role
from standwatch.compression.world.script import DOWN, What

_GAP_MS = 2_000
_QUESTIONS = 12  # for what was there, at most
_ORDERS = 6
_FALLS = 2  # questions for one, at most
_WITH_EVENT = 0.4  # part of the segments that hide what happened in one of their scenes
_WITH_FALL = 0.3  # part in which nobody lies on the ground, or in half of them somebody in one scene
_ANY_KIND = (THINGS[0].noun.any, THINGS[0].noun.a)
_TRIES = 4  # per scene that a segment has room for
_SEGMENTS_TRIED = 50
_Shown: TypeAlias = dict[Subject, tuple[int, ...]]  # of each kind the frames that show it


@dataclass(frozen=True)
class _Moment:
    """That a kind came into view or went out of it `after` so many frames; one shows it there."""

    after: int
    shown: int
    name: str
    clause: str

    @property
    def names(self) -> set[str]:
        return {self.name, *KINDS[self.name].also}


def hidden(pool: Sequence[Example], chance: random.Random, frames: int) -> Example:
    """A segment of up to so many frames, of scenes of the pool, with questions whose answers a few of them show.

    Raises ValueError if no scene is so short, or nothing in them can be asked for.
    """
    pool = [one for one in pool if len(one.window_ms) <= frames]
    if not pool:
        raise ValueError(f"pool: no scene has {frames} frames or less; take more scenes, or more frames")
    segments = (_segment(pool, chance, frames) for _ in range(_SEGMENTS_TRIED))
    found = next((one for one in segments if one.asked), None)
    if found is None:
        raise ValueError("pool: nothing in its scenes can be asked for; take more scenes")
    return found


def _segment(pool: Sequence[Example], chance: random.Random, frames: int) -> Example:
    sort = chance.random()
    happening = [one for one in pool if _events(one)] if sort < _WITH_EVENT else []
    if happening:
        first = chance.choice(happening)
        beside = [one for one in pool if not _alike(first, one)]
    elif sort > 1 - _WITH_FALL:
        first, beside = _one_fall_or_none(pool, chance)
    else:
        first, beside = chance.choice(pool), list(pool)
    scenes = [first]
    for one in chance.sample(beside, min(len(beside), _TRIES * frames)):
        if one is not first and sum(len(scene.window_ms) for scene in (*scenes, one)) <= frames:
            scenes.append(one)
    chance.shuffle(scenes)
    start = sum(len(one.window_ms) for one in scenes[: scenes.index(first)])
    objects = tuple(frame for one in scenes for frame in one.window_objects)
    shown = _shown(objects)
    asked = [*_presence(shown, len(objects), chance), *_orders(shown, len(objects), chance), *_falls(objects, chance)]
    if happening:
        asked += [replace(one, evidence=tuple(start + at for at in one.evidence)) for one in _events(first)]
        absent = [one for one in happening if not any(_alike(one, scene) for scene in scenes)]
        asked += [_denied(one) for one in _events(chance.choice(absent))] if absent else []
    return Example(
        features=torch.cat([one.features[one.context :] for one in scenes]),
        times_ms=tuple(range(0, len(objects) * _GAP_MS, _GAP_MS)),
        objects=objects,
        asked=tuple(asked),
        source=f"hidden {' + '.join(one.source for one in scenes)}",
    )


def _one_fall_or_none(pool: Sequence[Example], chance: random.Random) -> tuple[Example, list[Example]]:
    """A scene in which somebody is down, or, as often, another; and those in which nobody is, to stand beside it."""
    down = [(one, _frames_down(one.window_objects)) for one in pool]
    fallen = [one for one, frames in down if frames]
    beside = [one for one, frames in down if frames == ()]
    return chance.choice(fallen if fallen and chance.random() < 0.5 else beside or pool), beside


def _frames_down(objects: Sequence[Sequence[Object]]) -> tuple[int, ...] | None:
    """The frames in which somebody falls, lies on the ground or gets up; None where it is not known what all do."""
    doing = [{one.doing for one in frame if KINDS[one.name].role is Role.PERSON} for frame in objects]
    if any("" in frame for frame in doing):
        return None
    return tuple(at for at, frame in enumerate(doing) if not frame.isdisjoint(DOWN))


def _falls(objects: Sequence[Sequence[Object]], chance: random.Random) -> list[Asked]:
    """Whether anyone fell, where there are people, and most frames show nobody on the ground."""
    frames = _frames_down(objects)
    people = any(KINDS[one.name].role is Role.PERSON for frame in objects for one in frame)
    if not people or frames is None or len(frames) > len(objects) // 2:
        return []
    fields: dict[str, tuple[Field, ...]] = {"it": tuple(one.noun for one in PEOPLE), "verb": verbs(What.FALLS)}
    claim = Claim(fields, bool(frames), templates=f"event {What.FALLS.name}", evidence=frames)
    asked = [worded(chance, claim, EVENT, Phrasing.TRAINING) for _ in range(_FALLS)]
    return list({one.question: one for one in asked}.values())


def _events(example: Example) -> list[Asked]:
    """The questions whose answer is that some kind of thing did something, in some frames and not in others."""
    happened = (one for one in example.asked if one.topic is Topic.EVENT and one.verdict and one.evidence)
    return [one for one in happened if not any(word in one.question.lower() for word in _ANY_KIND)]


def _denied(asked: Asked) -> Asked:
    return replace(asked, answer=VERDICTS[False], verdict=False, evidence=())


def _alike(one: Example, other: Example) -> bool:
    """Whether what is said of a thing in one could be true of a thing in the other."""
    return not _callable(one).isdisjoint(_callable(other))


def _callable(example: Example) -> set[str]:
    names = {name for frame in example.objects for name in _names(frame)}
    return names | {KINDS[name].role.value for name in names}


def _names(frame: Sequence[Object]) -> set[str]:
    """All that things in a frame are called."""
    return {called for one in frame for called in (one.name, *KINDS[one.name].also)}


def _shown(objects: Sequence[Sequence[Object]]) -> _Shown:
    names = [_names(frame) for frame in objects]
    return {
        subject: tuple(number for number, called in enumerate(names) if subject.name in called) for subject in BY_KIND
    }


def _presence(shown: _Shown, count: int, chance: random.Random) -> list[Asked]:
    """Whether kinds of object were in so many frames, yes and no in turn; rather for those that few of them show."""
    there = {subject.name for subject, frames in shown.items() if frames}
    few = [subject for subject, frames in shown.items() if 0 < len(frames) <= count // 2]
    none = [subject for subject, frames in shown.items() if not frames and not subject.may_be_called(there)]
    rare = chance.choices(few, [1 / len(shown[subject]) for subject in few], k=_QUESTIONS // 2) if few else []
    claims = [Claim({"it": (one.noun,)}, True, evidence=shown[one]) for one in dict.fromkeys(rare)]
    claims += [Claim({"it": (one.noun,)}, False) for one in chance.sample(none, min(len(claims), len(none)))]
    return [worded(chance, claim, PAST_PRESENCE, Phrasing.TRAINING) for claim in claims]


def _orders(shown: _Shown, count: int, chance: random.Random) -> list[Asked]:
    """What came into view or went out of it first: of kinds that were in view once, in frames without a gap."""
    moments = []
    for subject, frames in shown.items():
        if not frames or frames[-1] - frames[0] >= len(frames):
            continue
        for what, after, at in ((What.ENTERS, frames[0], frames[0]), (What.LEAVES, frames[-1] + 1, frames[-1])):
            if 0 < after < count:
                moments.append(_Moment(after, at, subject.name, f"{subject.noun.a} {verbs(what)[0].past}"))
    pairs = [
        (one, other)
        for one in moments
        for other in moments
        if one.after < other.after and one.names.isdisjoint(other.names)
    ]
    return [_in_order(*pair, chance) for pair in chance.sample(pairs, min(_ORDERS, len(pairs)))]


def _in_order(one: _Moment, other: _Moment, chance: random.Random) -> Asked:
    """Which of two was first, the earlier being `one`: in words, or whether they came as the question has them."""
    asked, turned = [one.clause, other.clause], chance.random() < 0.5
    fields = {"one": (asked[turned],), "other": (asked[not turned],)}
    evidence = tuple(sorted({one.shown, other.shown}))
    clauses = tuple((moment.clause, (moment.shown,)) for moment in (one, other))
    is_before = Claim(fields, not turned, evidence=evidence, clauses=clauses)
    order = replace(is_before, verdict=None, answer=sentence(f"first {one.clause}, then {other.clause}"))
    claims = ((ORDER, order), (IS_BEFORE, is_before))
    form, claim = chance.choice(claims)
    return worded(chance, claim, form, Phrasing.TRAINING)
