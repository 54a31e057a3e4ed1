"""What is asked, or better not asked, about what happens: windows written out by hand."""

from dataclasses import replace

import pytest

from standwatch.compression.tuning.quiz_claims import Claim
from standwatch.compression.tuning.quiz_events import events, orders, story
from standwatch.compression.tuning.quiz_frames import has_count, is_in_zone
from standwatch.compression.tuning.quiz_moving import headings, is_doing
from standwatch.compression.tuning.quiz_words import about, joined, noun, quantity, times
from standwatch.compression.tuning.shown import Shown
from standwatch.compression.world.script import Doing, Event, What
from standwatch.compression.world.seeing import Heading, Seen
from tests.test_tuning_quiz import seen, window


def happened(shown: Shown, what: What, name: str) -> set[bool | None]:
    """What is answered when somebody asks if that happened; empty if it is not asked."""
    return {claim.verdict for claim in events(shown) if claim.templates == f"event {what.name}" and of(claim, name)}


def of(claim: Claim, name: str) -> bool:
    return claim.fields["it"] == (noun(name),)


def doing(one: Seen, what: Doing, heading: Heading = Heading.NOWHERE) -> Seen:
    return replace(one, doing=what, heading=heading)


@pytest.mark.parametrize(("before", "expected"), [(0.4, {True}), (0.8, set())])
def test_what_was_in_view_nearly_whole_is_not_said_to_come(before: float, expected: set[bool]) -> None:
    enters = (Event(What.ENTERS, 0, "dog", 10_500, 10_500),)
    one = window([seen("dog", visible=before)], [seen("dog")], [seen("dog")], happened=enters)
    assert happened(one, What.ENTERS, "dog") == expected


@pytest.mark.parametrize(("step_px", "expected"), [(10, ["To the right."]), (1, []), (-10, [])])
def test_a_heading_is_asked_of_what_has_moved_that_way(step_px: int, expected: list[str]) -> None:
    frames = [[doing(seen("dog", 50 + step_px * place), Doing.MOVING, Heading.RIGHT)] for place in range(2)]
    assert [claim.answer for claim in headings(window(*frames)) if of(claim, "dog")] == expected


def test_whether_a_car_moves_is_asked_only_where_two_frames_show_it() -> None:
    moving = [doing(seen("car"), Doing.MOVING, Heading.RIGHT)]
    still = [seen("car")]
    assert {claim.verdict for claim in is_doing(window(moving, moving))} == {True, False}
    assert is_doing(window(moving)) == is_doing(window(still, moving)) == []


def test_nobody_is_asked_if_there_are_two_where_there_are_three() -> None:
    one = window([seen("dog", 70 * place, actor=place) for place in range(3)])
    asked = {claim.fields["quantity"][0]: claim.verdict for claim in has_count(one)}
    assert "two dogs" not in asked
    assert (asked["three dogs"], asked["four dogs"], asked["exactly two dogs"]) == (True, False, False)
    assert (asked["at least two dogs"], asked["more than one dog"], asked["at least four dogs"]) == (True, True, False)


def test_what_is_carried_is_in_no_zone_and_not_outside_either() -> None:
    carried = doing(seen("suitcase"), Doing.CARRIED)
    one = window([carried, seen("bottle", 100, actor=1)], zones=("red zone",))
    assert not any(of(claim, "suitcase") for claim in is_in_zone(one))
    assert [claim.verdict for claim in is_in_zone(one) if of(claim, "bottle")] == [False]


def test_the_order_of_what_one_actor_does_is_not_asked() -> None:
    enters = Event(What.ENTERS, 0, "dog", 10_500, 10_500)
    stops = Event(What.STOPS, 0, "dog", 12_500, 12_500)
    moving, still = [doing(seen("dog"), Doing.MOVING)], [seen("dog")]
    one = window([], moving, moving, still, still, happened=(enters, stops))
    assert happened(one, What.STOPS, "dog") == happened(one, What.ENTERS, "dog") == {True}
    assert orders(one) == []


def test_what_was_going_on_at_the_beginning_is_told_as_such() -> None:
    lying = [doing(seen("person"), Doing.LYING)]
    before = window(lying, lying, happened=(Event(What.FALLS, 0, "person", 2_000, 20_000),))
    assert [claim.answer for claim in story(before)] == ["A person was lying on the ground."]
    during = window([seen("person")], lying, happened=(Event(What.FALLS, 0, "person", 10_200, 20_000),))
    assert [claim.answer for claim in story(during)] == ["A person fell."]


def test_waiting_takes_some_time_to_be_seen_and_standing_is_no_clear_no() -> None:
    frames = [[seen("dog")]] * 5
    late = (Event(What.WAITS, 0, "dog", 12_500, 30_000),)
    early = (Event(What.WAITS, 0, "dog", 10_500, 30_000),)
    assert happened(window(*frames, happened=early), What.WAITS, "dog") == {True}
    assert happened(window(*frames, happened=late), What.WAITS, "dog") == set()
    assert happened(window(*frames), What.WAITS, "dog") == set()
    assert happened(window(*frames[:2]), What.WAITS, "dog") == {False}


@pytest.mark.parametrize(("gone_ms", "expected"), [(12_500, {True}), (30_000, set())])
def test_a_thing_is_left_behind_when_who_brought_it_is_seen_to_go(gone_ms: int, expected: set[bool]) -> None:
    person, bag = seen("person", 80, actor=0), seen("suitcase", 60, actor=1)
    carried, alone = [person, doing(bag, Doing.CARRIED)], [bag]
    left = Event(What.IS_LEFT_BEHIND, 1, "suitcase", 11_500, 40_000)
    leaves = Event(What.LEAVES, 0, "person", gone_ms, gone_ms)
    frames = [carried, carried, [person, bag], alone if gone_ms < 13_000 else [person, bag]]
    one = replace(window(*frames, happened=(left, leaves)), carriers=((1, 0),))
    assert happened(one, What.IS_LEFT_BEHIND, "suitcase") == expected


def test_a_thing_that_stood_there_before_is_not_asked_for_as_left_behind() -> None:
    left = Event(What.IS_LEFT_BEHIND, 1, "suitcase", 2_000, 40_000)
    one = window([seen("suitcase", actor=1)], [seen("suitcase", actor=1)], happened=(left,))
    assert happened(replace(one, carriers=((1, 0),)), What.IS_LEFT_BEHIND, "suitcase") == set()


def test_words_for_things_numbers_and_times() -> None:
    assert [noun(name).a for name in ("umbrella", "dog", "ambulance")] == ["an umbrella", "a dog", "an ambulance"]
    assert (noun("person", "red").a, noun("person", "red").many) == ("a person in red", "people in red")
    assert (quantity(1, noun("box", "red")), quantity(2, noun("bus"))) == ("one red box", "two buses")
    assert [joined(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
    spans = (200, 1_400, 7_600, 33_000, 200_000)
    assert [about(span) for span in spans] == [
        "about 1 second",
        "about 1 second",
        "about 8 seconds",
        "about 35 seconds",
        "about 3 minutes",
    ]


def test_what_happened_more_often_than_there_are_words_for_is_counted_in_digits() -> None:
    assert [times(count) for count in (0, 1, 2, 3, 12, 13)] == [
        "never",
        "once",
        "twice",
        "three times",
        "twelve times",
        "13 times",
    ]
