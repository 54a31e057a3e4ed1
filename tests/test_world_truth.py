"""True answers about frames, and when there is none."""

import pytest

from standwatch.compression.world.script import Doing, Event, What
from standwatch.compression.world.seeing import Box, Heading, Seen
from standwatch.compression.world.truth import colour, count, in_zone, is_clear, present, side, within


def seen(
    name: str = "dog",
    *,
    visible: float = 1.0,
    size_px: int = 50,
    light: float = 0.9,
    left: int = 20,
    zones: tuple[str, ...] = (),
    also: tuple[str, ...] = (),
    colour: str = "",
) -> Seen:
    box = Box(left, 100, left + 30, 150)
    return Seen(0, name, also, colour, box, size_px, visible, light, zones, Doing.STANDING, Heading.NOWHERE)


HIDDEN, TINY, DARK = seen(visible=0.1), seen(size_px=9), seen(light=0.05)
GONE = seen(visible=0.0)


@pytest.mark.parametrize("unclear", [HIDDEN, TINY, DARK])
def test_what_is_hidden_tiny_or_dark_cannot_be_told(unclear: Seen) -> None:
    assert not is_clear(unclear)
    assert present([unclear], "dog") is None
    assert count([unclear, seen()], "dog") is None
    assert colour([unclear], "dog") is None
    assert side([unclear], "dog", 224) is None


def test_a_clear_one_is_there_whatever_else_is_not_clear() -> None:
    assert present([HIDDEN, seen()], "dog") is True
    assert present([HIDDEN, seen()], "cat") is False
    assert present([], "dog") is False


def test_what_nothing_is_seen_of_is_not_there() -> None:
    assert present([GONE], "dog") is False
    assert count([GONE, seen()], "dog") == 1
    assert count([], "dog") == 0


def test_a_taxi_is_a_car_and_a_car_no_taxi() -> None:
    taxi, car = seen("taxi", also=("car",)), seen("car", colour="red")
    assert count([taxi, car], "car") == 2
    assert count([taxi, car], "taxi") == 1
    assert present([car], "taxi") is False


def test_colour_and_side_are_those_of_the_only_one() -> None:
    red = seen("car", colour="red", left=10)
    assert (colour([red], "car"), side([red], "car", 224)) == ("red", "left")
    assert side([seen(left=170)], "dog", 224) == "right"
    assert side([seen(left=97)], "dog", 224) is None
    assert (colour([red, red], "car"), side([red, red], "car", 224)) == (None, None)
    assert colour([seen()], "dog") is None


def test_being_in_a_zone_is_asked_of_each() -> None:
    inside, outside = seen(zones=("red zone",)), seen()
    assert in_zone([inside, outside], "dog", "red zone") is True
    assert in_zone([outside], "dog", "red zone") is False
    assert in_zone([seen(zones=("red zone",), visible=0.1), outside], "dog", "red zone") is None


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "expected"),
    [
        (0, 999, False),
        (0, 1_000, False),
        (0, 1_001, True),
        (1_000, 1_000, True),
        (1_999, 1_999, True),
        (2_000, 2_000, False),
    ],
)
def test_events_of_a_span_overlap_it_and_its_end_is_not_in_it(start_ms: int, end_ms: int, expected: bool) -> None:
    event = Event(What.WAITS, 0, "dog", start_ms, end_ms)
    assert (within([event], 1_000, 2_000) == [event]) is expected
