"""Decides what a model is asked about a rendered world and what it should say: a mix of topics, yes and no balanced.

A yes/no question is drawn by its answer: first the verdict, then something to ask that has it. Where there is nothing
of that verdict nothing is asked, and where every answer would be no, most are left out.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from standwatch.compression.tuning import quiz_events, quiz_frames, quiz_moving
from standwatch.compression.tuning.phrases import AROUND, templates
from standwatch.compression.tuning.quiz_claims import VERDICTS, Claim, Clauses, Form, Phrasing, Topic
from standwatch.compression.tuning.shown import Shown
from standwatch.compression.tuning.wording import chosen

WEIGHTS: Mapping[Topic, float] = {
    Topic.PRESENCE: 26,
    Topic.NEAR_MISS: 10,
    Topic.COLOUR: 12,
    Topic.SIDE: 8,
    Topic.ZONE: 7,
    Topic.COUNT: 7,
    Topic.LIST: 6,
    Topic.DOING: 14,
    Topic.HEADING: 12,
    Topic.EVENT: 20,
    Topic.ORDER: 30,
    Topic.TIMES: 5,
    Topic.SINCE: 5,
    Topic.HAPPENED: 5,
}
# Of windows around events: what was first cannot be told by who cannot tell when each was.
IN_TIME: Mapping[Topic, float] = {
    Topic.EVENT: 20,
    Topic.ORDER: 30,
    Topic.TIMES: 5,
    Topic.SINCE: 20,
    Topic.HAPPENED: 5,
}
_VERDICTS = {True: 0.47, False: 0.45, None: 0.08}
_LONELY = 0.2  # part of the no kept where no yes could be asked
_DESCRIBED = 0.1  # of the questions for presence
_WRAPPED = 0.2  # of the questions of training: said with words around them that ask nothing
_TRIES = 5  # per question wanted

PAST_PRESENCE = Form(Topic.PRESENCE, "past presence", quiz_frames.past_presence, frames=2)
ORDER = Form(Topic.ORDER, "order", quiz_events.orders, frames=2, yes_no=False)
IS_BEFORE = Form(Topic.ORDER, "is before", quiz_events.is_before, frames=2)
EVENT = Form(Topic.EVENT, "event", quiz_events.events, frames=2, share=8)
_FORMS = (
    Form(Topic.PRESENCE, "presence", quiz_frames.presence, share=2, drilled=quiz_frames.presence_drilled),
    PAST_PRESENCE,
    Form(Topic.NEAR_MISS, "presence", quiz_frames.near_misses, drilled=quiz_frames.near_misses_drilled),
    Form(Topic.COLOUR, "colour", quiz_frames.colours, yes_no=False),
    Form(Topic.COLOUR, "clothes", quiz_frames.clothes, yes_no=False),
    Form(Topic.COLOUR, "has colour", quiz_frames.has_colour, drilled=quiz_frames.has_colour_drilled),
    Form(Topic.SIDE, "side", quiz_frames.sides, yes_no=False),
    Form(Topic.SIDE, "is on side", quiz_frames.is_on_side),
    Form(Topic.SIDE, "any on side", quiz_frames.any_on_side),
    Form(Topic.ZONE, "is in zone", quiz_frames.is_in_zone, share=2),
    Form(Topic.ZONE, "which zone", quiz_frames.which_zone, yes_no=False),
    Form(Topic.ZONE, "in the zone", quiz_frames.in_the_zone, yes_no=False),
    Form(Topic.COUNT, "count", quiz_frames.counts, yes_no=False),
    Form(Topic.COUNT, "has count", quiz_frames.has_count),
    Form(Topic.LIST, "everything", quiz_frames.everything, share=3, yes_no=False),
    Form(Topic.LIST, "all of a role", quiz_frames.all_of_a_role, yes_no=False),
    Form(Topic.DOING, "doing", quiz_moving.doings, yes_no=False),
    Form(Topic.DOING, "is doing", quiz_moving.is_doing),
    Form(Topic.DOING, "anyone is doing", quiz_moving.anyone_is_doing),
    Form(Topic.HEADING, "heading", quiz_moving.headings, frames=2, yes_no=False),
    Form(Topic.HEADING, "is heading", quiz_moving.is_heading, frames=2),
    EVENT,
    Form(Topic.EVENT, "event fire", quiz_events.fire, frames=2),
    Form(Topic.EVENT, "on fire", quiz_events.on_fire, frames=2),
    ORDER,
    IS_BEFORE,
    Form(Topic.TIMES, "how often", quiz_events.how_often, frames=2, share=2, yes_no=False),
    Form(Topic.TIMES, "several times", quiz_events.several_times, frames=2),
    Form(Topic.SINCE, "how long ago", quiz_events.how_long_ago, frames=2, yes_no=False),
    Form(Topic.SINCE, "since when", quiz_events.since_when, frames=2, yes_no=False),
    Form(Topic.HAPPENED, "story", quiz_events.story, frames=2, yes_no=False),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with the words to answer. `verdict` is None where it is no yes/no question or cannot be told.

    `evidence` are the window's frames to look at, counted from 0; none where there are none, or no others. Where the
    words of the question are about different ones, so are those of `clauses`, each with its own.
    """

    topic: Topic
    question: str
    answer: str
    verdict: bool | None
    evidence: tuple[int, ...] = ()
    clauses: Clauses = ()


def quiz(
    shown: Shown,
    chance: random.Random,
    count: int,
    topics: Mapping[Topic, float] = WEIGHTS,
    phrasing: Phrasing = Phrasing.TRAINING,
) -> list[Asked]:
    """Up to `count` different questions, of these topics as often as their weights say; fewer where there is little.

    Of a single frame only what a single frame can answer. Raises ValueError where `topics` is empty or weighs nothing.
    """
    if not topics or min(topics.values()) < 0 or sum(topics.values()) <= 0:
        raise ValueError("topics: each needs a weight of 0 or more, and one of them more than 0")
    forms = {
        topic: able
        for topic in Topic
        if topics.get(topic, 0) > 0
        and (able := [form for form in _FORMS if form.topic is topic and form.frames <= len(shown.seen)])
    }
    claims: dict[str, Sequence[Claim]] = {}
    found: dict[str, Asked] = {}
    for _ in range(_TRIES * count if forms else 0):
        if len(found) == count:
            break
        (topic,) = chance.choices(list(forms), [topics[topic] for topic in forms])
        (form,) = chance.choices(forms[topic], [form.share for form in forms[topic]])
        key = f"{topic} {form.templates}"
        if key not in claims:
            drilled = form.drilled if phrasing is Phrasing.TRAINING else None
            claims[key] = (drilled or form.claims)(shown)
        claim = _drawn(chance, claims[key], form)
        if claim is not None:
            asked = worded(chance, claim, form, phrasing)
            if len(asked.evidence) >= len(shown.seen):
                asked = replace(asked, evidence=())
            found.setdefault(asked.question, asked)
    return list(found.values())


def _drawn(chance: random.Random, claims: Sequence[Claim], form: Form) -> Claim | None:
    """One of them by weight, of the verdict that is wanted; None where there is none to be asked."""
    if form.yes_no:
        (wanted,) = chance.choices(list(_VERDICTS), list(_VERDICTS.values()))
        lonely = wanted is False and not any(claim.verdict for claim in claims)
        if lonely and chance.random() >= _LONELY:
            return None
        claims = [claim for claim in claims if claim.verdict is wanted]
    totals = list(accumulate(claim.weight for claim in claims))
    return chance.choices(claims, cum_weights=totals)[0] if totals and totals[-1] > 0 else None


def worded(chance: random.Random, claim: Claim, form: Form, phrasing: Phrasing) -> Asked:
    """A claim in words of its form."""
    template = chosen(chance.choice(templates(claim.templates or form.templates, phrasing)), chance)
    said = template.format(**{name: chance.choice(words) for name, words in claim.fields.items()})
    question = said[0].upper() + said[1:]
    if phrasing is Phrasing.TRAINING and chance.random() < _WRAPPED:
        question = chance.choice(AROUND).format(question)
    answer = VERDICTS[claim.verdict] if form.yes_no else claim.answer
    if form.templates == "presence" and (claim.described or not claim.verdict) and chance.random() < _DESCRIBED:
        question += " Describe it."
        answer = f"Yes, {claim.described}." if claim.described else answer
    return Asked(form.topic, question, answer, claim.verdict, claim.evidence, claim.clauses)
