import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standwatch.pipeline.alerts import AlertBook
from standwatch.pipeline.alertstates import restore_states, save_states
from standwatch.pipeline.clock import rfc3339
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.fields import Fields
from standwatch.pipeline.types import Alert, QueryKind, Reading, StandingQuery, Transition, Verdict
from tests.questions_world import NOW, QUERY, UNTIMED, S, evidence_frame, reading, with_version

STEP = 10 * S
OPENED, UPDATED, CLOSED = Transition.OPENED, Transition.UPDATED, Transition.CLOSED


class Story:
    """Folds probabilities into a book, one window after another; None is an unknown verdict."""

    def __init__(self, query: StandingQuery = QUERY) -> None:
        self.book, self.query = AlertBook(), query
        self.alerts: list[Alert] = []
        self.outcomes: list[str] = []
        self.at_ms = NOW

    def tell(self, *probabilities: float | None) -> "Story":
        for probability in probabilities:
            self.at_ms += STEP
            self.fold(spoken(self.at_ms, probability, self.query))
        return self

    def fold(self, said: Reading) -> None:
        alerts, outcome = self.book.fold(self.query, said, (evidence_frame(),))
        self.alerts += alerts
        self.outcomes.append(outcome)

    @property
    def transitions(self) -> list[tuple[Transition, int]]:
        return [(alert.transition, alert.revision) for alert in self.alerts]


def spoken(at_ms: int, probability: float | None, query: StandingQuery = QUERY) -> Reading:
    if probability is None:
        return reading(at_ms, 0.5, query, verdict=Verdict.UNKNOWN)
    return reading(at_ms, probability, query)


def restarted(book: AlertBook) -> AlertBook:
    again = AlertBook()
    again.put_back(restore_states(Fields(json.loads(json.dumps(save_states(book.states()))), "state")))
    return again


def test_one_event_is_one_alert_that_opens_and_closes() -> None:
    story = Story().tell(0.2, 0.7, 0.72, 0.69, 0.49, 0.2)
    assert story.transitions == [(OPENED, 0), (CLOSED, 1)]
    assert story.outcomes == [
        "below open_at 0.70",
        "opened",
        "still open",
        "still open",
        "closed",
        "below open_at 0.70",
    ]
    opened, closed = story.alerts
    assert opened.alert_id == closed.alert_id
    assert (opened.started_ms, opened.observed_ms, opened.ended_ms) == (NOW + 2 * STEP - 30 * S, NOW + 2 * STEP, None)
    assert (closed.started_ms, closed.ended_ms) == (opened.started_ms, NOW + 5 * STEP)
    assert closed.reason == "below close_at 0.50"
    assert opened.evidence == (evidence_frame(),)


def test_between_close_at_and_open_at_nothing_opens_and_nothing_closes() -> None:
    assert Story().tell(0.6, 0.65).transitions == []
    assert Story().tell(0.7, 0.65, 0.5, 0.65).transitions == [(OPENED, 0), (UPDATED, 1), (UPDATED, 2)]


def test_an_update_comes_only_when_the_probability_moved_since_it_was_last_heard() -> None:
    story = Story().tell(0.7, 0.75, 0.79, 0.8, 0.85, 0.9, 0.9)
    assert story.transitions == [(OPENED, 0), (UPDATED, 1), (UPDATED, 2)]
    assert [alert.probability for alert in story.alerts] == [0.7, 0.8, 0.9]


def test_a_changed_verdict_is_an_update_once() -> None:
    story = Story().tell(0.8, None, None, 0.8)
    assert [(a.transition, a.verdict) for a in story.alerts] == [
        (OPENED, Verdict.YES),
        (UPDATED, Verdict.UNKNOWN),
        (UPDATED, Verdict.YES),
    ]
    assert story.outcomes == ["opened", "updated", "verdict unknown; still open", "updated"]


def test_an_unknown_verdict_neither_opens_nor_closes() -> None:
    eager = replace(QUERY, open_at=0.4, close_at=0.4)
    story = Story(eager)
    story.fold(reading(NOW, 0.52, eager, verdict=Verdict.UNKNOWN))
    assert story.outcomes == ["verdict unknown"]
    story.fold(reading(NOW + STEP, 0.9, eager))
    story.fold(reading(NOW + 2 * STEP, 0.3, eager, verdict=Verdict.UNKNOWN))
    assert [transition for transition, _ in story.transitions] == [OPENED, UPDATED]


def test_debounce_asks_for_k_of_the_last_n() -> None:
    story = Story(replace(QUERY, debounce_k=2, debounce_n=3)).tell(0.9, 0.1, 0.1, 0.9, 0.1, 0.9)
    assert story.outcomes == [
        "debounce 1 of 2 in the last 3",
        "below open_at 0.70",
        "below open_at 0.70",
        "debounce 1 of 2 in the last 3",
        "below open_at 0.70",
        "opened",
    ]


def test_debounce_in_a_row_is_broken_by_a_miss_and_by_an_unknown_and_starts_anew_after_closing() -> None:
    story = Story(replace(QUERY, debounce_k=2, debounce_n=2)).tell(0.9, 0.1, 0.9, None, 0.9, 0.9, 0.1, 0.9)
    assert [o for o in story.outcomes if o in ("opened", "closed")] == ["opened", "closed"]
    assert story.outcomes[-1] == "debounce 1 of 2"


def test_cool_down_counts_from_the_opened_alert_and_holds_back_only_new_ones() -> None:
    story = Story(replace(QUERY, cooldown_ms=40 * S)).tell(0.7, 0.9, 0.1, 0.9, 0.9, 0.9)
    sent_ms = NOW + STEP
    until = f"cool-down until {rfc3339(sent_ms + 40 * S)}"
    assert story.outcomes == ["opened", "updated", "closed", until, "opened", "still open"]


def test_an_event_that_was_never_sent_starts_no_cool_down() -> None:
    story = Story(replace(QUERY, cooldown_ms=40 * S, debounce_k=2, debounce_n=2)).tell(0.9, 0.1, 0.9, 0.9)
    assert story.outcomes[-1] == "opened"


def test_an_older_window_changes_nothing_and_says_so() -> None:
    story = Story().tell(0.1, 0.9)
    before = story.book.states()
    story.fold(reading(NOW + STEP, 0.0))
    story.fold(reading(NOW + 2 * STEP, 0.0))
    assert story.book.states() == before
    assert story.transitions == [(OPENED, 0)]
    assert all(outcome.startswith("older than the window read last") for outcome in story.outcomes[2:])


def test_considering_changes_nothing_until_it_is_accepted() -> None:
    book = AlertBook()
    fold = book.consider(QUERY, reading(NOW, 0.9), ())
    assert book.states() == {}
    assert book.consider(QUERY, reading(NOW, 0.9), ()) == fold
    book.accept(fold)
    assert book.fold(QUERY, reading(NOW + STEP, 0.9), ()) == ([], "still open")


def test_a_text_query_opens_no_alert() -> None:
    story = Story(replace(QUERY, kind=QueryKind.TEXT)).tell(0.99)
    assert story.alerts == []
    assert story.book.states() == {}


def test_feeds_and_queries_have_alerts_of_their_own() -> None:
    book = AlertBook()
    other = replace(QUERY, query_id="dog")
    said = [
        book.fold(QUERY, reading(NOW, 0.9, feed_id="a"), ()),
        book.fold(QUERY, reading(NOW, 0.9, feed_id="b"), ()),
        book.fold(other, reading(NOW, 0.9, other, feed_id="a"), ()),
    ]
    assert len({alerts[0].alert_id for alerts, _ in said}) == 3


def test_an_alert_id_depends_on_the_event_and_on_nothing_else() -> None:
    assert Story().tell(0.9).alerts[0].alert_id == Story().tell(0.95).alerts[0].alert_id
    assert Story().tell(0.9).alerts[0].alert_id != Story().tell(0.1, 0.9).alerts[0].alert_id


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ([], "query person was removed"),
        ([with_version(QUERY, 2)], "query person was replaced by version 2"),
        ([replace(QUERY, feeds=("yard",))], "query person no longer watches dock"),
    ],
)
def test_a_query_that_goes_closes_its_open_alert_with_a_reason(now: list[StandingQuery], reason: str) -> None:
    story = Story().tell(0.7, 0.9)
    (closed,) = story.book.set_queries(now)
    assert (closed.transition, closed.revision, closed.reason) == (CLOSED, 2, reason)
    assert (closed.alert_id, closed.query) == (story.alerts[0].alert_id, QUERY)
    assert closed.ended_ms == closed.observed_ms == NOW + 2 * STEP
    assert story.book.set_queries(now) == []
    assert Story().tell(0.9).book.set_queries([QUERY]) == []


def test_broken_saved_state_is_refused_by_field() -> None:
    states = save_states(Story().tell(0.9).book.states())
    broken = json.loads(json.dumps(states).replace('"probability": 0.9', '"probability": 9'))
    with pytest.raises(BadInput, match=r"state: states\[0\]\.alert\.probability: 9 is not within 0\.\.1"):
        restore_states(Fields(broken, "state"))


rules = st.builds(
    lambda levels, k, extra, cooldown: replace(
        QUERY, close_at=min(levels), open_at=max(levels), debounce_k=k, debounce_n=k + extra, cooldown_ms=cooldown * S
    ),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(0, 60),
)
readings = st.lists(st.tuples(st.integers(-2, 3), st.none() | st.floats(0, 1)), max_size=40)


@UNTIMED
@given(query=rules, said=readings)
def test_alerts_of_a_pair_open_count_up_and_close_one_after_another(
    query: StandingQuery, said: list[tuple[int, float | None]]
) -> None:
    story = Story(query)
    for move, probability in said:
        story.at_ms += move * STEP
        story.fold(spoken(story.at_ms, probability, query))
    open_id, revision, opened_ms, latest_ms = None, -1, None, None
    for alert in story.alerts:
        assert latest_ms is None or alert.observed_ms > latest_ms
        latest_ms = alert.observed_ms
        if alert.transition is OPENED:
            assert open_id is None, "at most one is open"
            assert opened_ms is None or alert.observed_ms >= opened_ms + query.cooldown_ms
            assert alert.verdict is not Verdict.UNKNOWN and alert.probability >= query.open_at
            open_id, revision, opened_ms = alert.alert_id, 0, alert.observed_ms
            assert alert.revision == 0
        else:
            revision += 1
            assert (alert.alert_id, alert.revision) == (open_id, revision)
            if alert.transition is CLOSED:
                assert alert.verdict is not Verdict.UNKNOWN and alert.probability < query.close_at
                open_id = None
    ids = [alert.alert_id for alert in story.alerts if alert.transition is OPENED]
    assert len(set(ids)) == len(ids)
    assert len(story.book.set_queries([])) == (open_id is not None)


@UNTIMED
@given(query=rules, said=readings, cut=st.integers(0, 40))
def test_a_restart_at_any_point_makes_no_difference(
    query: StandingQuery, said: list[tuple[int, float | None]], cut: int
) -> None:
    through, broken = Story(query), Story(query)
    for index, (move, probability) in enumerate(said):
        if index == cut:
            broken.book = restarted(broken.book)
        for story in (through, broken):
            story.at_ms += move * STEP
            story.fold(spoken(story.at_ms, probability, query))
    assert (broken.alerts, broken.outcomes) == (through.alerts, through.outcomes)
    assert restarted(broken.book).states() == through.book.states()
