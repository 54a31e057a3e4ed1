"""Decides what is remembered of an alert between two readings, and how it is written down."""

from collections.abc import Mapping
from dataclasses import dataclass

from standwatch.pipeline.duebook import Pair
from standwatch.pipeline.fields import Fields
from standwatch.pipeline.queries import query_from_mapping, to_mapping
from standwatch.pipeline.snapshots import JsonRecord
from standwatch.pipeline.types import StandingQuery, Verdict

_MS = 2**63


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """An alert that is open, and what was said about it last."""

    alert_id: str
    query: StandingQuery
    feed_id: str
    revision: int
    started_ms: int
    verdict: Verdict
    probability: float


@dataclass(frozen=True, slots=True)
class AlertState:
    """All that is remembered of one query on one feed."""

    last_ms: int | None = None  # end of the last window that was folded
    hits: tuple[bool, ...] = ()  # whether each of the last readings was at or above open_at; empty while open
    sent_ms: int | None = None  # when the last alert was opened: cool-down counts from alerts that were sent
    alert: OpenAlert | None = None


def save_states(states: Mapping[Pair, AlertState]) -> JsonRecord:
    """Alert states as plain JSON values."""
    return {"states": [_saved(pair, state) for pair, state in sorted(states.items(), key=lambda item: item[0])]}


def restore_states(saved: Fields) -> dict[Pair, AlertState]:
    """The way back. Raises `BadInput`."""
    states: dict[Pair, AlertState] = {}
    for entry in saved.sections("states"):
        pair = entry.text("query_id"), entry.integer("version", 1, 2**53), entry.text("feed_id")
        states[pair] = AlertState(
            last_ms=entry.integer("last_ms", -_MS, _MS) if entry.get("last_ms") is not None else None,
            hits=tuple(letter == "1" for letter in entry.text("hits")),
            sent_ms=entry.integer("sent_ms", -_MS, _MS) if entry.get("sent_ms") is not None else None,
            alert=_open_alert(entry.section("alert"), pair[2]) if entry.get("alert") is not None else None,
        )
    return states


def _saved(pair: Pair, state: AlertState) -> JsonRecord:
    alert = state.alert
    return {
        "query_id": pair[0],
        "version": pair[1],
        "feed_id": pair[2],
        "last_ms": state.last_ms,
        "hits": "".join("1" if hit else "0" for hit in state.hits),
        "sent_ms": state.sent_ms,
        "alert": None
        if alert is None
        else {
            "alert_id": alert.alert_id,
            "query": to_mapping(alert.query),
            "revision": alert.revision,
            "started_ms": alert.started_ms,
            "verdict": alert.verdict.value,
            "probability": alert.probability,
        },
    }


def _open_alert(entry: Fields, feed_id: str) -> OpenAlert:
    return OpenAlert(
        alert_id=entry.text("alert_id"),
        query=query_from_mapping(entry.get("query"), entry.path("query")),
        feed_id=feed_id,
        revision=entry.integer("revision", 0, _MS),
        started_ms=entry.integer("started_ms", -_MS, _MS),
        verdict=Verdict(entry.choice("verdict", [verdict.value for verdict in Verdict])),
        probability=entry.number("probability", 0, 1),
    )
