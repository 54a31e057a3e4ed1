"""Carries the model's compressor and reader to the pipeline's ports: records in, records out."""

import time
from collections.abc import Sequence

import numpy as np
import torch

from standwatch.compression.compressor import Compressor, CompressorState
from standwatch.compression.fingerprint import token_space
from standwatch.compression.reader import Reader
from standwatch.compression.tokenizer import byte_level
from standwatch.compression.xcomp import build
from standwatch.configs.schema import ModelConfig, ReadingConfig
from standwatch.pipeline.answering import verdict
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.lookback import thin
from standwatch.pipeline.ports import Completion
from standwatch.pipeline.types import (
    Clip,
    Evidence,
    Float16Array,
    Float32Array,
    Int64Array,
    Reading,
    StandingQuery,
    TokenBatch,
    Verdict,
    Window,
    WindowTokens,
)


class Inference:
    """One model in this process, behind the ports Compressor, QuestionReader and LanguageModel."""

    def __init__(self, config: ModelConfig, reading: ReadingConfig) -> None:
        torch.set_num_threads(config.threads)
        self._reading = reading
        self._frames_per_clip = config.vision.frames_per_clip
        model = build(config)
        self._compressor = Compressor(model)
        self._states: dict[str, CompressorState] = {}
        self._reader = Reader(model, byte_level())
        self._token_space = token_space(config, model.state_dict())
        self._seed = config.seed

    @property
    def name(self) -> str:
        return f"xcomp-seed-{self._seed}"

    @property
    def weights(self) -> str:
        return "untrained"

    def compress(self, clips: Sequence[Clip]) -> list[TokenBatch]:
        """Clips of any feeds to tokens, in their order. Each feed's clips are in the order of time."""
        found: dict[int, Float16Array] = {}
        for places in rounds([clip.feed_id for clip in clips]):
            feeds = [clips[place].feed_id for place in places]
            states = [self._states.get(feed, self._compressor.start()) for feed in feeds]
            steps = self._compressor.step_batch(states, [clips[place].frames for place in places])
            for place, feed, (state, tokens) in zip(places, feeds, steps, strict=True):
                self._states[feed], found[place] = state, tokens
        return [
            TokenBatch(
                feed_id=clip.feed_id,
                at=clip.at,
                frame_ms=clip.frame_ms,
                frame_offset=clip.frame_offset,
                tokens=found[place],
                thumbnails=clip.thumbnails,
                token_space=self._token_space,
            )
            for place, clip in enumerate(clips)
        ]

    def read(self, window: WindowTokens, queries: Sequence[StandingQuery]) -> list[Reading]:
        """All questions in one pass over the window; a window without frames gives `unknown` to every one.

        A window of more than `reading.max_frames` frames is read as evenly spread clips of it.
        Raises `BadInput` when the window's tokens were made by another model.
        """
        if not len(window.frame_ms):
            nothing = np.empty(0, np.float32)
            return [_reading(q, window, nothing, Verdict.UNKNOWN, 0.5, 0.0) for q in queries]
        self._check_space(window.token_space)
        window = thin(window, self._reading.max_frames, self._frames_per_clip)
        began = time.perf_counter()
        found = self._reader.read(window.tokens, [q.question for q in queries], _seconds(window.window))
        each_ms = (time.perf_counter() - began) * 1000 / len(queries)
        readings = []
        for query, said in zip(queries, found, strict=True):
            probability = said.yes / (said.yes + said.no) if said.yes + said.no > 0 else 0.5
            judged = verdict(probability, self._reading.unknown_below)
            readings.append(_reading(query, window, said.relevance, judged, probability, each_ms))
        return readings

    def select(self, window: WindowTokens, question: str, keep: int) -> Int64Array:
        """Indices of the frames most relevant to the question, in time order; several passes for a long window."""
        self._check_space(window.token_space)
        return self._reader.select(window.tokens, question, _seconds(window.window), keep)

    def answer(self, question: str, evidence: Evidence) -> Completion:
        """Words about the evidence, whose tokens stand in the prompt as soft tokens."""
        self._check_space(evidence.token_space)
        written = self._reader.answer(
            evidence.tokens,
            question,
            _seconds(evidence.window),
            len(evidence.frame_ms),
            self._reading.answer_tokens,
            self._reading.repetition_penalty,
        )
        return Completion(written.text, written.prompt_tokens, written.generated_tokens)

    def _check_space(self, space: str) -> None:
        if space != self._token_space:
            raise BadInput(
                f"token_space: memory holds {space}, this model reads {self._token_space}; "
                "use the model configuration that wrote the memory (config.yaml beside it)"
            )


def rounds(feeds: Sequence[str]) -> list[list[int]]:
    """Places of the clips that can be compressed together: a feed's next clip needs the state its last one left."""
    found: list[list[int]] = []
    seen: dict[str, int] = {}
    for place, feed in enumerate(feeds):
        turn = seen.get(feed, 0)
        seen[feed] = turn + 1
        if turn == len(found):
            found.append([])
        found[turn].append(place)
    return found


def _reading(
    query: StandingQuery,
    window: WindowTokens,
    relevance: Float32Array,
    judged: Verdict,
    probability: float,
    duration_ms: float,
) -> Reading:
    return Reading(
        query_id=query.query_id,
        feed_id=window.feed_id,
        window=window.window,
        frame_ms=window.frame_ms,
        relevance=relevance,
        verdict=judged,
        probability=probability,
        duration_ms=duration_ms,
    )


def _seconds(window: Window) -> float:
    return (window.to_ms - window.from_ms) / 1000
