"""What is asked about a rendered world: every answer looked up again; balance, wording, and what is not asked."""

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest

from standwatch.compression.tuning.phrases import templates
from standwatch.compression.tuning.quiz import Asked, quiz
from standwatch.compression.tuning.quiz_claims import Phrasing, Topic
from standwatch.compression.tuning.quiz_events import events
from standwatch.compression.tuning.quiz_moments import frames_of
from standwatch.compression.tuning.quiz_words import noun
from standwatch.compression.tuning.shown import Shown, shown
from standwatch.compression.tuning.wording import chosen, claimed, named, told
from standwatch.compression.world.camera import Camera
from standwatch.compression.world.director import direct, still
from standwatch.compression.world.kinds import KINDS
from standwatch.compression.world.palette import COLOURS
from standwatch.compression.world.script import Doing, Event, What
from standwatch.compression.world.seeing import Box, Heading, Seen
from standwatch.compression.world.sites import SITES
from tests.drawn_world import PLAIN

FORMS = (
    *("presence", "past presence", "colour", "clothes", "has colour", "side", "is on side", "any on side"),
    *("is in zone", "which zone", "in the zone", "count", "has count", "everything", "all of a role", "doing"),
    *("is doing", "anyone is doing", "heading", "is heading", "event fire", "on fire", "order", "is before"),
    *("how often", "several times", "how long ago", "since when", "story", *(f"event {what.name}" for what in What)),
)
FRAME_TOPICS = {
    *(Topic.PRESENCE, Topic.NEAR_MISS, Topic.COLOUR, Topic.SIDE, Topic.ZONE, Topic.COUNT, Topic.LIST, Topic.DOING),
}
YES_NO = {"Yes": True, "No": False}
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}
ROLES = {"vehicle": "vehicle", "vehicles": "vehicle", "animal": "animal", "animals": "animal"}
PEOPLE = {"anyone", "anybody", "somebody", "someone", "person", "people"}
PAST = r"\b(was|were|did|been|have (you|there)|you have seen|noticed|saw|so far|earlier|in this time)\b"
NAMES = {word: kind.name for kind in KINDS.values() for word in (kind.name, kind.plural)} | ROLES


def seen(name: str, left: int = 20, *, actor: int = 0, colour: str = "", visible: float = 1.0) -> Seen:
    also = (*KINDS[name].also, *(() if KINDS[name].role not in ROLES else (KINDS[name].role.value,)))
    box = Box(left, 100, left + 30, 150)
    return Seen(actor, name, also, colour, box, 50, visible, 0.9, (), Doing.STANDING, Heading.NOWHERE)


def window(*frames: Sequence[Seen], happened: tuple[Event, ...] = (), zones: tuple[str, ...] = ()) -> Shown:
    times_ms = tuple(range(10_000, 10_000 + 1_000 * len(frames), 1_000))
    return Shown(224, zones, (), times_ms, tuple(tuple(frame) for frame in frames), happened)


def take(seed: int, frames: int) -> Shown:
    scene = direct(seed, SITES[seed % 5], 1, 8, place_seed=seed % 5)
    first_ms = random.Random(seed).randrange(0, 50_000, 100)
    return shown(Camera(scene, PLAIN), tuple(first_ms + 1_000 * place for place in range(frames)))


@pytest.fixture(scope="module")
def windows() -> list[Shown]:
    return [take(seed, 8) for seed in range(20)]


@pytest.fixture(scope="module")
def asked(windows: list[Shown]) -> list[tuple[Shown, Asked]]:
    return [
        (one, question)
        for seed, one in enumerate(windows)
        for phrasing in Phrasing
        for question in quiz(one, random.Random(seed), 50, phrasing=phrasing)
    ]


def name_in(question: str) -> str:
    """The kind or role that a question is about."""
    words = question.removesuffix(" Describe it.").lower()
    found = [word for word in NAMES if re.search(rf"\b{word}\b", words)]
    if found:
        return NAMES[max(found, key=len)]
    if any(re.search(rf"\b{word}\b", words) for word in PEOPLE):
        return "person"
    return "anything"


def colour_in(question: str) -> str:
    """The colour of a thing, or of somebody's clothes."""
    found = [colour for colour in COLOURS if re.search(rf"\b{colour}\b(?! zone| area)", question.lower())]
    found = [colour for colour in found if f"marked in {colour}" not in question]
    return found[0] if found else ""


def zone_in(question: str) -> str:
    found = re.search(r"(\w+) (?:zone|area)\b(?! marked)|marked in (\w+)", question)
    return f"{found[1] or found[2]} zone" if found else ""


def clear(one: Seen) -> bool:
    return one.visible >= 0.4 and one.size_px >= 30 and one.light >= 0.2


def called(one: Seen, name: str, colour: str = "") -> bool:
    return one.visible > 0 and name in (one.name, *one.also) and colour in ("", one.colour)


def yes_or_no(one: Asked) -> bool:
    return one.answer.split()[0].rstrip(".,") in YES_NO


def of(asked: list[tuple[Shown, Asked]], topic: Topic) -> list[tuple[Shown, Asked]]:
    found = [(one, question) for one, question in asked if question.topic is topic]
    assert len(found) > 10, "too few of them to be a test"
    return found


def test_the_first_word_of_an_answer_tells_the_verdict(asked: list[tuple[Shown, Asked]]) -> None:
    for _, one in asked:
        first = one.answer.split()[0].rstrip(".,")
        assert YES_NO.get(first) == one.verdict


@pytest.mark.parametrize("topic", [Topic.PRESENCE, Topic.NEAR_MISS])
def test_what_is_said_to_be_there_is_there_and_what_is_said_not_to_be_is_not(
    asked: list[tuple[Shown, Asked]], topic: Topic
) -> None:
    for one, question in of(asked, topic):
        past = re.search(PAST, question.question.lower())
        frames = one.seen if past else one.seen[-1:]
        name, colour = name_in(question.question), colour_in(question.question)
        hits = [seen for frame in frames for seen in frame if called(seen, name, colour)]
        if question.verdict is True:
            assert any(clear(hit) for hit in hits), question
        elif question.verdict is False:
            assert hits == [], question
        else:
            assert not any(clear(hit) for hit in hits), question
            assert any(called(seen, name) and not clear(seen) for frame in frames for seen in frame), question


PAINTED = [seen("car", 20, colour="green"), seen("barrel", 120, actor=1, colour="purple")]
CONFUSED = {
    "a part of what is there": (window([seen("fire engine")]), Topic.PRESENCE, ("fire", "")),
    "what was there before": (window([seen("dog")], [seen("car")]), Topic.PRESENCE, ("dog", "")),
    "one thing in another's colour": (window(PAINTED), Topic.NEAR_MISS, ("car", "purple")),
    "another's colour": (window(PAINTED), Topic.COLOUR, ("barrel", "green")),
}


@pytest.mark.parametrize(("shown_", "topic", "what"), CONFUSED.values(), ids=CONFUSED)
def test_lessons_rather_than_exams_ask_for(shown_: Shown, topic: Topic, what: tuple[str, str]) -> None:
    times = Counter[Phrasing]()
    for phrasing in Phrasing:
        for seed in range(60):
            found = quiz(shown_, random.Random(seed), 4, {topic: 1.0}, phrasing)
            asked = [(name_in(one.question), colour_in(one.question)) for one in found if one.verdict is False]
            times[phrasing] += asked.count(what)
    assert times[Phrasing.TRAINING] > 3 * times[Phrasing.HELD_OUT]


def test_colours_sides_and_directions_are_those_of_the_only_one(asked: list[tuple[Shown, Asked]]) -> None:
    checked = Counter[Topic]()
    for one, question in asked:
        text = question.question.lower()
        if question.topic not in (Topic.COLOUR, Topic.SIDE, Topic.HEADING) or question.answer == "Unclear.":
            continue
        checked[question.topic] += 1
        name, colour = name_in(text), colour_in(text) if question.topic is not Topic.COLOUR else ""
        found = [seen for seen in one.now if called(seen, name, colour)]
        existence = re.search(rf"\b(an?|any|anyone|somebody|anybody|someone) (?!.*\bthe {name})", text)
        if question.topic is Topic.SIDE and existence and f"the {name}" not in text and "person in" not in text:
            asked_side = "left" if "left" in text else "right"
            sides = {"left" if seen.box.middle[0] < 112 else "right" for seen in found}
            assert question.verdict == (asked_side in sides), question
            continue
        assert len(found) == 1, question
        assert clear(found[0])
        truth = {
            Topic.COLOUR: found[0].colour,
            Topic.SIDE: "left" if found[0].box.middle[0] < 112 else "right",
            Topic.HEADING: found[0].heading.value,
        }[question.topic]
        if not yes_or_no(question):
            assert question.answer.removesuffix(".").lower().removeprefix("to the ") == (truth or "nowhere"), question
        elif question.topic is Topic.COLOUR:
            assert question.verdict == (truth == colour_in(text)), question
        elif question.topic is Topic.SIDE:
            assert question.verdict == bool(re.search(rf"the {truth}\b|the {truth} half", text)), question
        else:
            assert question.verdict == bool(truth and re.search(rf"\b(to the )?{truth}\b", text.split(name)[-1]))
    assert min(checked[topic] for topic in (Topic.COLOUR, Topic.SIDE, Topic.HEADING)) > 10


def test_zones_and_numbers_are_counted_again(asked: list[tuple[Shown, Asked]]) -> None:
    for one, question in of(asked, Topic.ZONE):
        zone = zone_in(question.question)
        inside = [seen for seen in one.now if zone in seen.zones and called(seen, name_in(question.question))]
        if question.verdict is not None:
            assert question.verdict == any(clear(seen) for seen in inside), question
    for one, question in of(asked, Topic.COUNT):
        name, text = name_in(question.question), question.question.lower()
        found = [seen for seen in one.now if called(seen, name)]
        assert all(clear(seen) for seen in found) == (question.answer != "Unclear."), question
        if question.verdict is None:
            continue
        wanted = next(number for word, number in NUMBERS.items() if re.search(rf"\b{word}\b", text))
        more = "more than" in text
        enough = len(found) >= wanted + more if more or "at least" in text else len(found) == wanted
        assert question.verdict == enough, question


VERBS = {
    What.ENTERS: "come into view|came into view|enter|arrive",
    What.LEAVES: "out of view|leave|left|away|gone",
    What.FALLS: "fall|fell|ground",
    What.BURNS: "burn|fire|flames",
    What.CROSSES: "cross|from one side|through",
    What.STOPS: "stop",
}


def test_an_event_that_is_said_to_have_happened_did_and_one_that_is_not_did_not(
    asked: list[tuple[Shown, Asked]],
) -> None:
    checked = Counter[bool]()
    for one, question in of(asked, Topic.EVENT):
        text = question.question.lower()
        fits = [what for what, words in VERBS.items() if re.search(rf"\b({words})", text)]
        if len(fits) != 1 or "zone" in text or "area" in text or "behind" in text or "taken" in text or "take" in text:
            continue
        name, colour = name_in(re.sub(r"\bfire\b(?! e)", "", text)), colour_in(text)
        actors = {seen.actor for frame in one.seen for seen in frame if called(seen, name, colour)}
        lasting = fits[0] in (What.FALLS, What.BURNS, What.CROSSES)
        inside = [
            event
            for event in one.events
            if event.what is fits[0]
            and event.start_ms <= one.last_ms
            and (event.end_ms if lasting else event.start_ms) >= one.first_ms
        ]
        hits = [event for event in inside if name == "anything" or event.actor in actors]
        assert question.verdict == bool(hits), question
        checked[bool(hits)] += 1
    assert min(checked[True], checked[False]) > 10


def test_yes_and_no_are_balanced(windows: list[Shown]) -> None:
    topics = (Topic.PRESENCE, Topic.NEAR_MISS, Topic.SIDE, Topic.ZONE, Topic.COUNT, Topic.DOING, Topic.EVENT)
    found: dict[Topic, Counter[bool | None]] = {topic: Counter() for topic in topics}
    for seed in range(6):
        for number, one in enumerate(windows):
            for question in quiz(one, random.Random(f"{seed} {number}"), 24, dict.fromkeys(topics, 1)):
                if yes_or_no(question):
                    found[question.topic][question.verdict] += 1
    for topic, verdicts in found.items():
        yes, no = verdicts[True], verdicts[False]
        assert 0.4 < yes / (yes + no) < 0.6, f"{topic}: {yes} yes, {no} no"
    yes, no = (sum(verdicts[verdict] for verdicts in found.values()) for verdict in (True, False))
    assert 0.45 < yes / (yes + no) < 0.55


@pytest.mark.parametrize("name", ["person", "animal"])
def test_a_name_that_is_often_there_is_not_the_answer(name: str) -> None:
    verdicts = Counter(
        question.verdict
        for seed in range(8)
        for number, one in enumerate(take(seed, 8) for seed in range(40))
        for question in quiz(one, random.Random(f"{seed} {number}"), 12, {Topic.PRESENCE: 1})
        if name_in(question.question) == name
    )
    assert 0.3 < verdicts[True] / (verdicts[True] + verdicts[False]) < 0.7


def test_a_seed_gives_the_same_questions_and_another_others(windows: list[Shown]) -> None:
    assert quiz(windows[0], random.Random(3), 20) == quiz(windows[0], random.Random(3), 20)
    assert quiz(windows[0], random.Random(3), 20) != quiz(windows[0], random.Random(4), 20)


def test_questions_are_different_and_no_more_than_wanted(windows: list[Shown]) -> None:
    questions = [one.question for one in quiz(windows[0], random.Random(0), 12)]
    assert len(questions) == len(set(questions)) == 12


def test_only_the_topics_wanted_are_asked(windows: list[Shown]) -> None:
    found = [one for shown_ in windows for one in quiz(shown_, random.Random(0), 9, {Topic.SIDE: 1, Topic.LIST: 1})]
    assert {one.topic for one in found} == {Topic.SIDE, Topic.LIST}


@pytest.mark.parametrize("topics", [{}, {Topic.SIDE: 0.0}, {Topic.SIDE: -1.0, Topic.LIST: 2.0}])
def test_topics_without_weight_are_refused(windows: list[Shown], topics: dict[Topic, float]) -> None:
    with pytest.raises(ValueError, match=r"^topics: "):
        quiz(windows[0], random.Random(0), 9, topics)


def test_a_taxi_is_never_denied_to_be_a_car_nor_a_rider_a_person() -> None:
    one = window([seen("taxi"), seen("cyclist", 150, actor=1), seen("duck", 90, actor=2)])
    questions = [question for seed in range(60) for question in quiz(one, random.Random(seed), 20)]
    denied = {name_in(question.question) for question in questions if question.verdict is False}
    assert denied >= {"dog", "truck"}
    there = [question for question in questions if question.topic is Topic.PRESENCE and question.verdict is False]
    names = {name_in(question.question) for question in there}
    assert names.isdisjoint({"taxi", "car", "cyclist", "person", "bicycle", "duck", "bird", "animal", "vehicle"})


def test_of_two_cars_the_colour_is_asked_of_neither_and_the_side_only_by_colour() -> None:
    one = window([seen("car", 10, colour="red"), seen("car", 180, actor=1, colour="blue")])
    for seed in range(40):
        for question in quiz(one, random.Random(seed), 12, {Topic.COLOUR: 1, Topic.SIDE: 1}):
            assert question.topic is Topic.SIDE
            if question.answer in ("Left.", "Right."):
                assert question.answer == {"red": "Left.", "blue": "Right."}[colour_in(question.question)]


def test_what_is_in_the_middle_is_neither_left_nor_right() -> None:
    one = window([seen("dog", 97)])
    questions = [question for seed in range(40) for question in quiz(one, random.Random(seed), 9, {Topic.SIDE: 1})]
    assert {name_in(question.question) for question in questions}.isdisjoint({"dog", "animal"})


def test_a_list_goes_from_left_to_right_and_of_nothing_is_nothing() -> None:
    one = window([seen("car", 150, colour="red"), seen("umbrella", 5, actor=1), seen("dog", 60, actor=2, visible=0.0)])
    answers = {question.answer for question in quiz(one, random.Random(0), 30, {Topic.LIST: 1})}
    assert "An umbrella and a red car." in answers
    assert {question.answer for question in quiz(window([]), random.Random(0), 9, {Topic.LIST: 1})} == {
        "Nothing.",
        "None.",
    }


def test_of_one_frame_only_what_it_can_answer_is_asked() -> None:
    for seed in range(12):
        one = shown(Camera(still(seed, "yard", 3, ["person", "dog", "car"], place_seed=1), PLAIN), (0,))
        for question in quiz(one, random.Random(seed), 40):
            assert question.topic in FRAME_TOPICS
            assert not re.search(r"\b(was|were|did|you seen)\b", question.question.lower())
            if question.topic is Topic.DOING:
                assert name_in(question.question) not in ("dog", "car", "animal", "vehicle")


def test_where_nothing_ever_happens_the_answer_is_no_or_nothing() -> None:
    one = window(*[()] * 8)
    found = [question for seed in range(30) for question in quiz(one, random.Random(seed), 12)]
    assert {question.answer for question in found} == {"No.", "Nothing.", "None.", "Never."}
    assert {Topic.EVENT, Topic.HAPPENED, Topic.PRESENCE, Topic.TIMES} <= {question.topic for question in found}


def test_evidence_are_the_frames_that_show_it_and_never_all_of_them(asked: list[tuple[Shown, Asked]]) -> None:
    checked = Counter[Topic]()
    for one, question in asked:
        if not question.evidence:
            continue
        checked[question.topic] += 1
        assert len(question.evidence) < len(one.seen)
        if question.topic is Topic.ORDER:
            assert all(words in question.question.lower() for words, _ in question.clauses)
            assert {frame for _, frames in question.clauses for frame in frames} == set(question.evidence)
            continue
        name, colour = name_in(re.sub(r"\bfire\b(?! e)", "", question.question.lower())), colour_in(question.question)
        assert question.verdict is True, question
        shows = [any(called(it, name, colour) and clear(it) for it in frame) for frame in one.seen]
        if question.topic is Topic.PRESENCE and name != "anything":
            assert question.evidence == tuple(frame for frame, there in enumerate(shows) if there), question
        if name != "anything" and "fire" not in question.question:
            assert all(shows[frame] for frame in question.evidence), question
    assert set(checked) == {Topic.PRESENCE, Topic.EVENT, Topic.ORDER} and min(checked.values()) > 10


def test_evidence_of_an_event_is_while_it_lasts_or_around_its_moment() -> None:
    frames = [(seen("dog"),)] * 6
    falls, enters = Event(What.FALLS, 0, "dog", 11_000, 13_000), Event(What.ENTERS, 0, "dog", 12_500, 12_500)
    one = window(*frames, happened=(falls, enters))
    assert frames_of(one, [falls]) == (1, 2)
    assert frames_of(one, [enters]) == (2, 3)
    assert frames_of(one, [falls, enters]) == (1, 2, 3)
    hidden = window(*frames[:2], (seen("dog", visible=0.1),), *frames[3:], happened=(falls,))
    assert frames_of(hidden, [falls]) == (1,)


def entering(start_ms: int) -> Shown:
    """A dog comes into view; the window is 10 s to 14 s."""
    before, after = (), (seen("dog"),)
    frames = [after if t_ms >= start_ms else before for t_ms in range(10_000, 15_000, 1_000)]
    return window(*frames, happened=(Event(What.ENTERS, 0, "dog", start_ms, start_ms),))


@pytest.mark.parametrize(
    ("start_ms", "expected"),
    [(11_500, {True}), (8_500, {False}), (9_500, set()), (14_500, set()), (15_500, {False})],
)
def test_what_happened_just_outside_the_window_is_not_asked_for(start_ms: int, expected: set[bool]) -> None:
    claims = [claim for claim in events(entering(start_ms)) if claim.templates == "event ENTERS"]
    assert {claim.verdict for claim in claims if claim.fields["it"] == (noun("dog"),)} == expected
    assert {claim.verdict for claim in claims if claim.fields["it"] == (noun("cat"),)} == {False}


def test_what_nobody_could_see_happen_is_not_asked_for() -> None:
    one = entering(11_500)
    hidden = replace(one, seen=tuple(tuple(replace(dog, visible=0.1) for dog in frame) for frame in one.seen))
    asked_of = {claim.fields["it"] for claim in events(hidden) if claim.templates == "event ENTERS"}
    assert (noun("dog"),) not in asked_of and (noun("cat"),) in asked_of


def test_when_how_often_and_in_what_order() -> None:
    dog, cat = (seen("dog"),), (seen("dog"), seen("cat", 120, actor=1))
    happened = (Event(What.ENTERS, 0, "dog", 10_500, 10_500), Event(What.ENTERS, 1, "cat", 13_500, 13_500))
    one = window([], dog, dog, dog, cat, cat, cat, happened=happened)
    for seed in range(40):
        for question in quiz(one, random.Random(seed), 9, {Topic.ORDER: 1, Topic.TIMES: 1, Topic.SINCE: 1}):
            text, answer = question.question.lower(), question.answer
            assert question.evidence == ((1, 4) if question.topic is Topic.ORDER else ())
            both = (("a dog came into view", (1,)), ("a cat came into view", (4,)))
            assert question.clauses == (both if question.topic is Topic.ORDER else ())
            if question.topic is Topic.ORDER and question.verdict is None:
                assert answer == "First a dog came into view, then a cat came into view."
            elif question.topic is Topic.ORDER:
                turned = bool(re.search("view after|but before that", text))  # the later one is named first
                assert question.verdict == ((text.index("dog") < text.index("cat")) is not turned)
            elif question.topic is Topic.SINCE and "dog" in text:
                assert re.fullmatch(r"(About 6 seconds ago|For about 6 seconds)\.", answer)
            elif question.topic is Topic.TIMES and answer == "Twice.":
                assert re.search("animal|anything|something", text)
    told = quiz(one, random.Random(0), 1, {Topic.HAPPENED: 1})
    assert [question.answer for question in told] == ["First a dog came into view, then a cat came into view."]


def test_what_takes_long_is_in_no_order(asked: list[tuple[Shown, Asked]]) -> None:
    for _, question in of(asked, Topic.ORDER):
        assert not re.search(r"\b(cross|wait)", question.question + question.answer)


def ways(template: str) -> list[str]:
    """All templates without choices that it may become."""
    parts = re.split(r"\[([^\[\]]*)\]", template)  # every second one is a choice
    return [
        "".join(one) for one in product(*(part.split("|") if place % 2 else [part] for place, part in enumerate(parts)))
    ]


def all_ways(phrasing: Phrasing) -> dict[str, list[str]]:
    """Every template of every form, without choices."""
    return {form: [way for one in templates(form, phrasing) for way in ways(one)] for form in FORMS}


def test_templates_of_the_test_are_never_used_in_training() -> None:
    training, held_out = all_ways(Phrasing.TRAINING), all_ways(Phrasing.HELD_OUT)
    for form in FORMS:
        assert len(set(training[form])) >= 80 and len(held_out[form]) >= 2
        assert set(training[form]).isdisjoint(held_out[form])
    said = " ".join(one for form in FORMS for one in training[form]).lower()
    assert not re.search(r"\b(say|check|sort|show up|up to|occupied|painted|dressed|summary|scene|occasion)\b", said)


def test_a_template_becomes_each_of_its_ways_and_nothing_else() -> None:
    template = "[Can|Do] you see {it.any}[| there]?"
    expected = ["Can you see {it.any}?", "Can you see {it.any} there?", "Do you see {it.any}?"]
    assert [*ways(template)] == [*expected, "Do you see {it.any} there?"]
    drawn = {chosen(template, random.Random(seed)) for seed in range(40)}
    assert drawn == set(ways(template))
    for form in FORMS:
        for way in all_ways(Phrasing.TRAINING)[form]:
            assert not re.search(r"[\[\]|<>]|  | [?.,:;]", way), way


def test_what_is_claimed_told_or_named_stands_in_other_words() -> None:
    assert "Do you know if it rains?" in {way for one in claimed("it rains") for way in ways(one)}
    assert "Let me know when it rained." in {way for one in told("when it [rained|rains]") for way in ways(one)}
    assert "Can you give me the rain?" in {way for one in named("the rain") for way in ways(one)}


def test_held_out_questions_never_appear_in_training(windows: list[Shown]) -> None:
    training, held_out = (
        {
            question.question.removesuffix(" Describe it.")
            for seed in range(2)
            for one in windows
            for question in quiz(one, random.Random(seed), 40, phrasing=phrasing)
        }
        for phrasing in Phrasing
    )
    assert len(held_out) > 500
    assert training.isdisjoint(held_out)


def test_every_sentence_begins_with_a_capital(asked: list[tuple[Shown, Asked]]) -> None:
    assert any(re.match(r"Hello\. ", one.question) for _, one in asked)
    for _, one in asked:
        assert not re.search(r"(^|[.?!] )[a-z]", one.question), one.question


def test_articles_and_plurals_are_right(asked: list[tuple[Shown, Asked]]) -> None:
    for _, one in asked:
        for text in (one.question, one.answer):
            assert text[0].isupper() and text[-1] in ".?", text
            assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]|\b(a|an|the) (a|an|the|any)\b|[{}]|  ", text), text
            assert not re.search(r"\bpersons\b|sheeps|\b[Oo]ne (people|\w+ people)\b|boxs|\bbuss\b", text), text


@pytest.mark.parametrize(("times_ms", "field"), [((), "seen"), ((1, 2, 3), "seen"), ((5, 5), "times_ms")])
def test_frames_need_their_times_in_order(times_ms: tuple[int, ...], field: str) -> None:
    with pytest.raises(ValueError, match=rf"^{field}: "):
        Shown(224, (), (), times_ms, ((), ()), ())
