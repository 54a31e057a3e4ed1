"""Ray shell that puts due questions to the shards and sends out what follows from the readings."""

import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError, RayTaskError

from standwatch.actors.topics import open_sink
from standwatch.actors.worker_model import WorkerModel
from standwatch.configs.schema import BrokerConfig, ReadingConfig, TopicsConfig
from standwatch.pipeline.answering import Answering
from standwatch.pipeline.backoff import Backoff
from standwatch.pipeline.clock import now_ms
from standwatch.pipeline.errors import BadInput, Unavailable
from standwatch.pipeline.ports import Sink
from standwatch.pipeline.querystore import QueryStore
from standwatch.pipeline.types import Due, Outgoing, Progress, Reading, Verdict

_BATCH_WINDOWS = 8


@dataclass(frozen=True, slots=True)
class AnswererSettings:
    """The sections of the configuration that an Answerer works by."""

    broker: BrokerConfig
    topics: TopicsConfig
    reading: ReadingConfig
    memory_path: str


@dataclass(frozen=True, slots=True)
class AnswerStatus:
    """What an Answerer has done since it started, and what it is doing."""

    state: str
    queries: int
    readings: int
    events: int
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
        self._model = WorkerModel()
        self._answering = Answering(settings.reading, settings.topics, memory / "answering", self._model)
        self._stopping = threading.Event()
        self._state = "starting"
        self._queries, self._readings, self._events = 0, 0, 0
        self._problems: tuple[str, ...] = ()

    def pid(self) -> int:
        return os.getpid()

    def stop(self) -> None:
        """Ask `run` to return after what it is doing now."""
        self._stopping.set()

    def status(self) -> AnswerStatus:
        return AnswerStatus(
            self._state, self._queries, self._readings, self._events, self._model.weights, self._problems
        )

    def run(self, keepers: Sequence[Any], workers: Sequence[Any], until_idle: bool) -> None:
        """Answer what is due on these shards until `stop`, or until nothing is due any more.

        A lost shard or broker leads to asking again after a growing pause: nothing was settled, so nothing is lost.
        """
        self._keepers, self._workers = keepers, workers
        self._stopping.clear()
        backoff = Backoff(first_s=0.2, cap_s=5.0)
        while not self._stopping.is_set():
            try:
                self._serve(until_idle, backoff)
                break
            except (RayActorError, Unavailable) as error:
                self._state = f"recovering: {error}"
                self._answering.forget_outstanding()
                self._stopping.wait(backoff.next_s())
        self._state = "idle" if until_idle else "stopped"

    def _serve(self, until_idle: bool, backoff: Backoff) -> None:
        """Rounds of answering over one connection to the broker."""
        sink = open_sink(self._settings.broker, self._settings.topics)
        try:
            self._model.connect(self._workers)
            self._load_queries(sink)  # again after a loss: what it closed may not have been sent
            while not self._stopping.is_set():
                if self._store.changed():
                    self._load_queries(sink)
                answered = self._answer_due(sink)
                self._state = "running"
                backoff.reset()
                if until_idle and not answered:
                    return
                if not answered:
                    self._stopping.wait(self._settings.reading.poll_ms / 1000)
        finally:
            sink.close()

    def _load_queries(self, sink: Sink) -> None:
        queries, problems = self._store.load()
        self._problems = tuple(problems)
        self._queries = len(queries)
        self._send(sink, self._answering.refresh_queries(queries, now_ms()))
        sink.flush()

    def _answer_due(self, sink: Sink) -> bool:
        """One round: what is due now, in batches; True when there was something."""
        homes: dict[str, int] = {}
        progress: list[Progress] = []
        for shard, part in enumerate(ray.get([keeper.progress.remote() for keeper in self._keepers])):
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
            wanted = self._answering.wanted(due, reading)
            keeper = self._keepers[homes[due.feed_id]]
            evidence = ray.get(
                keeper.evidence.remote(due.feed_id, due.window, reading.frame_ms[wanted], reading.relevance[wanted])
            )
            self._send(sink, self._answering.conclude(due, reading, evidence, now_ms()))
            self._readings += 1
        # Settled only once the events are safe: a crash before this repeats them with the same ids.
        sink.flush()
        self._answering.settle(dues)

    def _read(self, dues: Sequence[Due], homes: dict[str, int]) -> list[Reading]:
        """Queries of one feed and window share one call; calls of different shards run side by side."""
        groups: dict[tuple[str, int, int], list[int]] = {}
        for index, due in enumerate(dues):
            groups.setdefault((due.feed_id, due.window.from_ms, due.window.to_ms), []).append(index)
        calls = []
        for (feed_id, _, _), indices in groups.items():
            shard = homes[feed_id]
            window = self._keepers[shard].window.remote(feed_id, dues[indices[0]].window)
            calls.append(self._workers[shard].read.remote(window, [dues[i].query for i in indices]))
        readings: dict[int, Reading] = {}
        for indices, call in zip(groups.values(), calls, strict=True):
            try:
                readings.update(zip(indices, ray.get(call), strict=True))
            except BadInput as error:  # as when another model wrote the window; the other windows go on
                self._problems = (*self._problems[-4:], _cause(error))
                readings.update((i, _unread(dues[i])) for i in indices)
        return [readings[i] for i in range(len(dues))]

    def _send(self, sink: Sink, events: Iterable[Outgoing]) -> None:
        for event in events:
            sink.send(event)
            self._events += 1


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


def _cause(error: BadInput) -> str:
    """The message of an error that came through Ray, without the traceback of the other process."""
    return str(error.cause if isinstance(error, RayTaskError) else error)
