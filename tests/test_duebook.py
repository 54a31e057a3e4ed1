import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standwatch.pipeline.duebook import QueryBook
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.fields import Fields
from standwatch.pipeline.types import Due, StandingQuery, Window
from tests.questions_world import NOW, QUERY, UNTIMED, S, progress, with_version

EVERY = QUERY.every_ms
BEGIN = NOW // EVERY * EVERY


def book_of(*queries: StandingQuery, most: int = 3) -> QueryBook:
    book = QueryBook(most)
    book.set_queries(queries)
    return book


def ends(dues: list[Due]) -> list[int]:
    return [(due.window.to_ms - BEGIN) // EVERY for due in dues]


def restarted(book: QueryBook, *queries: StandingQuery, most: int = 3) -> QueryBook:
    again = QueryBook(most)
    again.restore(Fields(json.loads(json.dumps(book.save())), "state"))
    again.set_queries(queries)
    return again


def test_a_new_pair_begins_at_its_latest_complete_window() -> None:
    (due,) = book_of(QUERY).due([progress(BEGIN + 5 * EVERY + 123)])
    assert due == Due(QUERY, "dock", Window(BEGIN + 5 * EVERY - QUERY.window_ms, BEGIN + 5 * EVERY))


def test_a_window_is_complete_when_the_watermark_reaches_its_end() -> None:
    book = book_of(QUERY)
    book.due([progress(BEGIN)])
    assert ends(book.due([progress(BEGIN + EVERY - 1)])) == []
    assert ends(book.due([progress(BEGIN + EVERY)])) == [1]


def test_a_window_is_handed_out_once_while_it_is_outstanding_and_never_after_it_is_settled() -> None:
    book = book_of(QUERY)
    (due,) = book.due([progress(BEGIN)])
    assert book.due([progress(BEGIN)]) == []
    book.settle(due)
    book.settle(due)
    assert book.due([progress(BEGIN)]) == []


def test_a_window_given_back_is_handed_out_again() -> None:
    book = book_of(QUERY)
    dues = book.due([progress(BEGIN)])
    book.give_back(dues)
    assert book.due([progress(BEGIN)]) == dues
    book.give_all_back()
    assert book.due([progress(BEGIN)]) == dues


def test_late_windows_are_due_latest_first_and_the_skipped_are_counted() -> None:
    book = book_of(QUERY)
    for due in book.due([progress(BEGIN)]):
        book.settle(due)
    dues = book.due([progress(BEGIN + 10 * EVERY)])
    assert ends(dues) == [10, 9, 8]
    assert [book.skipped(due) for due in dues] == [0, 0, 7]


def test_no_more_windows_are_outstanding_than_allowed_and_the_latest_come_as_room_is_made() -> None:
    book = book_of(QUERY, most=2)
    book.due([progress(BEGIN)])
    (second,) = book.due([progress(BEGIN + EVERY)])
    assert book.due([progress(BEGIN + 6 * EVERY)]) == []
    book.settle(second)
    (latest,) = book.due([progress(BEGIN + 6 * EVERY)])
    assert (ends([latest]), book.skipped(latest)) == ([6], 4)


def test_a_feed_that_comes_back_after_years_costs_no_more_than_its_latest_windows() -> None:
    book = book_of(replace(QUERY, every_ms=100))
    for due in book.due([progress(BEGIN)]):
        book.settle(due)
    dues = book.due([progress(BEGIN + 10**12)])
    assert [book.skipped(due) for due in dues] == [0, 0, 10**10 - 3]


def test_a_watermark_that_goes_back_makes_nothing_due() -> None:
    book = book_of(QUERY)
    book.due([progress(BEGIN)])
    assert book.due([progress(BEGIN - 5 * EVERY)]) == []


def test_feeds_match_by_name_and_by_pattern_with_case() -> None:
    book = book_of(replace(QUERY, feeds=("dock", "yard-*")))
    feeds = [progress(BEGIN, feed) for feed in ("dock", "dock2", "Dock", "yard-1", "yard-2", "backyard-1")]
    assert [due.feed_id for due in book.due(feeds)] == ["dock", "yard-1", "yard-2"]


def test_queries_of_one_feed_and_window_come_side_by_side() -> None:
    other = replace(QUERY, query_id="dog")
    dues = book_of(QUERY, other).due([progress(BEGIN, "a"), progress(BEGIN + EVERY, "b")])
    assert [(due.feed_id, due.query.query_id) for due in dues] == [
        ("b", "dog"),
        ("b", "person"),
        ("a", "dog"),
        ("a", "person"),
    ]


def test_a_new_version_begins_anew_and_the_old_one_is_forgotten() -> None:
    book = book_of(QUERY)
    (old,) = book.due([progress(BEGIN)])
    newer = with_version(QUERY, 2)
    book.set_queries([newer])
    assert (book.knows(QUERY), book.knows(newer)) == (False, True)
    assert [due.query.version for due in book.due([progress(BEGIN)])] == [2]
    book.settle(old)
    book.set_queries([])
    assert book.due([progress(BEGIN + EVERY)]) == []
    assert book.pairs == frozenset()


def test_a_restart_repeats_the_unsettled_and_only_those() -> None:
    book = book_of(QUERY)
    book.due([progress(BEGIN)])
    dues = book.due([progress(BEGIN + 9 * EVERY)])
    book.settle(dues[0])
    again = restarted(book, QUERY).due([progress(BEGIN + 9 * EVERY)])
    assert ends(again) == [8, 0]
    assert restarted(book, QUERY).skipped(again[0]) == 7


def test_broken_saved_state_is_refused_by_field() -> None:
    book = QueryBook(3)
    with pytest.raises(BadInput, match=r"state: courses\[0\]\.version: is missing"):
        book.restore(Fields({"courses": [{"query_id": "a"}]}, "state"))


@UNTIMED
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("go"), st.integers(0, 60)),
            st.tuples(st.just("settle"), st.integers(0, 5)),
            st.tuples(st.just("give_back"), st.integers(0, 5)),
            st.tuples(st.just("restart"), st.just(0)),
        ),
        max_size=40,
    ),
    most=st.integers(1, 4),
)
def test_whatever_happens_every_window_is_settled_once_skipped_once_or_outstanding(
    steps: list[tuple[str, int]], most: int
) -> None:
    book = book_of(QUERY, most=most)
    watermark_ms = BEGIN
    hands: list[Due] = []
    settled: dict[int, int] = {}
    first: int | None = None
    for step, amount in [*steps, ("restart", 0), ("go", 0)]:
        if step == "go":
            watermark_ms += amount * S
            dues = book.due([progress(watermark_ms)])
            assert dues == sorted(dues, key=lambda due: -due.window.to_ms)
            assert not set(dues) & set(hands)
            hands += dues
            assert len(hands) <= most
            first = first if first is not None or not dues else ends(dues)[-1]
        elif step == "settle" and hands:
            due = hands.pop(amount % len(hands))
            (end,) = ends([due])
            assert end not in settled
            settled[end] = book.skipped(due)
            book.settle(due)
        elif step == "give_back" and hands:
            book.give_back([hands.pop(amount % len(hands))])
        elif step == "restart":
            book, hands = restarted(book, QUERY, most=most), []
    answered = {**settled, **{end: book.skipped(due) for due, end in zip(hands, ends(hands), strict=True)}}
    covered = sorted(index for end, skipped in answered.items() for index in range(end - skipped, end + 1))
    assert first is not None
    assert covered == list(range(first, max(answered) + 1)), "each window once, without a gap"
