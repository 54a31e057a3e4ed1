"""Decides which frames an answer rests on, how they are referred to, and what makes two answers the same."""

import hashlib

import numpy as np

from standwatch.pipeline.alerts import stable_hash
from standwatch.pipeline.ports import Completion, LanguageModel
from standwatch.pipeline.types import (
    Answer,
    Evidence,
    EvidenceFrame,
    Float32Array,
    Int64Array,
    Reading,
    SourceOffset,
    StandingQuery,
    Window,
)


def top_frames(relevance: Float32Array, most: int) -> Int64Array:
    """Indices of the `most` most relevant frames in the order of time; of equals the earlier ones."""
    best = np.argsort(-relevance, kind="stable")[:most]
    return np.sort(best).astype(np.int64)


def evidence_frames(evidence: Evidence) -> tuple[EvidenceFrame, ...]:
    """References to the frames, each bound to its time, its place in the topic and its picture."""
    return tuple(
        EvidenceFrame(
            frame_ms=int(frame_ms),
            score=float(score),
            at=SourceOffset(evidence.topic, evidence.partition, int(offset)),
            thumbnail_sha256=hashlib.sha256(thumbnail).hexdigest() if thumbnail else "",
        )
        for frame_ms, offset, score, thumbnail in zip(
            evidence.frame_ms, evidence.frame_offset, evidence.scores, evidence.thumbnails, strict=True
        )
    )


def answer_id_of(query: StandingQuery, feed_id: str, window: Window) -> str:
    """The same for the same question about the same span, whoever answers it and however often."""
    return stable_hash("answer", query.query_id, query.version, feed_id, window.from_ms, window.to_ms)


def answer_of(
    query: StandingQuery,
    reading: Reading,
    frames: tuple[EvidenceFrame, ...],
    words: Completion | None,
    model: LanguageModel,
) -> Answer:
    """The answer that a reading, its evidence and what was written about it amount to."""
    said = words or Completion("", 0, 0)
    return Answer(
        answer_id=answer_id_of(query, reading.feed_id, reading.window),
        query_id=query.query_id,
        query_version=query.version,
        question=query.question,
        feed_id=reading.feed_id,
        window=reading.window,
        verdict=reading.verdict,
        probability=reading.probability,
        text=said.text,
        evidence=frames,
        model=model.name,
        weights=model.weights,
        prompt_tokens=said.prompt_tokens,
        answer_tokens=said.answer_tokens,
    )
