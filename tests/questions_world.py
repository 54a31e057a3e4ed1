"""Small records for tests of the question side: times are in milliseconds, feeds send one frame a second."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import settings

from standwatch.configs.schema import ReadingConfig, TopicsConfig
from standwatch.pipeline.answering import Answering
from standwatch.pipeline.errors import Unavailable
from standwatch.pipeline.ports import Completion
from standwatch.pipeline.types import (
    Due,
    Evidence,
    EvidenceFrame,
    Int64Array,
    Outgoing,
    Progress,
    Reading,
    Record,
    SourceOffset,
    StandingQuery,
    Verdict,
    Window,
)

S = 1_000
UNTIMED = settings(deadline=None)  # the machine's speed is not what these tests are about
NOW = 1_790_000_000_000
QUERY = StandingQuery(query_id="person", question="Is a person in the picture?")


def progress(watermark_ms: int, feed_id: str = "dock") -> Progress:
    return Progress(feed_id, watermark_ms, SourceOffset("video.chunks.v1", 0, 1), 2, 1)


def reading(
    end_ms: int,
    probability: float,
    query: StandingQuery = QUERY,
    feed_id: str = "dock",
    verdict: Verdict | None = None,
    frames: int = 3,
) -> Reading:
    """A reading of the query's window that ends at `end_ms`; relevance grows with time."""
    window = Window(end_ms - query.window_ms, end_ms)
    natural = Verdict.YES if probability >= 0.5 else Verdict.NO
    return Reading(
        query_id=query.query_id,
        feed_id=feed_id,
        window=window,
        frame_ms=window.from_ms + np.arange(frames, dtype=np.int64) * S,
        relevance=np.linspace(0.1, 0.9, frames, dtype=np.float32),
        verdict=verdict or natural,
        probability=probability,
        duration_ms=1.5,
    )


def evidence(of: Reading, indices: Int64Array) -> Evidence:
    frame_ms = of.frame_ms[indices]
    return Evidence(
        feed_id=of.feed_id,
        window=of.window,
        topic="video.chunks.v1",
        partition=0,
        frame_ms=frame_ms,
        frame_offset=np.arange(len(frame_ms), dtype=np.int64),
        tokens=np.zeros((len(frame_ms), 1, 4), np.float16),
        scores=of.relevance[indices],
        thumbnails=tuple(b"jpeg" for _ in frame_ms),
        token_space="space",
    )


def evidence_frame(frame_ms: int = NOW, sha256: str = "ab" * 32) -> EvidenceFrame:
    return EvidenceFrame(frame_ms, 0.25, SourceOffset("video.chunks.v1", 3, 17), sha256)


def as_read(sent: Outgoing, offset: int = 0) -> Record:
    """A sent record as a consumer gets it."""
    return Record(SourceOffset(sent.topic, 0, offset), sent.timestamp_ms, sent.key, sent.value, sent.headers)


def header(sent: Outgoing, name: str) -> str:
    return dict(sent.headers)[name].decode()


def body(sent: Outgoing) -> dict[str, object]:
    content: dict[str, object] = json.loads(sent.value)
    return content


class Narrator:
    """A language model that writes the same words and remembers what it was asked."""

    name = "narrator"
    weights = "untrained"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.away = False

    def answer(self, question: str, evidence: Evidence) -> Completion:
        if self.away:
            raise Unavailable("the model is away")
        self.asked.append(question)
        return Completion("a person walks", 11, 3)


class Desk:
    """What a shell does around `Answering`, with a sink that keeps only what was flushed."""

    def __init__(self, state_dir: Path, queries: list[StandingQuery], probabilities: dict[int, float]) -> None:
        self._state_dir, self._queries, self._probabilities = state_dir, queries, probabilities
        self.narrator = Narrator()
        self.flushed: list[Outgoing] = []
        self.config = ReadingConfig(evidence_frames=2, max_due_windows=3)
        self.restart()

    def restart(self) -> None:
        self.answering = Answering(self.config, TopicsConfig(), self._state_dir, self.narrator)
        self.flushed += self.answering.refresh_queries(self._queries, NOW)

    def replace_queries(self, queries: list[StandingQuery]) -> list[Outgoing]:
        self._queries = queries
        return self.answering.refresh_queries(queries, NOW)

    def conclude(self, due: Due) -> list[Outgoing]:
        said = reading(due.window.to_ms, self._probabilities.get(due.window.to_ms, 0.1), due.query, due.feed_id)
        chosen = evidence(said, self.answering.wanted(due, said))
        return self.answering.conclude(due, said, chosen, NOW)

    def round(self, watermark_ms: int, crash: str = "") -> list[Due]:
        """One round of the shell; `crash` names the step before which the process dies and starts again."""
        dues = self.answering.due([progress(watermark_ms)])
        sent = [event for due in dues for event in self.conclude(due)]
        if crash == "flush":
            self.restart()
            return dues
        self.flushed += sent
        if crash == "settle":
            self.restart()
            return dues
        self.answering.settle(dues)
        return dues

    def said(self) -> list[tuple[str, str]]:
        """Type and id of everything a consumer that drops repeated ids has seen, in order."""
        return list(dict.fromkeys((header(e, "ce_type").split(".", 2)[2], header(e, "ce_id")) for e in self.flushed))


def with_version(query: StandingQuery, version: int) -> StandingQuery:
    return replace(query, version=version)
