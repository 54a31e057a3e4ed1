"""Decides when an alert opens, is updated and closes: one event, one alert."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from standwatch.pipeline.alertstates import AlertState, OpenAlert
from standwatch.pipeline.clock import rfc3339
from standwatch.pipeline.duebook import Pair, matches, pair_of
from standwatch.pipeline.types import (
    Alert,
    EvidenceFrame,
    QueryKind,
    Reading,
    StandingQuery,
    Transition,
    Verdict,
    Window,
)

WORTH_SAYING = 0.1  # an open alert is updated when its probability has moved by this since it last spoke
_ROUNDING = 1e-9  # 0.7 - 0.6 counts as 0.1


@dataclass(frozen=True, slots=True)
class Fold:
    """What one reading does to an alert; nothing has happened until it is accepted."""

    pair: Pair
    state: AlertState
    alerts: list[Alert]
    outcome: str


def alert_id_of(feed_id: str, query: StandingQuery, opening: Window) -> str:
    """The same for the same event, whoever computes it and however often."""
    return stable_hash("alert", feed_id, query.query_id, query.version, opening.from_ms, opening.to_ms)


def stable_hash(*parts: str | int) -> str:
    """128 bits in hex that depend on the parts and on nothing else."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


class AlertBook:
    """The alert state machine: at most one open alert for each query, version and feed.

    Opens when the probability of yes is at or above open_at in k of the last n readings, this one included, and the
    cool-down since the last opened alert is over; cool-down holds back new alerts only. An open alert closes below
    close_at. In between it is updated when its verdict changed or its probability moved by `WORTH_SAYING` since it
    was last heard of. An unknown verdict neither opens nor closes; it takes a place among the n as a miss.

    Only event time counts (ends of windows). Readings of a pair count in the order of time: one that is not after
    the last is told so in its outcome and changes nothing.
    """

    def __init__(self) -> None:
        self._states: dict[Pair, AlertState] = {}

    def fold(
        self, query: StandingQuery, reading: Reading, evidence: tuple[EvidenceFrame, ...]
    ) -> tuple[list[Alert], str]:
        """Take a reading into account: the transitions to send, and why this outcome."""
        fold = self.consider(query, reading, evidence)
        self.accept(fold)
        return fold.alerts, fold.outcome

    def consider(self, query: StandingQuery, reading: Reading, evidence: tuple[EvidenceFrame, ...]) -> Fold:
        """What `fold` would do. Changes nothing, so the caller may still fail before it accepts."""
        pair = pair_of(query, reading.feed_id)
        before = self._states.get(pair, AlertState())
        at_ms = reading.window.to_ms
        if query.kind is QueryKind.TEXT:
            return Fold(pair, before, [], "answered in words; text queries open no alerts")
        if before.last_ms is not None and at_ms <= before.last_ms:
            return Fold(
                pair, before, [], f"older than the window read last ({rfc3339(before.last_ms)}); alert unchanged"
            )
        seen = replace(before, last_ms=at_ms)
        if before.alert is None:
            state, outcome = _while_closed(seen, query, reading)
            transition = Transition.OPENED
        else:
            state, outcome, transition = _while_open(seen, before.alert, query, reading)
        alert = state.alert or before.alert
        if alert is None or outcome != transition.value:
            return Fold(pair, state, [], outcome)
        ended_ms = at_ms if transition is Transition.CLOSED else None
        revision = alert.revision + 1 if transition is Transition.CLOSED else alert.revision
        said = Alert(
            alert_id=alert.alert_id,
            transition=transition,
            revision=revision,
            query=query,
            feed_id=reading.feed_id,
            started_ms=alert.started_ms,
            observed_ms=at_ms,
            ended_ms=ended_ms,
            verdict=reading.verdict,
            probability=reading.probability,
            evidence=evidence,
            reason=f"below close_at {query.close_at:.2f}" if transition is Transition.CLOSED else "",
        )
        return Fold(pair, state, [said], outcome)

    def accept(self, fold: Fold) -> None:
        """Make a fold happen."""
        if fold.state != AlertState():  # a text query has nothing to remember
            self._states[fold.pair] = fold.state

    def set_queries(self, queries: Iterable[StandingQuery]) -> list[Alert]:
        """Forget all but these queries, in these versions; returns the closing of what was open, by alert_id."""
        current = {query.query_id: query for query in queries}
        closed = []
        for pair, state in list(self._states.items()):
            reason = _why_gone(current.get(pair[0]), pair)
            if reason:
                del self._states[pair]
                if state.alert is not None and state.last_ms is not None:
                    closed.append(_retired(state.alert, state.last_ms, reason))
        return sorted(closed, key=lambda alert: alert.alert_id)

    def states(self) -> dict[Pair, AlertState]:
        """A copy of everything that is remembered; `put_back` takes it."""
        return dict(self._states)

    def put_back(self, states: Mapping[Pair, AlertState]) -> None:
        """Go on from these states."""
        self._states = dict(states)


def _while_closed(seen: AlertState, query: StandingQuery, reading: Reading) -> tuple[AlertState, str]:
    hit = reading.verdict is not Verdict.UNKNOWN and reading.probability >= query.open_at
    hits = (*seen.hits, hit)[-query.debounce_n :]
    counted = replace(seen, hits=hits)
    if reading.verdict is Verdict.UNKNOWN:
        return counted, "verdict unknown"
    if not hit:
        return counted, f"below open_at {query.open_at:.2f}"
    if sum(hits) < query.debounce_k:
        within = f" in the last {query.debounce_n}" if query.debounce_n > query.debounce_k else ""
        return counted, f"debounce {sum(hits)} of {query.debounce_k}{within}"
    at_ms = reading.window.to_ms
    if seen.sent_ms is not None and at_ms < seen.sent_ms + query.cooldown_ms:
        return counted, f"cool-down until {rfc3339(seen.sent_ms + query.cooldown_ms)}"
    opened = OpenAlert(
        alert_id=alert_id_of(reading.feed_id, query, reading.window),
        query=query,
        feed_id=reading.feed_id,
        revision=0,
        started_ms=reading.window.from_ms,
        verdict=reading.verdict,
        probability=reading.probability,
    )
    return replace(seen, hits=(), sent_ms=at_ms, alert=opened), Transition.OPENED.value


def _while_open(
    seen: AlertState, alert: OpenAlert, query: StandingQuery, reading: Reading
) -> tuple[AlertState, str, Transition]:
    unknown = reading.verdict is Verdict.UNKNOWN
    if not unknown and reading.probability < query.close_at:
        return replace(seen, alert=None), Transition.CLOSED.value, Transition.CLOSED
    moved = not unknown and abs(reading.probability - alert.probability) >= WORTH_SAYING - _ROUNDING
    if reading.verdict is alert.verdict and not moved:
        return seen, "verdict unknown; still open" if unknown else "still open", Transition.UPDATED
    told = replace(alert, revision=alert.revision + 1, verdict=reading.verdict, probability=reading.probability)
    return replace(seen, alert=told), Transition.UPDATED.value, Transition.UPDATED


def _why_gone(now: StandingQuery | None, pair: Pair) -> str:
    """Why a query no longer stands on a feed; empty when it does."""
    query_id, version, feed_id = pair
    if now is None:
        return f"query {query_id} was removed"
    if now.version != version:
        return f"query {query_id} was replaced by version {now.version}"
    return "" if matches(now, feed_id) else f"query {query_id} no longer watches {feed_id}"


def _retired(alert: OpenAlert, last_ms: int, reason: str) -> Alert:
    return Alert(
        alert_id=alert.alert_id,
        transition=Transition.CLOSED,
        revision=alert.revision + 1,
        query=alert.query,
        feed_id=alert.feed_id,
        started_ms=alert.started_ms,
        observed_ms=last_ms,
        ended_ms=last_ms,
        verdict=alert.verdict,
        probability=alert.probability,
        evidence=(),
        reason=reason,
    )
