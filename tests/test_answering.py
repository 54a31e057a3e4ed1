import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standwatch.pipeline.answering import adhoc_query, answer_once, verdict
from standwatch.pipeline.answers import top_frames
from standwatch.pipeline.errors import BadInput, Unavailable
from standwatch.pipeline.evaluations import EvaluationLog
from standwatch.pipeline.events import parse_alert, parse_answer
from standwatch.pipeline.types import Due, QueryKind, Transition, Verdict, Window
from tests.questions_world import (
    NOW,
    QUERY,
    Desk,
    Narrator,
    S,
    as_read,
    body,
    evidence,
    header,
    progress,
    reading,
    with_version,
)

EVERY = QUERY.every_ms
FIRST = NOW // EVERY * EVERY
RISES = {FIRST + index * EVERY: p for index, p in enumerate([0.1, 0.8, 0.8, 0.95, 0.2, 0.9])}
NOTHING = np.empty(0, np.int64)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, [QUERY], RISES)


def test_every_evaluation_gives_one_answer_and_alerts_only_for_transitions(desk: Desk) -> None:
    for step in range(6):
        desk.round(FIRST + step * EVERY)
    kinds = [kind for kind, _ in desk.said()]
    assert kinds.count("answer.v1") == 6
    assert [kind for kind in kinds if kind != "answer.v1"] == [
        "alert.opened.v1",
        "alert.updated.v1",
        "alert.closed.v1",
        "alert.opened.v1",
    ]
    assert len(set(desk.said())) == 10


def test_words_are_written_for_an_opening_and_stand_in_alert_and_answer(desk: Desk) -> None:
    for step in range(3):
        desk.round(FIRST + step * EVERY)
    assert desk.narrator.asked == [QUERY.question]
    (opened,) = [parse_alert(as_read(e)) for e in desk.flushed if e.topic == "video.alerts.v1"]
    answers = [parse_answer(as_read(e)) for e in desk.flushed if e.topic == "video.answers.v1"]
    assert opened.text == "a person walks"
    assert [answer.text for answer in answers] == ["", "a person walks", ""]
    assert [answer.prompt_tokens for answer in answers] == [0, 11, 0]
    assert all(len(answer.evidence) == 2 for answer in answers), "evidence is referred to in every answer"
    assert opened.evidence == answers[1].evidence


def test_a_text_query_gets_words_every_time_and_no_verdict(tmp_path: Path) -> None:
    desk = Desk(tmp_path, [replace(QUERY, kind=QueryKind.TEXT)], {FIRST: 0.99, FIRST + EVERY: 0.99})
    desk.round(FIRST)
    desk.round(FIRST + EVERY)
    answers = [parse_answer(as_read(event)) for event in desk.flushed]
    assert [(a.text, a.verdict, a.probability) for a in answers] == [("a person walks", Verdict.UNKNOWN, 0.5)] * 2


def test_a_window_without_frames_is_unknown_asks_no_model_and_says_so(tmp_path: Path) -> None:
    for kind in QueryKind:
        desk = Desk(tmp_path / kind.value, [replace(QUERY, kind=kind)], {})
        (due,) = desk.answering.due([progress(FIRST)])
        empty = reading(FIRST, 0.99, due.query, frames=0)
        (sent,) = desk.answering.conclude(due, empty, evidence(empty, NOTHING), NOW)
        desk.answering.settle([due])
        assert (body(sent)["verdict"], body(sent)["outcome"]) == ("unknown", "no frames in window")
        assert desk.narrator.asked == []
        (logged,) = EvaluationLog(tmp_path / kind.value).read()
        assert (logged.frames, logged.verdict, logged.outcome) == (0, Verdict.UNKNOWN, "no frames in window")


def test_evidence_is_the_most_relevant_frames_in_the_order_of_time_and_the_earlier_of_equals() -> None:
    relevance = np.array([0.1, 0.9, 0.5, 0.9, 0.5, 0.5], np.float32)
    assert top_frames(relevance, 1).tolist() == [1]
    assert top_frames(relevance, 3).tolist() == [1, 2, 3]
    assert top_frames(relevance, 9).tolist() == [0, 1, 2, 3, 4, 5]
    assert top_frames(relevance[:0], 3).tolist() == []


def test_a_query_may_ask_for_its_own_number_of_evidence_frames(desk: Desk) -> None:
    said = reading(FIRST, 0.9, frames=5)
    due = Due(QUERY, "dock", said.window)
    assert desk.answering.wanted(due, said).tolist() == [3, 4]
    assert desk.answering.wanted(replace(due, query=replace(QUERY, evidence_frames=4)), said).tolist() == [1, 2, 3, 4]


def test_the_log_says_why_it_did_not_fire_and_what_was_skipped(desk: Desk, tmp_path: Path) -> None:
    desk.round(FIRST)
    desk.round(FIRST + 9 * EVERY)
    lines = EvaluationLog(tmp_path).read(query_id="person")
    assert [line.window.to_ms for line in lines] == [FIRST, *(FIRST + n * EVERY for n in (7, 8, 9))]
    assert [line.skipped_windows for line in lines] == [0, 6, 0, 0]
    assert [line.outcome.split(" (")[0] for line in lines] == ["below open_at 0.70"] * 4


def test_windows_that_are_late_together_reach_the_alert_in_the_order_of_time(tmp_path: Path) -> None:
    late = Desk(tmp_path / "late", [QUERY], RISES)
    prompt = Desk(tmp_path / "prompt", [QUERY], RISES)
    late.round(FIRST)
    late.round(FIRST + 3 * EVERY)
    for step in range(4):
        prompt.round(FIRST + step * EVERY)
    outcomes = [line.outcome for line in EvaluationLog(tmp_path / "prompt").read()]
    assert [line.outcome for line in EvaluationLog(tmp_path / "late").read()] == outcomes
    assert "opened" in outcomes


@pytest.mark.parametrize("crash", ["flush", "settle"])
def test_a_crash_repeats_a_round_with_equal_ids_and_loses_nothing(tmp_path: Path, crash: str) -> None:
    through = Desk(tmp_path / "through", [QUERY], RISES)
    broken = Desk(tmp_path / "broken", [QUERY], RISES)
    for step in range(6):
        through.round(FIRST + step * EVERY)
        assert broken.round(FIRST + step * EVERY, crash) == broken.round(FIRST + step * EVERY)
    assert broken.said() == through.said()
    assert EvaluationLog(tmp_path / "broken").read() == EvaluationLog(tmp_path / "through").read()


def test_a_restart_after_settling_repeats_nothing(desk: Desk) -> None:
    desk.round(FIRST)
    desk.restart()
    assert desk.round(FIRST) == []


def test_a_crash_in_the_first_round_does_not_move_where_a_query_began(desk: Desk) -> None:
    desk.answering.due([progress(FIRST)])
    desk.restart()
    dues = desk.answering.due([progress(FIRST + EVERY)])
    assert [due.window.to_ms for due in dues] == [FIRST, FIRST + EVERY]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["", "flush", "settle"]), st.floats(0, 1)), max_size=12))
def test_wherever_it_crashes_the_story_told_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str, float]]
) -> None:
    root = tmp_path_factory.mktemp("desk")
    probabilities = {FIRST + index * EVERY: p for index, (_, _, p) in enumerate(steps)}
    through, broken = (Desk(root / name, [QUERY], probabilities) for name in ("through", "broken"))
    for index, (times, crash, _) in enumerate(steps):
        for _ in range(times if crash else 0):
            broken.round(FIRST + index * EVERY, crash)
        for one in (through, broken):
            one.round(FIRST + index * EVERY)
    assert broken.said() == through.said()


def test_a_model_that_is_away_leaves_everything_as_it_was(desk: Desk) -> None:
    desk.round(FIRST)
    (due,) = desk.answering.due([progress(FIRST + EVERY)])
    desk.narrator.away = True
    with pytest.raises(Unavailable):
        desk.conclude(due)
    desk.narrator.away = False
    assert [header(event, "ce_type") for event in desk.conclude(due)] == [
        "org.standwatch.alert.opened.v1",
        "org.standwatch.answer.v1",
    ]


def test_a_window_given_back_is_due_again_and_a_concluded_one_is_not(tmp_path: Path) -> None:
    desk = Desk(tmp_path, [QUERY, replace(QUERY, query_id="dog")], RISES)
    dog, person = desk.answering.due([progress(FIRST)])
    desk.conclude(dog)
    desk.answering.give_back([dog, person])
    assert desk.answering.due([progress(FIRST)]) == [person]


def test_verdicts_wait_for_one_text_at_most(tmp_path: Path) -> None:
    texts = [replace(QUERY, query_id=name, kind=QueryKind.TEXT) for name in ("report", "story")]
    desk = Desk(tmp_path, [*texts, QUERY], RISES)

    def handed_out(watermark_ms: int) -> list[tuple[str, int]]:
        return [(due.query.query_id, (due.window.to_ms - FIRST) // EVERY) for due in desk.round(watermark_ms)]

    assert handed_out(FIRST) == [("person", 0), ("report", 0)]
    assert handed_out(FIRST + EVERY) == [("person", 1), ("story", 0)]
    assert handed_out(FIRST + EVERY) == [("report", 1)]
    assert handed_out(FIRST + EVERY) == [("story", 1)]
    assert handed_out(FIRST + EVERY) == [], "every text is written once"


def test_forgetting_what_is_outstanding_goes_back_to_what_was_settled(desk: Desk) -> None:
    desk.round(FIRST)
    (due,) = desk.answering.due([progress(FIRST + EVERY)])
    lost = desk.conclude(due)
    desk.answering.forget_outstanding()
    desk.replace_queries([QUERY])
    assert desk.answering.due([progress(FIRST + EVERY)]) == [due]
    assert desk.conclude(due) == lost


def test_removing_a_query_closes_its_alert_and_again_until_that_is_settled(desk: Desk) -> None:
    for step in range(2):
        desk.round(FIRST + step * EVERY)
    (closed,) = desk.replace_queries([])
    assert parse_alert(as_read(closed)).transition is Transition.CLOSED
    assert parse_alert(as_read(closed)).reason == "query person was removed"
    desk.answering.forget_outstanding()
    assert desk.replace_queries([]) == [closed]
    desk.restart()
    assert desk.flushed[-1] == closed, "nothing was settled, so a restart says it again"
    desk.answering.settle([])
    said = len(desk.flushed)
    desk.restart()
    assert len(desk.flushed) == said


def test_a_new_version_closes_the_old_alert_and_begins_anew(desk: Desk) -> None:
    for step in range(2):
        desk.round(FIRST + step * EVERY)
    newer = with_version(QUERY, 2)
    (closed,) = desk.replace_queries([newer])
    assert body(closed)["reason"] == "query person was replaced by version 2"
    assert [due.query for due in desk.round(FIRST + EVERY)] == [newer]


def test_a_window_read_for_a_query_that_has_gone_since_leads_to_nothing(desk: Desk) -> None:
    (due,) = desk.answering.due([progress(FIRST + EVERY)])
    desk.replace_queries([])
    assert desk.conclude(due) == []
    desk.answering.settle([due])
    assert desk.replace_queries([]) == []


def test_windows_of_a_pair_that_were_concluded_must_be_settled_together(desk: Desk) -> None:
    desk.round(FIRST)
    newest, older = desk.answering.due([progress(FIRST + 2 * EVERY)])
    desk.conclude(newest)
    desk.conclude(older)
    with pytest.raises(RuntimeError, match="not among the settled"):
        desk.answering.settle([older])
    with pytest.raises(RuntimeError, match="concluded already"):
        desk.conclude(newest)
    desk.answering.settle([newest, older])
    assert desk.answering.due([progress(FIRST + 2 * EVERY)]) == []


def test_settling_one_query_says_nothing_about_another_that_is_not_flushed_yet(tmp_path: Path) -> None:
    desk = Desk(tmp_path, [QUERY, replace(QUERY, query_id="dog")], {FIRST: 0.9})
    dog, person = desk.answering.due([progress(FIRST)])
    desk.conclude(person)
    first = desk.conclude(dog)
    desk.answering.settle([person])
    desk.restart()
    assert desk.answering.due([progress(FIRST)]) == [dog]
    assert desk.conclude(dog) == first


def test_a_reading_of_something_else_is_refused(desk: Desk) -> None:
    (due,) = desk.answering.due([progress(FIRST)])
    other = reading(FIRST + EVERY, 0.9)
    with pytest.raises(ValueError, match="reading"):
        desk.answering.conclude(due, other, evidence(other, NOTHING), NOW)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "not valid JSON"),
        ("[]", "does not say its format"),
        ('{"due": {}}', "does not say its format"),
        ('{"format": 2, "due": {}, "alerts": {}}', "format version 2, this version reads 1"),
        ('{"format": 1, "due": {}, "alerts": {}}', "due.courses: is missing"),
        ('{"format": 1, "due": {"courses": []}, "alerts": {"states": [3]}}', r"alerts.states\[0\]"),
        ('{"format": 1, "due": {"courses": []}, "alerts": {"states": []}, "more": 1}', "more: unknown key"),
    ],
)
def test_state_that_cannot_be_understood_is_refused_by_file_with_the_fix(
    desk: Desk, tmp_path: Path, content: str, why: str
) -> None:
    (tmp_path / "answering.json").write_text(content)
    with pytest.raises(BadInput, match=rf"answering\.json: .*{why}.*delete it"):
        desk.restart()


def test_a_snapshot_is_replaced_as_a_whole_and_leaves_no_other_file(desk: Desk, tmp_path: Path) -> None:
    for step in range(3):
        desk.round(FIRST + step * EVERY)
    assert json.loads((tmp_path / "answering.json").read_text())["format"] == 1
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


@pytest.mark.parametrize(
    ("p", "unknown_below", "expected"),
    [
        (0.9, 0.55, Verdict.YES),
        (0.1, 0.55, Verdict.NO),
        (0.5, 0.55, Verdict.UNKNOWN),
        (0.54, 0.55, Verdict.UNKNOWN),
        (0.55, 0.55, Verdict.YES),
        (0.46, 0.55, Verdict.UNKNOWN),
        (0.25, 0.75, Verdict.NO),
        (0.5, 0.5, Verdict.YES),
        (0.0, 0.99, Verdict.NO),
        (1.0, 0.99, Verdict.YES),
    ],
)
def test_a_verdict_is_unknown_when_neither_side_is_likely_enough(
    p: float, unknown_below: float, expected: Verdict
) -> None:
    assert verdict(p, unknown_below) is expected


@pytest.mark.parametrize("p", [float("nan"), -0.1, 1.1])
def test_a_broken_probability_is_no_verdict(p: float) -> None:
    with pytest.raises(ValueError, match="yes_probability"):
        verdict(p, 0.55)


def test_a_question_asked_once_gets_a_verdict_words_and_bound_evidence() -> None:
    query = adhoc_query("  Who was there? ", "dock")
    said = replace(reading(FIRST, 0.8), query_id=query.query_id, window=Window(FIRST - 600 * S, FIRST))
    answer = answer_once(query, said, evidence(said, np.array([0, 2])), Narrator())
    assert (answer.question, answer.verdict, answer.text) == ("Who was there?", Verdict.YES, "a person walks")
    assert [frame.frame_ms for frame in answer.evidence] == said.frame_ms[[0, 2]].tolist()
    assert answer_once(query, said, evidence(said, NOTHING), Narrator()).text == ""


def test_a_question_asked_once_must_say_something() -> None:
    with pytest.raises(BadInput, match=r"^question: is empty"):
        adhoc_query("  ", "dock")
