import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.events import Cost, Origin, parse_alert, parse_answer, write_alert, write_answer
from standwatch.pipeline.types import Alert, Answer, EvidenceFrame, Record, SourceOffset, Transition, Verdict, Window
from tests.questions_world import NOW, QUERY, UNTIMED, S, as_read, body, evidence_frame, header

COST = Cost(frames=3, prompt_tokens=11, answer_tokens=4, compute_ms=1.5)
ORIGIN = Origin("xcomp", "untrained", COST)
ALERT = Alert(
    alert_id="a1",
    transition=Transition.CLOSED,
    revision=2,
    query=QUERY,
    feed_id="dock",
    started_ms=NOW,
    observed_ms=NOW + 30 * S,
    ended_ms=NOW + 30 * S,
    verdict=Verdict.NO,
    probability=0.25,
    evidence=(evidence_frame(), evidence_frame(NOW + 1, "")),
    reason="below close_at 0.50",
    text="nobody — 誰も",
)
ANSWER = Answer(
    answer_id="b2",
    query_id="person",
    query_version=1,
    question=QUERY.question,
    feed_id="dock",
    window=Window(NOW - 30 * S, NOW),
    verdict=Verdict.UNKNOWN,
    probability=0.5,
    text="",
    evidence=(evidence_frame(),),
    model="xcomp",
    weights="untrained",
    prompt_tokens=11,
    answer_tokens=4,
)


def test_an_alert_is_a_cloud_event_in_binary_mode_keyed_by_its_feed() -> None:
    sent = write_alert(ALERT, ORIGIN, "video.alerts.v1", NOW + 31 * S)
    assert (sent.topic, sent.key, sent.timestamp_ms) == ("video.alerts.v1", b"dock", NOW + 31 * S)
    assert {name: value.decode() for name, value in sent.headers} == {
        "content-type": "application/json",
        "ce_specversion": "1.0",
        "ce_id": "a1:2",
        "ce_source": "/feeds/dock",
        "ce_type": "org.standwatch.alert.closed.v1",
        "ce_time": "2026-09-21T14:13:50.000Z",
        "ce_subject": "person",
        "ce_partitionkey": "dock",
    }


def test_an_alerts_body_has_utc_times_bound_evidence_and_the_rule_in_force() -> None:
    said = body(write_alert(ALERT, ORIGIN, "t", NOW + 31 * S))
    assert said["state"] == "closed"
    assert said["severity"] == "warning"
    assert said["started_at"] == "2026-09-21T14:13:20.000Z"
    assert said["ended_at"] == said["observed_at"] == "2026-09-21T14:13:50.000Z"
    assert said["emitted_at"] == "2026-09-21T14:13:51.000Z"
    assert said["model"] == {"id": "xcomp", "weights": "untrained"}
    assert said["cost"] == {"frames": 3, "prompt_tokens": 11, "answer_tokens": 4, "compute_ms": 1.5}
    assert isinstance(said["evidence"], list)
    assert said["evidence"][0] == {
        "wall_time": "2026-09-21T14:13:20.000Z",
        "score": 0.25,
        "source": {"topic": "video.chunks.v1", "partition": 3, "offset": 17},
        "uri": f"memory://video.chunks.v1/3/dock/{NOW}",
        "sha256": "ab" * 32,
    }
    assert said["evidence"][1]["sha256"] is None
    assert isinstance(said["query"], dict)
    assert said["query"]["open_at"] == 0.7


def test_an_answer_says_its_window_and_why_nothing_fired() -> None:
    sent = write_answer(ANSWER, "video.answers.v1", NOW + S, COST, "below open_at 0.70")
    said = body(sent)
    assert (header(sent, "ce_id"), header(sent, "ce_type")) == ("b2", "org.standwatch.answer.v1")
    assert said["window"] == {"from": "2026-09-21T14:12:50.000Z", "to": "2026-09-21T14:13:20.000Z"}
    assert (said["verdict"], said["outcome"]) == ("unknown", "below open_at 0.70")


@pytest.mark.parametrize("transition", Transition)
def test_the_type_names_the_transition_and_an_open_alert_has_no_end(transition: Transition) -> None:
    alert = replace(ALERT, transition=transition, ended_ms=None)
    sent = write_alert(alert, ORIGIN, "t", NOW)
    assert header(sent, "ce_type") == f"org.standwatch.alert.{transition.value}.v1"
    assert parse_alert(as_read(sent)) == alert


times = st.integers(0, 4_000_000_000_000)
frames = st.builds(
    EvidenceFrame,
    times,
    st.floats(-1e6, 1e6),
    st.builds(SourceOffset, st.text("abc.", min_size=1), st.integers(0, 999), st.integers(0, 2**62)),
    st.sampled_from(["", "0f" * 32]),
)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@UNTIMED
@given(times, times, st.floats(0, 1), st.sampled_from(Verdict), st.lists(frames, max_size=3), words)
def test_what_is_written_reads_back_equal(
    began_ms: int, seen_ms: int, p: float, verdict: Verdict, evidence: list[EvidenceFrame], text: str
) -> None:
    alert = replace(ALERT, started_ms=began_ms, observed_ms=seen_ms, probability=p, verdict=verdict, text=text)
    alert = replace(alert, evidence=tuple(evidence))
    assert parse_alert(as_read(write_alert(alert, ORIGIN, "t", NOW))) == alert
    answer = replace(ANSWER, window=Window(began_ms, seen_ms), probability=p, verdict=verdict, text=text)
    answer = replace(answer, evidence=tuple(evidence))
    assert parse_answer(as_read(write_answer(answer, "t", NOW, COST, "x"))) == answer


def test_words_that_are_not_unicode_do_not_stop_an_answer() -> None:
    sent = write_answer(replace(ANSWER, text="half \ud800"), "t", NOW, COST, "x")
    assert parse_answer(as_read(sent)).text == "half ?"


def test_fields_that_a_later_version_adds_are_ignored() -> None:
    record = as_read(write_answer(ANSWER, "t", NOW, COST, "x"))
    later = replace(record, value=json.dumps({**json.loads(record.value), "mood": "calm"}).encode())
    assert parse_answer(later) == ANSWER


def with_header(record: Record, name: str, value: str) -> Record:
    return replace(record, headers=tuple((n, value.encode() if n == name else v) for n, v in record.headers))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce_type", "org.standwatch.answer.v2"),
        ("ce_specversion", "0.3"),
        ("content-type", "text/plain"),
    ],
)
def test_a_record_that_is_no_such_event_is_refused_by_place_and_header(name: str, value: str) -> None:
    record = with_header(as_read(write_answer(ANSWER, "video.answers.v1", NOW, COST, "x"), 7), name, value)
    with pytest.raises(BadInput, match=rf"^video.answers.v1/0@7: {name}: "):
        parse_answer(record)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"score": 1.5}, "score"),
        ({"score": None}, "score"),
        ({"verdict": "perhaps"}, "verdict"),
        ({"started_at": "yesterday"}, "started_at"),
        ({"state": "opened"}, "state"),
        ({"evidence": {}}, "evidence"),
        ({"evidence": [{}]}, r"evidence\[0\]\."),
        ({"query": {"query_id": "a"}}, "query.question"),
        ({"feed_id": "yard"}, "feed_id"),
        ({"revision": "2"}, "revision"),
    ],
)
def test_a_wrong_field_in_a_body_is_refused_by_place_and_name(change: dict[str, object], named: str) -> None:
    record = as_read(write_alert(ALERT, ORIGIN, "t", NOW))
    broken = replace(record, value=json.dumps({**json.loads(record.value), **change}).encode())
    with pytest.raises(BadInput, match=rf"^t/0@0: {named}"):
        parse_alert(broken)


@pytest.mark.parametrize("value", [b"", b"[]", b"{", b"\xff", b"null", b"[" * 100_000])
def test_a_value_that_is_no_json_object_is_refused(value: bytes) -> None:
    record = replace(as_read(write_answer(ANSWER, "t", NOW, COST, "x")), value=value)
    with pytest.raises(BadInput, match=r"^t/0@0: "):
        parse_answer(record)
