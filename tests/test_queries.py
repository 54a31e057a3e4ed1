import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.queries import (
    SEVERITIES,
    format_duration,
    parse_duration,
    parse_queries,
    queries_from_file,
    query_from_mapping,
    to_mapping,
)
from standwatch.pipeline.types import QueryKind, StandingQuery
from tests.questions_world import UNTIMED

MINIMAL = {"query_id": "person", "question": "Is a person there?"}


def test_a_query_needs_only_an_id_and_a_question() -> None:
    assert query_from_mapping(MINIMAL, "cli") == StandingQuery("person", "Is a person there?")


@pytest.mark.parametrize(
    ("change", "named", "fix"),
    [
        ({"quesiton": "x"}, "quesiton", "did you mean 'question'"),
        ({"every_ms": 5}, "every_ms", "did you mean 'every'"),
        ({"question": None}, "question", "is missing"),
        ({"question": "   "}, "question", "is empty"),
        ({"question": 7}, "question", "must be text"),
        ({"question": True}, "question", "must be text"),
        ({"question": "x" * 2001}, "question", "at most 2000"),
        ({"question": "Rain?<|im_end|>"}, "question", "would end the question"),
        ({"query_id": None}, "query_id", "is missing"),
        ({"query_id": "a/b"}, "query_id", "1 to 128"),
        ({"query_id": "a" * 129}, "query_id", "129 characters"),
        ({"query_id": ""}, "query_id", "1 to 128"),
        ({"query_id": ".."}, "query_id", "not beginning with ."),
        ({"query_id": 12}, "query_id", "quotes"),
        ({"open_at": 1.1}, "open_at", "0..1"),
        ({"open_at": "0.5"}, "open_at", "must be a number"),
        ({"open_at": float("nan")}, "open_at", "0..1"),
        ({"open_at": 0.6, "close_at": 0.7}, "close_at", "lower it"),
        ({"debounce_k": 0}, "debounce_k", "1..1000"),
        ({"debounce_k": 3, "debounce_n": 2}, "debounce_k", "of the last n"),
        ({"debounce_n": 1001}, "debounce_n", "1..1000"),
        ({"debounce_k": True}, "debounce_k", "whole number"),
        ({"every": "99ms"}, "every", "below 100ms"),
        ({"every": "10"}, "every", "unit"),
        ({"every": 0}, "every", "above 0"),
        ({"every": [1]}, "every", "30s"),
        ({"window": "25h"}, "window", "above 1d"),
        ({"window": 0}, "window", "above 0"),
        ({"cooldown": "soon"}, "cooldown", "unit"),
        ({"severity": "bad"}, "severity", "info, warning, critical"),
        ({"kind": "yes"}, "kind", "yes_no, text"),
        ({"feeds": []}, "feeds", "at least one"),
        ({"feeds": ["a/b"]}, "feeds", "pattern"),
        ({"feeds": 5}, "feeds", "at least one"),
        ({"evidence_frames": -1}, "evidence_frames", "0..512"),
        ({"version": 0}, "version", "not within 1"),
    ],
)
def test_a_wrong_field_is_refused_by_file_and_name_with_the_fix(
    change: dict[str, object], named: str, fix: str
) -> None:
    with pytest.raises(BadInput) as refused:
        query_from_mapping({**MINIMAL, **change}, "dock.yaml")
    assert str(refused.value).startswith(f"dock.yaml: {named}: ")
    assert fix in str(refused.value)


def test_close_follows_a_low_open_and_n_follows_k() -> None:
    query = query_from_mapping({**MINIMAL, "open_at": 0.3, "debounce_k": 2}, "cli")
    assert (query.close_at, query.debounce_n) == (0.3, 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("500ms", 500), ("30s", 30_000), ("10m", 600_000), ("2h", 7_200_000), ("1.5s", 1500), ("1 d", 86_400_000)],
)
def test_durations_are_a_number_with_a_unit(text: str, expected: int) -> None:
    assert parse_duration(text, "--last") == expected


def test_whole_milliseconds_are_durations_too() -> None:
    assert parse_duration(250, "every") == 250


@pytest.mark.parametrize("text", ["", "s", "10", "-5s", "0s", "0.0001ms", "10 parsecs", "1e3s", "٣s", "99999999999h"])
def test_what_is_no_duration_is_refused_by_the_fields_name(text: str) -> None:
    with pytest.raises(BadInput, match=r"^--last: "):
        parse_duration(text, "--last")


@UNTIMED
@given(st.integers(1, 10**11))
def test_a_written_duration_reads_back_exactly(duration_ms: int) -> None:
    assert parse_duration(format_duration(duration_ms), "x") == duration_ms


@st.composite
def queries(draw: st.DrawFn) -> StandingQuery:
    close_at, open_at = sorted((draw(st.floats(0, 1)), draw(st.floats(0, 1))))
    k, n = sorted((draw(st.integers(1, 1000)), draw(st.integers(1, 1000))))
    names = st.text("abcXYZ019_-", min_size=1, max_size=20)
    return StandingQuery(
        query_id=draw(names),
        question=draw(st.text(min_size=1, max_size=50).map(str.strip).filter(bool)),
        version=draw(st.integers(1, 99)),
        feeds=tuple(draw(st.lists(names.map(lambda name: name + "*"), min_size=1, max_size=3))),
        kind=draw(st.sampled_from(QueryKind)),
        every_ms=draw(st.integers(100, 10**9)),
        window_ms=draw(st.integers(1, 86_400_000)),
        open_at=open_at,
        close_at=close_at,
        debounce_k=k,
        debounce_n=n,
        cooldown_ms=draw(st.integers(0, 10**9)),
        severity=draw(st.sampled_from(SEVERITIES)),
        evidence_frames=draw(st.integers(0, 512)),
    )


@UNTIMED
@given(queries())
def test_a_written_query_reads_back_equal(query: StandingQuery) -> None:
    assert query_from_mapping(to_mapping(query), "x") == query
    assert parse_queries(json.dumps(to_mapping(query)), "x.json") == [query]


def test_a_file_holds_one_query_or_a_list() -> None:
    assert [q.query_id for q in parse_queries("query_id: a\nquestion: b", "q.yaml")] == ["a"]
    both = "queries:\n- {query_id: a, question: b}\n- {query_id: c, question: d, every: 1m}\n"
    assert [q.query_id for q in parse_queries(both, "q.yaml")] == ["a", "c"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "is empty"),
        ("- a\n- b", "must be a mapping"),
        ("queries: []", "queries: must be a list of at least one"),
        ("queries: {}", "queries: must be a list"),
        ("queries:\n- {query_id: a}", "queries[0].question: is missing"),
        (
            "queries:\n- {query_id: a, question: b}\n- {query_id: a, question: c}",
            "queries[1].query_id: 'a' is there twice",
        ),
        ("queries: [{query_id: a, question: b}]\nother: 1", "other: unknown key"),
        ("a: [", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("7: x", "7: names must be text"),
    ],
)
def test_a_broken_file_is_refused_with_its_name_and_place(text: str, named: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_queries(text, "q.yaml")
    assert str(refused.value).startswith("q.yaml: ")
    assert named in str(refused.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"question: \xff")
    (tmp_path / "large.yaml").write_bytes(b"#" * 2_000_000)
    for name, why in (
        ("none.yaml", "No such file"),
        ("latin.yaml", "UTF-8"),
        ("large.yaml", "1 MiB"),
        ("", "directory"),
    ):
        with pytest.raises(BadInput, match=why):
            queries_from_file(tmp_path / name)
