"""Decides what a reading leads to: a verdict, evidence, words, alerts and one answer; each exactly once.

How "exactly once" comes about. The shell repeats one round:

    dues = answering.due(progress)
    for due in dues:  read the window, fetch the frames `wanted`, send every event that `conclude` returns
    flush the sink
    answering.settle(dues)

`settle` writes down, in one atomic file, that these windows are done and what the alerts then are. A crash before it
leaves the state of before, in which the windows are still due and the alerts still as they were: the round is repeated
and comes to the same answers and alerts with the same ids, so that a consumer drops what it has. A crash after it
repeats nothing. Nothing is written down before its events are safe, so nothing is lost. (With a model that is not
deterministic a repeated event may differ in its content, never in its id.)
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from standwatch.configs.schema import ReadingConfig, TopicsConfig
from standwatch.pipeline.alerts import AlertBook, stable_hash
from standwatch.pipeline.alertstates import AlertState, restore_states, save_states
from standwatch.pipeline.answers import answer_of, evidence_frames, top_frames
from standwatch.pipeline.duebook import Pair, QueryBook, pair_of
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.evaluations import EvaluationLog
from standwatch.pipeline.events import Cost, Origin, write_alert, write_answer
from standwatch.pipeline.fields import Fields
from standwatch.pipeline.ports import Completion, LanguageModel
from standwatch.pipeline.snapshots import read_snapshot, write_snapshot
from standwatch.pipeline.types import (
    Alert,
    Answer,
    Due,
    Evaluation,
    Evidence,
    Int64Array,
    Outgoing,
    Progress,
    QueryKind,
    Reading,
    StandingQuery,
    Transition,
    Verdict,
)

_FORMAT = 1
_FIX = "restore it from a backup, or delete it (every query then starts again at its latest complete window)"


def verdict(yes_probability: float, unknown_below: float) -> Verdict:
    """The typed verdict of a probability of yes against no: unknown when neither reaches `unknown_below`."""
    if not 0 <= yes_probability <= 1:
        raise ValueError(f"yes_probability: {yes_probability} is not within 0..1; the model's numbers are broken")
    if max(yes_probability, 1 - yes_probability) < unknown_below:
        return Verdict.UNKNOWN
    return Verdict.YES if yes_probability >= 0.5 else Verdict.NO


class Answering:
    """Ties the query book, the alert book, the evaluation log and the language model together.

    Not for several threads. Of one query and feed, everything concluded must be flushed and settled together;
    different queries and feeds are independent.
    """

    def __init__(self, config: ReadingConfig, topics: TopicsConfig, state_dir: Path, model: LanguageModel) -> None:
        """Goes on from what `settle` left in `state_dir`. Raises `BadInput` when that cannot be understood."""
        self._config, self._topics, self._model = config, topics, model
        self._path = state_dir / "answering.json"
        self._book = QueryBook(config.max_due_windows)
        self._alerts = AlertBook()
        self._log = EvaluationLog(state_dir)
        self._concluded: dict[Due, Evaluation] = {}
        self._evaluated_ms = 0
        self._known_pairs: frozenset[Pair] = frozenset()
        self._written: dict[str, object] = {}
        self._safe: dict[Pair, AlertState] = {}  # what alerts are once only settled windows count
        state_dir.mkdir(parents=True, exist_ok=True)
        self._restore()

    def refresh_queries(self, queries: Iterable[StandingQuery], now_ms: int) -> list[Outgoing]:
        """Replace the set of queries; returns the closing of alerts whose query is gone or has a new version.

        Must be called after the start and after `forget_outstanding`, before `due`. Flush before the next `settle`.
        """
        current = list(queries)
        self._book.set_queries(current)
        origin = Origin(self._model.name, self._model.weights, Cost(0, 0, 0, 0.0))
        return [write_alert(a, origin, self._topics.alerts, now_ms) for a in self._alerts.set_queries(current)]

    def due(self, progress: Sequence[Progress]) -> list[Due]:
        """What is to be answered now, in the order of time: alerts do not go back, so late windows must not overtake.

        Which windows those are when it is late, and which are skipped, `QueryBook.due` decides. Each is handed out
        once, until it is settled or forgotten. Words take far longer than a verdict: of all that is to be told in words
        only the earliest is handed out, behind every verdict, so that none waits for more than one text.
        A query's first sight of a feed is written down at once, so that a crash does not move where it began.
        """
        dues = sorted(self._book.due(progress), key=lambda due: due.window.to_ms)
        if self._book.pairs - self._known_pairs:
            self._save()
        texts = [due for due in dues if due.query.kind is QueryKind.TEXT]
        self._book.give_back(texts[1:])
        return [due for due in dues if due.query.kind is not QueryKind.TEXT] + texts[:1]

    def wanted(self, due: Due, reading: Reading) -> Int64Array:
        """Indices into `reading.frame_ms` of the frames whose evidence `conclude` needs, in the order of time."""
        return top_frames(reading.relevance, due.query.evidence_frames or self._config.evidence_frames)

    def conclude(self, due: Due, reading: Reading, evidence: Evidence, now_ms: int) -> list[Outgoing]:
        """The events that follow from a reading: transitions of the alert, then one answer. None if the query has gone.

        Words are written for text queries and when an alert opens, never about a window without frames. When the
        language model fails, nothing has changed and the same call may be made again.
        """
        if (reading.query_id, reading.feed_id, reading.window) != (due.query.query_id, due.feed_id, due.window):
            raise ValueError(f"reading: is of {reading.query_id} on {reading.feed_id} {reading.window}, not of {due}")
        if due in self._concluded:
            raise RuntimeError(
                f"conclude: {due} was concluded already; settle it, or forget_outstanding and start again"
            )
        if not self._book.knows(due.query):
            return []
        query, judged = due.query, _judged(due.query, reading)
        frames = evidence_frames(evidence)
        fold = self._alerts.consider(query, judged, frames)
        opens = any(alert.transition is Transition.OPENED for alert in fold.alerts)
        words: Completion | None = None
        if len(evidence.frame_ms) and len(reading.frame_ms) and (opens or query.kind is QueryKind.TEXT):
            words = self._model.answer(query.question, evidence)
        self._alerts.accept(fold)
        outcome = fold.outcome if len(reading.frame_ms) else _nothing_seen(fold.alerts)
        answer = answer_of(query, judged, frames, words, self._model)
        cost = Cost(len(reading.frame_ms), answer.prompt_tokens, answer.answer_tokens, reading.duration_ms)
        origin = Origin(answer.model, answer.weights, cost)
        self._concluded[due] = Evaluation(
            query_id=query.query_id,
            query_version=query.version,
            feed_id=due.feed_id,
            window=due.window,
            frames=len(reading.frame_ms),
            verdict=judged.verdict,
            probability=judged.probability,
            outcome=outcome,
            skipped_windows=self._book.skipped(due),
        )
        self._evaluated_ms = max(self._evaluated_ms, now_ms)
        alerts = [replace(alert, text=answer.text) for alert in fold.alerts]
        events = [write_alert(alert, origin, self._topics.alerts, now_ms) for alert in alerts]
        return [*events, write_answer(answer, self._topics.answers, now_ms, cost, outcome)]

    def settle(self, dues: Sequence[Due]) -> None:
        """These windows are done. To be called when every event concluded for them is safe (see the module)."""
        settled = set(dues)
        pairs = {pair_of(due.query, due.feed_id) for due in settled}
        left = {pair_of(due.query, due.feed_id) for due in self._concluded if due not in settled}
        if left & pairs:
            raise RuntimeError(f"settle: {sorted(left & pairs)} have concluded windows that are not among the settled")
        self._log.append([self._concluded.pop(due) for due in dues if due in self._concluded], self._evaluated_ms)
        for due in settled:
            self._book.settle(due)
        now = self._alerts.states()
        self._safe = {p: s for p, s in now.items() if p not in left} | {
            p: self._safe[p] for p in left & self._safe.keys()
        }
        self._save()

    def give_back(self, dues: Iterable[Due]) -> None:
        """Windows that were handed out and not concluded; `due` hands them out again."""
        self._book.give_back(due for due in dues if due not in self._concluded)

    def forget_outstanding(self) -> None:
        """Go back to what was settled last, as after a crash: for a shell that lost its broker or its memory.

        Call `refresh_queries` next: closings that were not settled come again.
        """
        self._concluded.clear()
        self._book.give_all_back()
        self._alerts.put_back(self._safe)

    def _save(self) -> None:
        content: dict[str, object] = {"due": self._book.save(), "alerts": save_states(self._safe)}
        if content != self._written:
            write_snapshot(self._path, _FORMAT, content)
        self._written, self._known_pairs = content, self._book.pairs

    def _restore(self) -> None:
        saved = read_snapshot(self._path, _FORMAT, _FIX)
        if saved is None:
            return
        source = str(self._path)
        try:
            fields = Fields(saved, source, known=("due", "alerts"))
            self._book.restore(fields.section("due"))
            self._safe = restore_states(fields.section("alerts"))
        except BadInput as error:
            raise BadInput(f"{error}; {_FIX}") from None
        self._alerts.put_back(self._safe)
        self._known_pairs = self._book.pairs


def adhoc_query(question: str, feed_id: str) -> StandingQuery:
    """The query of a question that is asked once. Raises `BadInput` when it is empty."""
    text = question.strip()
    if not text:
        raise BadInput("question: is empty; write what you want to know, in plain language")
    query_id = f"ask-{stable_hash('ask', text, feed_id)[:12]}"
    return StandingQuery(query_id=query_id, question=text, feeds=(feed_id,), kind=QueryKind.TEXT)


def answer_once(query: StandingQuery, reading: Reading, evidence: Evidence, model: LanguageModel) -> Answer:
    """The verdict of a reading, and words about its evidence when there is any; touches no alert and no log."""
    words = model.answer(query.question, evidence) if len(evidence.frame_ms) else None
    return answer_of(query, reading, evidence_frames(evidence), words, model)


def _judged(query: StandingQuery, reading: Reading) -> Reading:
    """The reading as it counts: nothing seen is unknown, and a question that asks for words has no verdict."""
    if len(reading.frame_ms) and query.kind is QueryKind.YES_NO:
        return reading
    return replace(reading, verdict=Verdict.UNKNOWN, probability=0.5)


def _nothing_seen(alerts: Sequence[Alert]) -> str:
    return "; ".join(["no frames in window", *(alert.transition.value for alert in alerts)])
