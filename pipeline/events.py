"""Decides how alerts and answers travel: CloudEvents in Kafka binary mode, with one JSON body.

The ids repeat when the work is repeated: `ce_id` is `alert_id:revision` for an alert and `answer_id` for an answer,
so a consumer that has seen an id can drop the record. Only `emitted_at` and `cost.compute_ms` differ then.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass

from standwatch.pipeline.clock import parse_rfc3339, rfc3339
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.fields import Fields
from standwatch.pipeline.naming import FEED_SOURCE
from standwatch.pipeline.queries import query_from_mapping, to_mapping
from standwatch.pipeline.snapshots import JsonRecord
from standwatch.pipeline.types import (
    Alert,
    Answer,
    EvidenceFrame,
    Outgoing,
    Record,
    SourceOffset,
    Transition,
    Verdict,
    Window,
)

ANSWER_TYPE = "org.standwatch.answer.v1"
ALERT_TYPES = {transition: f"org.standwatch.alert.{transition.value}.v1" for transition in Transition}
CONTENT_TYPE = "application/json"
_BIG = 2**63


@dataclass(frozen=True, slots=True)
class Cost:
    """What one evaluation took."""

    frames: int
    prompt_tokens: int
    answer_tokens: int
    compute_ms: float


@dataclass(frozen=True, slots=True)
class Origin:
    """What said it: the model, its weights, and the work it did."""

    model: str
    weights: str
    cost: Cost


def write_alert(alert: Alert, origin: Origin, topic: str, emitted_ms: int) -> Outgoing:
    """The record of one transition of an alert."""
    body = alert_body(alert, origin, emitted_ms)
    event_id = f"{alert.alert_id}:{alert.revision}"
    kind = ALERT_TYPES[alert.transition]
    return _outgoing(topic, alert.feed_id, alert.query.query_id, event_id, kind, alert.observed_ms, body, emitted_ms)


def write_answer(answer: Answer, topic: str, emitted_ms: int, cost: Cost, outcome: str) -> Outgoing:
    """The record of an answer; `outcome` says what it meant for the query's alert."""
    body = {**answer_body(answer, emitted_ms), "cost": _cost_body(cost), "outcome": outcome}
    at_ms = answer.window.to_ms
    return _outgoing(topic, answer.feed_id, answer.query_id, answer.answer_id, ANSWER_TYPE, at_ms, body, emitted_ms)


def alert_body(alert: Alert, origin: Origin, emitted_ms: int) -> JsonRecord:
    """The JSON body of an alert event. `query` is the rule as it was in force."""
    return {
        "alert_id": alert.alert_id,
        "state": alert.transition.value,
        "revision": alert.revision,
        "feed_id": alert.feed_id,
        "query_id": alert.query.query_id,
        "query_version": alert.query.version,
        "question": alert.query.question,
        "severity": alert.query.severity,
        "started_at": rfc3339(alert.started_ms),
        "ended_at": None if alert.ended_ms is None else rfc3339(alert.ended_ms),
        "observed_at": rfc3339(alert.observed_ms),
        "emitted_at": rfc3339(emitted_ms),
        "verdict": alert.verdict.value,
        "score": alert.probability,
        "explanation": alert.text,
        "reason": alert.reason,
        "evidence": [_evidence_body(alert.feed_id, frame) for frame in alert.evidence],
        "model": {"id": origin.model, "weights": origin.weights},
        "cost": _cost_body(origin.cost),
        "labels": {},
        "query": to_mapping(alert.query),
    }


def answer_body(answer: Answer, emitted_ms: int) -> JsonRecord:
    """The JSON body of an answer, without what only a standing query has (cost and outcome)."""
    return {
        "answer_id": answer.answer_id,
        "feed_id": answer.feed_id,
        "query_id": answer.query_id,
        "query_version": answer.query_version,
        "question": answer.question,
        "window": {"from": rfc3339(answer.window.from_ms), "to": rfc3339(answer.window.to_ms)},
        "emitted_at": rfc3339(emitted_ms),
        "verdict": answer.verdict.value,
        "score": answer.probability,
        "text": answer.text,
        "evidence": [_evidence_body(answer.feed_id, frame) for frame in answer.evidence],
        "model": {"id": answer.model, "weights": answer.weights},
        "tokens": {"prompt": answer.prompt_tokens, "answer": answer.answer_tokens},
    }


def parse_alert(record: Record) -> Alert:
    """The alert of a record. Raises `BadInput` naming the header or field; unknown fields are ignored."""
    body, kind = _body(record, ALERT_TYPES.values())
    transition = Transition(body.choice("state", [transition.value for transition in Transition]))
    if ALERT_TYPES[transition] != kind:
        raise body.error("state", f"{transition.value!r} does not go with ce_type {kind!r}")
    return Alert(
        alert_id=body.text("alert_id"),
        transition=transition,
        revision=body.integer("revision", 0, _BIG),
        query=query_from_mapping(body.get("query"), _source(record), "query."),
        feed_id=body.text("feed_id"),
        started_ms=_time(body, "started_at"),
        observed_ms=_time(body, "observed_at"),
        ended_ms=None if body.get("ended_at") is None else _time(body, "ended_at"),
        verdict=_verdict(body),
        probability=body.number("score", 0, 1),
        evidence=_evidence(body),
        reason=body.text("reason", ""),
        text=body.text("explanation", ""),
    )


def parse_answer(record: Record) -> Answer:
    """The answer of a record. Raises `BadInput` naming the header or field; unknown fields are ignored."""
    body, _ = _body(record, (ANSWER_TYPE,))
    window, model, tokens = body.section("window"), body.section("model"), body.section("tokens")
    return Answer(
        answer_id=body.text("answer_id"),
        query_id=body.text("query_id"),
        query_version=body.integer("query_version", 1, _BIG),
        question=body.text("question"),
        feed_id=body.text("feed_id"),
        window=Window(_time(window, "from"), _time(window, "to")),
        verdict=_verdict(body),
        probability=body.number("score", 0, 1),
        text=body.text("text", ""),
        evidence=_evidence(body),
        model=model.text("id"),
        weights=model.text("weights"),
        prompt_tokens=tokens.integer("prompt", 0, _BIG),
        answer_tokens=tokens.integer("answer", 0, _BIG),
    )


def _outgoing(
    topic: str, feed_id: str, query_id: str, event_id: str, kind: str, at_ms: int, body: JsonRecord, emitted_ms: int
) -> Outgoing:
    headers = {
        "content-type": CONTENT_TYPE,
        "ce_specversion": "1.0",
        "ce_id": event_id,
        "ce_source": FEED_SOURCE + feed_id,
        "ce_type": kind,
        "ce_time": rfc3339(at_ms),
        "ce_subject": query_id,
        "ce_partitionkey": feed_id,
    }
    value = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")
    pairs = tuple((name, text.encode()) for name, text in headers.items())
    return Outgoing(topic, feed_id.encode(), value, pairs, emitted_ms)


def _body(record: Record, kinds: Collection[str]) -> tuple[Fields, str]:
    """The body of an event of one of these types, and its type; headers and body must tell the same feed."""
    source = _source(record)
    headers = {name: value.decode("utf-8", "replace") for name, value in record.headers}
    kind = headers.get("ce_type", "")
    if kind not in kinds:
        raise BadInput(f"{source}: ce_type: {kind!r} is none of {', '.join(kinds)}")
    if headers.get("ce_specversion") != "1.0":
        raise BadInput(f"{source}: ce_specversion: {headers.get('ce_specversion')!r} is not '1.0'")
    if headers.get("content-type", "").split(";")[0].strip() != CONTENT_TYPE:
        raise BadInput(f"{source}: content-type: {headers.get('content-type')!r} is not {CONTENT_TYPE!r}")
    try:
        content: object = json.loads(record.value)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{source}: the value is not JSON ({error})") from None
    body = Fields(content, source)
    feed_id = body.text("feed_id")
    if record.key != feed_id.encode() or headers.get("ce_source") != FEED_SOURCE + feed_id:
        raise body.error("feed_id", f"{feed_id!r} is not that of the record's key and ce_source")
    return body, kind


def _evidence_body(feed_id: str, frame: EvidenceFrame) -> JsonRecord:
    at = frame.at
    return {
        "wall_time": rfc3339(frame.frame_ms),
        "score": frame.score,
        "source": {"topic": at.topic, "partition": at.partition, "offset": at.offset},
        "uri": f"memory://{at.topic}/{at.partition}/{feed_id}/{frame.frame_ms}",
        "sha256": frame.thumbnail_sha256 or None,
    }


def _cost_body(cost: Cost) -> JsonRecord:
    return {
        "frames": cost.frames,
        "prompt_tokens": cost.prompt_tokens,
        "answer_tokens": cost.answer_tokens,
        "compute_ms": round(cost.compute_ms, 3),
    }


def _evidence(body: Fields) -> tuple[EvidenceFrame, ...]:
    frames = []
    for entry in body.sections("evidence"):
        source = entry.section("source")
        offset = SourceOffset(
            source.text("topic"), source.integer("partition", 0, _BIG), source.integer("offset", 0, _BIG)
        )
        score = entry.number("score", float("-inf"), float("inf"))
        frames.append(EvidenceFrame(_time(entry, "wall_time"), score, offset, entry.text("sha256", "")))
    return tuple(frames)


def _time(fields: Fields, name: str) -> int:
    return parse_rfc3339(fields.text(name), fields.path(name))


def _verdict(body: Fields) -> Verdict:
    return Verdict(body.choice("verdict", [verdict.value for verdict in Verdict]))


def _source(record: Record) -> str:
    return f"{record.at.topic}/{record.at.partition}@{record.at.offset}"
