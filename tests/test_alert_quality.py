"""What the figures of alerts count, and that film, pipeline and truth are on one clock."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.alert_matching import Rules, Tally, Truth, open_spans, tally, truth_of
from benchmarks.alert_quality import Together, answer, cameras, frame_times, in_step, truth, watched
from benchmarks.workload import START_MS, configuration
from standwatch.compression.tuning.shown import shown
from standwatch.compression.tuning.takes import TEST_SEEDS
from standwatch.compression.world.camera import Camera
from standwatch.compression.world.moves import Path as Way
from standwatch.compression.world.script import Doing
from standwatch.compression.world.sites import Place
from standwatch.pipeline.alerts import AlertBook
from standwatch.pipeline.types import Reading, ReadRequest, StandingQuery, Verdict, Window, WindowTokens
from tests.drawn_world import NOON, PLAIN, actor, bare, scene, standing
from tests.fakes import ColourCompressor, Fate
from tests.questions_world import UNTIMED, reading

NOW = Rules(period_ms=5_000, tolerance_ms=5_000, past_ms=0)
PAST = replace(NOW, past_ms=8_000)
PERSON = StandingQuery("person", "Is a person in view?", every_ms=5_000, window_ms=8_000)


def spans(*seconds: tuple[float, float]) -> tuple[Window, ...]:
    return tuple(Window(round(start * 1000), round(end * 1000)) for start, end in seconds)


def count(
    alerts: Sequence[tuple[float, float]],
    yes: Sequence[tuple[float, float]] = (),
    unclear: Sequence[tuple[float, float]] = (),
    rules: Rules = NOW,
) -> Tally:
    return tally(spans(*alerts), Truth(spans(*yes), spans(*unclear)), rules)


def test_an_alert_within_a_span_is_right_and_finds_it() -> None:
    assert count([(25, 40)], yes=[(21, 38)]) == Tally(right=1, found=1)


def test_a_late_alert_is_right_up_to_the_tolerance() -> None:
    assert count([(43, 48)], yes=[(21, 38)]) == Tally(right=1, found=1)
    assert count([(44, 49)], yes=[(21, 38)]) == Tally(false=1, missed=1)


def test_an_early_alert_is_right_within_the_tolerance_and_finds_the_span_only_if_it_is_open_then() -> None:
    assert count([(17, 40)], yes=[(21, 38)]) == Tally(right=1, found=1)
    assert count([(17, 20)], yes=[(21, 38)]) == Tally(right=1, missed=1)
    assert count([(16, 40)], yes=[(21, 38)]) == Tally(false=1, found=1)


def test_a_span_without_an_alert_is_missed() -> None:
    assert count([], yes=[(21, 38), (60, 70)]) == Tally(missed=2)


def test_an_alert_where_nothing_is_is_false() -> None:
    assert count([(60, 65)], yes=[(21, 38)]) == Tally(false=1, missed=1)
    assert count([(60, 65), (80, 200)]) == Tally(false=2)


def test_what_cannot_be_told_neither_makes_an_alert_false_nor_has_to_be_found() -> None:
    assert count([(30, 40)], unclear=[(21, 38)]) == Tally()
    assert count([(42, 47)], unclear=[(21, 38)]) == Tally()
    assert count([(44, 49)], unclear=[(21, 38)]) == Tally(false=1)
    assert count([(30, 60)], unclear=[(21, 38)], yes=[(38, 60)]) == Tally(found=1)


def test_the_second_alert_in_one_span_is_false() -> None:
    assert count([(25, 30), (35, 40)], yes=[(21, 38)]) == Tally(right=1, false=1, found=1)


def test_the_second_alert_is_right_where_the_truth_changed_in_between() -> None:
    assert count([(25, 30), (35, 40)], yes=[(21, 27), (33, 38)]) == Tally(right=2, found=2)
    assert count([(25, 30), (35, 40)], yes=[(21, 27), (32, 38)], unclear=[(27, 32)]) == Tally(right=2, found=2)


def test_the_second_alert_counts_for_nothing_where_it_cannot_be_told_any_more() -> None:
    assert count([(25, 30), (40, 45)], yes=[(21, 38)], unclear=[(38, 50)]) == Tally(right=1, found=1)
    assert count([(25, 30), (42, 47)], yes=[(21, 38)], unclear=[(38, 40)]) == Tally(right=1, false=1, found=1)
    assert count([(25, 30), (42, 47)], yes=[(21, 38)], unclear=[(38, 40)], rules=PAST) == Tally(right=1, found=1)


def test_a_span_shorter_than_the_period_is_not_to_be_found_but_makes_an_alert_right() -> None:
    assert count([], yes=[(21, 25.5)]) == Tally()
    assert count([(25, 30)], yes=[(21, 25.5)]) == Tally(right=1)
    assert count([], yes=[(21, 26)]) == Tally(missed=1)


def test_one_alert_may_find_several_spans() -> None:
    assert count([(25, 60)], yes=[(21, 35), (38, 58)]) == Tally(right=1, found=2)


def test_an_alert_that_outlives_the_truth_is_one_more_false_alert_each_time() -> None:
    """Ten seconds after a span it is late to be open still."""
    assert count([(25, 48)], yes=[(21, 38)]) == Tally(right=1, found=1)
    assert count([(25, 49)], yes=[(21, 38)]) == Tally(right=1, false=1, found=1)
    assert count([(0, 600)], yes=[(0, 38), (100, 120), (130, 150)]) == Tally(right=1, false=2, found=3)
    assert count([(25, 90)], yes=[(21, 38)], unclear=[(40, 80)]) == Tally(right=1, found=1)


def test_a_question_about_the_past_stays_true_for_its_window() -> None:
    assert count([(51, 55)], yes=[(21, 38)], rules=PAST) == Tally(right=1, found=1)
    assert count([(52, 57)], yes=[(21, 38)], rules=PAST) == Tally(false=1, missed=1)
    assert count([(25, 56)], yes=[(21, 38)], rules=PAST) == Tally(right=1, found=1)
    assert count([(25, 57)], yes=[(21, 38)], rules=PAST) == Tally(right=1, false=1, found=1)


def test_answers_become_spans() -> None:
    assert truth_of([False, True, True, None, False, True], 500) == Truth(spans((0.5, 1.5), (2.5, 3)), spans((1.5, 2)))
    assert truth_of([], 500) == Truth((), ())


@UNTIMED
@given(
    st.lists(st.tuples(st.sampled_from((True, False, False, None)), st.integers(1, 40)), max_size=12),
    st.lists(st.booleans(), min_size=200, max_size=200),
    st.sampled_from((NOW, PAST)),
)
def test_whoever_answers_truly_is_never_marked_down(
    runs: list[tuple[bool | None, int]], guesses: list[bool], rules: Rules
) -> None:
    """Yes or no is said at will where it cannot be told, once every period, and the alert book makes alerts of it."""
    answers = [answer for answer, times in runs for _ in range(times)]
    book, said = AlertBook(), []
    period = rules.period_ms // 500
    for number, end in enumerate(range(period, len(answers) + 1, period)):
        seen = answers[max(0, end - (rules.past_ms // 500 or 1)) : end]
        yes = True if True in seen else guesses[number] if None in seen else False
        said += book.fold(PERSON, reading(START_MS + 500 * end, float(yes), PERSON), ())[0]
    until = len(answers) // period * period
    counts = tally(open_spans(said, START_MS, 500 * until), truth_of(answers[:until], 500), rules)
    assert (counts.false, counts.missed) == (0, 0)


class Witness:
    """Says yes to everything while the last frame of a window is of these seconds of the film."""

    def __init__(self, from_s: float, to_s: float) -> None:
        self._from_ms, self._to_ms = START_MS + from_s * 1000, START_MS + to_s * 1000
        self.asked: list[tuple[str, ...]] = []

    def read(self, requests: Sequence[ReadRequest]) -> list[list[Reading]]:
        self.asked += [tuple(query.query_id for query in request.queries) for request in requests]
        return [[self._one(request, query) for query in request.queries] for request in requests]

    def _one(self, request: ReadRequest, query: StandingQuery) -> Reading:
        times, window = request.memory.frame_ms, request.window
        inside = times[(times >= window.from_ms) & (times < window.to_ms)]
        yes = bool(len(inside)) and self._from_ms <= int(inside[-1]) < self._to_ms
        said = Verdict.YES if yes else Verdict.NO
        relevance = np.zeros(len(inside), np.float32)
        feed_id = request.memory.feed_id
        return Reading(query.query_id, feed_id, window, inside, relevance, said, float(yes), 0.0)


def test_film_alerts_and_truth_are_on_one_clock(tmp_path: Path) -> None:
    """Somebody is there from 8 s to 21 s; who says so at the end of each window opens at 10 s and closes at 25 s."""
    way = Way(8_000, Place(0.0, 1.4 * bare().lens.near_m)).stay(13_000, Doing.STANDING)
    filmed = Camera(replace(scene(bare(), [actor("person", *way.legs)], minutes=0.6, light=NOON), fps=2.0), PLAIN)
    assert truth(PERSON, shown(filmed, frame_times(filmed))) == Truth(spans((8, 21)), ())
    config = configuration(tmp_path, *in_step(1), "model.segment_frames=16")
    fire = replace(PERSON, query_id="fire")
    witness = Witness(8, 21)
    said = watched(config, (PERSON, fire), {"yard": filmed}, ColourCompressor(Fate()), witness)
    own = [one for one in said if one.query.query_id == "person"]
    assert open_spans(own, START_MS, 35_000) == list(spans((10, 25)))
    assert witness.asked == [("person", "fire")] * 8, "every window from 0 to 35 s, all questions of it together"


def test_questions_of_another_window_are_not_read_together() -> None:
    long = replace(PERSON, query_id="bottle", window_ms=16_000)
    witness = Witness(0, 1)
    together = Together(witness, (PERSON, long))
    nothing = np.empty(0, np.int64)
    for query in (PERSON, long):
        window = Window(START_MS - query.window_ms, START_MS)
        memory = WindowTokens("yard", window, "t", 0, nothing, nothing, np.empty((0, 0, 0), np.float16), "")
        ((one,),) = together.read([ReadRequest(memory, window, (query,))])
        assert (one.query_id, one.window) == (query.query_id, window)
    assert witness.asked == [("person",), ("bottle",)]


def test_the_truth_about_a_fall_lasts_until_they_are_up_again() -> None:
    z = 1.4 * bare().lens.near_m
    way = Way(0, Place(0.0, z)).stay(2_000, Doing.STANDING).stay(700, Doing.FALLING).stay(6_000, Doing.LYING)
    way.stay(1_200, Doing.RISING).stay(3_000, Doing.STANDING)
    film = shown(Camera(scene(bare(), [actor("person", *way.legs)]), PLAIN), tuple(range(0, 12_000, 500)))
    said = [answer("fall", film, frame) for frame in range(len(film.seen))]
    assert truth_of(said, 500) == Truth(spans((2, 10)), ())
    assert {answer("person", film, frame) for frame in range(len(film.seen))} == {True}


def test_what_is_a_matter_of_taste_cannot_be_told() -> None:
    z = 1.4 * bare().lens.near_m
    for name, expected in (("bicycle", None), ("person", False), ("car", True)):
        film = shown(Camera(scene(bare(), [standing(name, 0.0, z)]), PLAIN), (0,))
        assert answer("vehicle", film, 0) is expected
    with pytest.raises(ValueError, match="query_id: the truth about 'rain' is not known"):
        answer("rain", film, 0)


def test_no_feed_is_of_a_scene_or_a_place_of_training() -> None:
    feeds = cameras(6, 1.0, 2.0, PLAIN)
    stages = [camera.scene.stage for camera in feeds.values()]
    assert len({(stage.site, stage.seed) for stage in stages}) == 6
    assert min(stage.seed for stage in stages) >= TEST_SEEDS
