"""Carries the model's compressor and reader to the pipeline's ports: records in, records out."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from standwatch.compression.checkpoint import load_model
from standwatch.compression.compressor import Compressor, FeedClip
from standwatch.compression.fingerprint import token_space
from standwatch.compression.openfeeds import OpenFeeds
from standwatch.compression.packing import pack
from standwatch.compression.prompt import prefix_ids
from standwatch.compression.questions import Questions, View
from standwatch.compression.reader import Reader
from standwatch.compression.segmentcache import SegmentCache, Wanted
from standwatch.compression.segments import OpenSegments, SegmentBuilder
from standwatch.configs.schema import ModelConfig, ReadingConfig
from standwatch.pipeline.answering import verdict
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.lookback import thin
from standwatch.pipeline.ports import Completion
from standwatch.pipeline.segmentgrid import SegmentGrid
from standwatch.pipeline.types import (
    Clip,
    Evidence,
    Float16Array,
    Float32Array,
    Int64Array,
    Reading,
    ReadRequest,
    StandingQuery,
    TokenBatch,
    Verdict,
    Window,
    WindowTokens,
)


class Inference:
    """One model in this process, behind the ports Compressor, QuestionReader and LanguageModel."""

    def __init__(self, config: ModelConfig, reading: ReadingConfig, sample_fps: float) -> None:
        torch.set_num_threads(config.threads)
        try:
            loaded = load_model(config)
        except ValueError as error:
            raise BadInput(f"model.{error}") from None
        model, self.name, self.weights = loaded.model, loaded.name, loaded.weights
        self._reading = reading
        self.frames_per_clip = model.config.vision.frames_per_clip
        self._grid = SegmentGrid(sample_fps, model.config.segment_frames)
        prefix = model.decoder.embed(prefix_ids(loaded.tokenizer))
        builder = SegmentBuilder(model.decoder, model.segment_schedule, prefix, model.config.segment_frames)
        # Open segments serve questions only where these see the same tokens: not those of the readout.
        self._serves_open = reading.method == "segments" and not model.reads_one_token
        self._compressor = Compressor(model, builder if self._serves_open or model.reads_one_token else None)
        segment_frames = model.config.segment_frames
        self._feeds = OpenFeeds(segment_frames, segment_frames / sample_fps)
        self._reader = Reader(model, loaded.tokenizer, loaded.generation.eos_ids)
        reading_builder = SegmentBuilder(model.decoder, model.reading_schedule, prefix, model.config.segment_frames)
        self._segments = SegmentCache(reading_builder, self._reader.video, reading.cache_mb << 20)
        self._token_space = token_space(model.config, model.state_dict())
        pack(model)  # last: a packed model has no weights to name
        self._penalty = reading.repetition_penalty or loaded.generation.repetition_penalty

    def compress(self, clips: Sequence[Clip]) -> list[TokenBatch]:
        """Clips of any feeds to tokens, in their order. Each feed's clips are in the order of time."""
        found: dict[int, Float16Array] = {}
        after: dict[str, OpenSegments] = {}  # taken over only when every clip has gone through
        for places in rounds([clip.feed_id for clip in clips]):
            feeds = [clips[place].feed_id for place in places]
            states = [after.get(feed) or self._feeds.get(feed) for feed in feeds]
            some = [FeedClip(clips[place].frames, self._grid.slots(clips[place].frame_ms)) for place in places]
            for place, feed, (state, tokens) in zip(
                places, feeds, self._compressor.step_batch(states, some), strict=True
            ):
                after[feed], found[place] = state, tokens
        self._feeds.put(after, time.monotonic())
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

    def forget(self) -> None:
        """Forget every feed: what comes next is a replay from where the memory says."""
        self._feeds.clear()
        self._segments.clear()

    def read(self, requests: Sequence[ReadRequest]) -> list[list[Reading]]:
        """All questions about all windows in one pass; a window without frames gives `unknown` to every one.

        Of a window of more than `reading.max_frames` frames evenly spread clips are read, in one sequence, as many as
        fit. Raises `BadInput` when one has tokens of another model or damaged ones, or a question that cannot be asked.
        """
        began = time.perf_counter()
        spans = [_span(request) for request in requests]
        full = [index for index, (first, end) in enumerate(spans) if first < end]
        for index in full:
            self._check_space(requests[index].memory.token_space)
        windows = {index: self._own_frames(requests[index]) for index in full}
        try:
            views = self._views([(requests[index], windows[index]) for index in full])
            asked = [
                Questions(found, tuple(q.question for q in requests[index].queries), _seconds(requests[index].window))
                for index, found in zip(full, views, strict=True)
            ]
            said = dict(zip(full, self._reader.read(asked), strict=True))
        except ValueError as error:
            raise BadInput(str(error)) from None
        questions = sum(len(requests[index].queries) for index in full)
        each_ms = (time.perf_counter() - began) * 1000 / max(1, questions)
        readings = []
        for index, request in enumerate(requests):
            if index not in said:
                nothing = np.empty(0, np.int64), np.empty(0, np.float32)
                readings.append([_reading(q, request, *nothing, Verdict.UNKNOWN, 0.5, 0.0) for q in request.queries])
                continue
            frame_ms = windows[index].frame_ms
            readings.append(
                [
                    _reading(
                        query,
                        request,
                        frame_ms,
                        one.relevance,
                        verdict(one.probability, self._reading.unknown_below),
                        one.probability,
                        each_ms,
                    )
                    for query, one in zip(request.queries, said[index], strict=True)
                ]
            )
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
            self._penalty,
        )
        return Completion(written.text, written.prompt_tokens, written.generated_tokens)

    def thinned(self, window: WindowTokens) -> WindowTokens:
        """The window, or evenly spread clips of it that can be read in one sequence."""
        return thin(window, min(self._reading.max_frames, self._reader.most_frames), self.frames_per_clip)

    def _own_frames(self, request: ReadRequest) -> WindowTokens:
        """The frames of a request's window itself, without context, or as many of them as can be read."""
        memory, inside = request.memory, slice(*_span(request))
        times, offsets, tokens = memory.frame_ms[inside], memory.frame_offset[inside], memory.tokens[inside]
        window = replace(memory, window=request.window, frame_ms=times, frame_offset=offsets, tokens=tokens)
        in_segments = self._reading.method == "segments" and len(window.frame_ms) <= self._reading.max_frames
        return window if in_segments else self.thinned(window)

    def _views(self, windows: Sequence[tuple[ReadRequest, WindowTokens]]) -> list[tuple[View, ...]]:
        """Where the decoder finds the frames of each window: in segments, or as one sequence of their own."""
        wanted: list[Wanted | None] = []
        for request, window in windows:
            first, end = _span(request)
            in_segments = self._reading.method == "segments" and len(window.frame_ms) == end - first
            wanted.append(self._wanted(request, first, end) if in_segments else None)
        segments = iter(self._segments.views([one for one in wanted if one is not None]))
        return [
            (self._reader.view(window.tokens),) if one is None else next(segments)
            for (_, window), one in zip(windows, wanted, strict=True)
        ]

    def _wanted(self, request: ReadRequest, context: int, end: int) -> Wanted:
        memory = request.memory
        return Wanted(
            memory.feed_id,
            memory.tokens[:end],
            self._grid.slots(memory.frame_ms[:end]),
            context,
            self._grid.cover(request.window),
            self._feeds.get(memory.feed_id) if self._serves_open else OpenSegments(),
        )

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


def _span(request: ReadRequest) -> tuple[int, int]:
    """First and end of the frames of the memory that lie within the window; those before it are context."""
    window = request.window
    first, end = np.searchsorted(request.memory.frame_ms, [window.from_ms, window.to_ms])
    return int(first), int(end)


def _reading(
    query: StandingQuery,
    request: ReadRequest,
    frame_ms: Int64Array,
    relevance: Float32Array,
    judged: Verdict,
    probability: float,
    duration_ms: float,
) -> Reading:
    return Reading(
        query_id=query.query_id,
        feed_id=request.memory.feed_id,
        window=request.window,
        frame_ms=frame_ms,
        relevance=relevance,
        verdict=judged,
        probability=probability,
        duration_ms=duration_ms,
    )


def _seconds(window: Window) -> float:
    return (window.to_ms - window.from_ms) / 1000
