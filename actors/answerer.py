"""Ray shell that puts due questions to the shards and sends out what follows from the readings."""

import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayTaskError

from standwatch.actors.peers import LOST, first_line
from standwatch.actors.topics import open_sink
from standwatch.actors.worker_model import WorkerModel
from standwatch.configs.schema import BrokerConfig, ReadingConfig, TopicsConfig
from standwatch.pipeline.answering import Answering
from standwatch.pipeline.backoff import Backoff
from standwatch.pipeline.clock import now_ms
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.lookback import context_from_ms
from standwatch.pipeline.ports import Sink
from standwatch.pipeline.querystore import QueryStore
from standwatch.pipeline.segmentgrid import SegmentGrid
from standwatch.pipeline.types import Due, Evidence, Outgoing, Progress, Reading, Verdict, Window

_BATCH_WINDOWS = 8
_KEPT_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class AnswererSettings:
    """The sections of the configuration that an Answerer works by."""

    broker: BrokerConfig
    topics: TopicsConfig
    reading: ReadingConfig
    memory_path: str
    grid: SegmentGrid  # where segments lie
    timeout_s: float  # for one call of a shard


@dataclass(frozen=True, slots=True)
class AnswerStatus:
    """What an Answerer has done since it started, and what it is doing."""

    state: str
    readings: int
    weights: str  # of the model that answers; empty until it is there
    problems: tuple[str, ...]


class Answerer:
    """Pulls progress, asks what is due, concludes. The question travels to the shard; only evidence comes back."""

    def __init__(self, settings: AnswererSettings) -> None:
        self._settings = settings
        self._keepers: Sequence[Any] = ()
        self._workers: Sequence[Any] = ()
        memory = Path(settings.memory_path)
        self._store = QueryStore(memory / "queries")
        self._model = WorkerModel(settings.timeout_s)
        self._answering = Answering(settings.reading, settings.topics, memory / "answering", self._model)
        self._stopping = threading.Event()
        self._finishing = threading.Event()
        self._alone = threading.Lock()
        self._state = "starting"
        self._readings = 0
        self._problems: tuple[str, ...] = ()

    def pid(self) -> int:
        return os.getpid()

    def stop(self) -> None:
        """Ask `run` to return after what it is doing now."""
        self._stopping.set()

    def finish(self) -> None:
        """Ask `run` to return when nothing is due any more."""
        self._finishing.set()

    def status(self) -> AnswerStatus:
        return AnswerStatus(self._state, self._readings, self._model.weights, self._problems)

    def run(self, keepers: Sequence[Any], workers: Sequence[Any], until_idle: bool) -> None:
        """Answer what is due on these shards until `stop`, or after `finish` (or `until_idle`) until nothing is due.

        A lost shard or broker leads to asking again after a growing pause: nothing was settled, so nothing is lost.
        A call beside one that still runs waits for it.
        """
        with self._alone:
            self._keepers, self._workers = keepers, workers
            if until_idle:
                self._finishing.set()
            backoff = Backoff(first_s=0.2, cap_s=5.0)
            while not self._stopping.is_set():
                self._answering.forget_outstanding()  # whatever ended the last attempt half-way
                try:
                    self._serve(backoff)
                    break
                except LOST as error:
                    self._state = f"recovering: {first_line(error)}"
                    self._stopping.wait(backoff.next_s())
            self._state = "stopped" if self._stopping.is_set() else "idle"

    def _serve(self, backoff: Backoff) -> None:
        """Rounds of answering over one connection to the broker."""
        sink = open_sink(self._settings.broker, self._settings.topics)
        try:
            self._model.connect(self._workers)
            self._load_queries(sink)  # again after a loss: what it closed may not have been sent
            while not self._stopping.is_set():
                if self._store.changed():
                    self._load_queries(sink)
                finishing = self._finishing.is_set()  # before looking: what comes after `finish` was called counts
                answered = self._answer_due(sink)
                self._state = "running"
                backoff.reset()
                if finishing and not answered:
                    return
                if not answered:
                    self._stopping.wait(self._settings.reading.poll_ms / 1000)
        finally:
            sink.close()

    def _load_queries(self, sink: Sink) -> None:
        queries, problems = self._store.load()
        self._problems = tuple(problems)
        self._send(sink, self._answering.refresh_queries(queries, now_ms()))
        sink.flush()

    def _answer_due(self, sink: Sink) -> bool:
        """One round: what is due now, in batches; True when there was something."""
        homes: dict[str, int] = {}
        progress: list[Progress] = []
        calls = [keeper.progress.remote() for keeper in self._keepers]
        for shard, part in enumerate(ray.get(calls, timeout=self._settings.timeout_s)):
            progress.extend(part)
            homes.update((p.feed_id, shard) for p in part)
        dues = self._answering.due(progress)
        for first in range(0, len(dues), _BATCH_WINDOWS):
            batch = dues[first : first + _BATCH_WINDOWS]
            self._conclude(batch, homes, sink)
            if self._stopping.is_set():
                self._answering.give_back(dues[first + _BATCH_WINDOWS :])
                break
        return bool(dues)

    def _conclude(self, dues: Sequence[Due], homes: dict[str, int], sink: Sink) -> None:
        readings = self._read(dues, homes)
        for due, reading in zip(dues, readings, strict=True):
            try:
                evidence = self._evidence(due, reading, homes)
            except BadInput as error:  # as when retention took the frames since they were read
                self._note(error)
                reading = _unread(due)
                evidence = self._evidence(due, reading, homes)
            self._send(sink, self._answering.conclude(due, reading, evidence, now_ms()))
            self._readings += 1
        # Settled only once the events are safe: a crash before this repeats them with the same ids.
        sink.flush()
        self._answering.settle(dues)

    def _evidence(self, due: Due, reading: Reading, homes: dict[str, int]) -> Evidence:
        wanted = self._answering.wanted(due, reading)
        times, scores = reading.frame_ms[wanted], reading.relevance[wanted]
        keeper = self._keepers[homes[due.feed_id]]
        evidence: Evidence = ray.get(
            keeper.evidence.remote(due.feed_id, due.window, times, scores), timeout=self._settings.timeout_s
        )
        return evidence

    def _read(self, dues: Sequence[Due], homes: dict[str, int]) -> list[Reading]:
        """Queries of one feed and window are one request, a shard's requests one call; shards work side by side."""
        groups: dict[tuple[str, Window], list[Due]] = {}
        for due in dues:
            groups.setdefault((due.feed_id, due.window), []).append(due)
        shards: dict[int, list[list[Due]]] = {}
        for group in groups.values():
            shards.setdefault(homes[group[0].feed_id], []).append(group)
        calls = [self._asked(shard, mine) for shard, mine in shards.items()]
        readings: dict[Due, Reading] = {}
        for (shard, mine), call in zip(shards.items(), calls, strict=True):
            readings.update(self._said(shard, mine, call))
        return [readings[due] for due in dues]

    def _asked(self, shard: int, groups: Sequence[Sequence[Due]]) -> Any:
        """The reference of a shard's readings. Tokens go from keeper to worker: their bytes never pass through here."""
        memories = [
            self._keepers[shard].window.remote(
                group[0].feed_id,
                group[0].window,
                context_from_ms(self._settings.reading, self._settings.grid, group[0].window),
            )
            for group in groups
        ]
        asked = [(group[0].window, tuple(due.query for due in group)) for group in groups]
        return self._workers[shard].read.remote(asked, *memories)

    def _said(self, shard: int, groups: Sequence[Sequence[Due]], call: Any) -> dict[Due, Reading]:
        """What came of a call. When one of its windows cannot be read, each is asked for alone, so that others can."""
        try:
            said = ray.get(call, timeout=self._settings.timeout_s)
        except BadInput as error:  # as when another model wrote a window
            if len(groups) == 1:
                self._note(error)
                return {due: _unread(due) for due in groups[0]}
            alone = [(group, self._asked(shard, [group])) for group in groups]
            return {due: reading for group, one in alone for due, reading in self._said(shard, [group], one).items()}
        pairs = zip(groups, said, strict=True)
        return {due: reading for group, found in pairs for due, reading in zip(group, found, strict=True)}

    def _note(self, error: BadInput) -> None:
        """Keep what went wrong for `status`, without the traceback of the process it happened in."""
        text = str(error.cause if isinstance(error, RayTaskError) else error)
        self._problems = tuple(dict.fromkeys((*self._problems, text)))[-_KEPT_PROBLEMS:]

    def _send(self, sink: Sink, events: Iterable[Outgoing]) -> None:
        for event in events:
            sink.send(event)


def _unread(due: Due) -> Reading:
    """What a window says that cannot be read: nothing."""
    return Reading(
        query_id=due.query.query_id,
        feed_id=due.feed_id,
        window=due.window,
        frame_ms=np.empty(0, np.int64),
        relevance=np.empty(0, np.float32),
        verdict=Verdict.UNKNOWN,
        probability=0.5,
        duration_ms=0.0,
    )
