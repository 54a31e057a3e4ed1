"""Decides how questions run against videos that are in the decoder's cache already (spec §14).

Only the text's rows run: each sees the cached prefix and frames, the words that all questions share, and the words of
its own question before it. Questions do not see each other, so any number of them, about any number of videos, go
through as one batch of rows. Scores and the logits of the next token come from the same pass, and a pass that only
scores ends at the last layer scored, before its attention. Nothing is stored: the caches stay as they were.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from standwatch.compression.attention import Sight, attend
from standwatch.compression.lpcomp import Decoder
from standwatch.compression.qcomp import Asking, Keys, QueryRows, ScoreType, whole_scores, window_scores
from standwatch.compression.videocache import VideoCache


@dataclass(frozen=True, eq=False)
class Inquiry:
    """Questions about one video. All texts begin with `shared` [s, D]; each goes on with its `own` [m, D] rows.

    `rows` says which rows of each text ask, counted from the text's beginning; they lie in its own part. Of the frames
    held, the first `context` are not seen: what later frames took from them stays in those.
    """

    cache: VideoCache
    shared: Tensor
    own: tuple[Tensor, ...]
    rows: tuple[QueryRows, ...]
    context: int = 0

    def __post_init__(self) -> None:
        self.cache.check_readable()
        if len(self.own) != len(self.rows) or not self.own:
            raise ValueError(f"own and rows must pair up, at least one; got {len(self.own)} and {len(self.rows)}")
        if not 0 <= self.context < self.cache.frames:
            raise ValueError(f"context: {self.context} of {self.cache.frames} frames leaves none to see")
        for rows, own in zip(self.rows, self.own, strict=True):
            if rows.start < len(self.shared) or rows.stop > len(self.shared) + len(own):
                raise ValueError(f"rows: {rows.start}..{rows.stop - 1} are not all in the question's own words")

    @property
    def text(self) -> Tensor:
        """All rows that run: what is shared, then each question's own, [R, D]."""
        return torch.cat((self.shared, *self.own))


@dataclass(frozen=True, eq=False)
class Heard:
    """What one inquiry's questions were told: scores [layers scored, B, clips], logits of the next token [B, vocab].

    `logits` is None in a pass that only scores.
    """

    scores: Tensor
    logits: Tensor | None


def ask(
    decoder: Decoder, inquiries: Sequence[Inquiry], layers: range, score_type: ScoreType, *, only_scores: bool = False
) -> list[Heard]:
    """Run all questions of all inquiries as one batch; `layers` are those whose scores are wanted, at least one.

    Segments need inquiries without context. Raises ValueError for a video shorter than a window, and when the text
    does not fit into the model's positions.
    """
    texts = [_Text(inquiry) for inquiry in inquiries]
    for text in texts:
        _check_positions(decoder, text)
    counts = [text.count for text in texts]
    rows = torch.cat([inquiry.text for inquiry in inquiries])
    scores: list[list[Tensor]] = [[] for _ in texts]
    for index, layer in enumerate(decoder.stack):
        cos, sin = decoder.rotary.of(torch.cat([text.positions(index) for text in texts]), rows)
        queries, keys, values = layer.project(rows, cos, sin)
        of_each = list(zip(*(torch.split(rows_of, counts, 1) for rows_of in (queries, keys, values)), strict=True))
        if index in layers:
            for text, (own_queries, own_keys, _), found in zip(texts, of_each, scores, strict=True):
                found.append(_scores(decoder, text, index, own_queries, own_keys, score_type))
        if only_scores and index == layers[-1]:
            return [Heard(torch.stack(found), None) for found in scores]
        sights = [text.sight(index, *own) for text, own in zip(texts, of_each, strict=True)]
        rows = layer.finish(rows, torch.cat(attend(sights), 1))
    last = torch.cat([part[text.last] for text, part in zip(texts, torch.split(rows, counts), strict=True)])
    logits = torch.split(decoder.logits(decoder.norm(last)), [len(text.last) for text in texts])
    return [Heard(torch.stack(found), one) for found, one in zip(scores, logits, strict=True)]


class _Text:
    """One inquiry's rows: where they stand, what they see, which of them ask."""

    def __init__(self, inquiry: Inquiry) -> None:
        self.inquiry = inquiry
        self._shared = len(inquiry.shared)
        self._lengths = [len(own) for own in inquiry.own]
        self._starts = list(accumulate(self._lengths, initial=self._shared))[:-1]  # row of each question's first
        self.count = self._shared + sum(self._lengths)
        device = inquiry.shared.device
        self.last = torch.tensor([at + n - 1 for at, n in zip(self._starts, self._lengths, strict=True)], device=device)
        behind = [torch.arange(self._shared)] + [torch.arange(n) + self._shared for n in self._lengths]
        self._behind = torch.cat(behind).to(device)  # of each row, how many rows of its own text stand before it
        # Question of each row; -1: the words that all share.
        self._question = torch.tensor([-1] * self._shared + [b for b, n in enumerate(self._lengths) for _ in range(n)])
        self._seen: dict[int, Tensor] = {}

    def positions(self, layer: int) -> Tensor:
        """Position of every row, [R]: a text stands behind the frames, and the questions all at the same place."""
        return self._behind + self.inquiry.cache.text_start(layer)

    def sight(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Sight:
        held_keys, held_values = self._held(layer)
        length = sum(part.shape[1] for part in held_keys)
        if length not in self._seen:
            everything = torch.ones(self.count, length, dtype=torch.bool, device=keys.device)
            self._seen[length] = torch.cat((everything, self._among), 1)
        return Sight(
            queries, torch.cat((*held_keys, keys), 1), torch.cat((*held_values, values), 1), self._seen[length]
        )

    def asking(self, queries: Tensor, to_the_end: bool) -> Asking:
        """The rows that ask; they see their whole text `to_the_end`, or short of where the answer would begin."""
        words = self._words if to_the_end else self._words & self._before_answer
        return Asking(queries[:, self._asking].float(), words, self._means)

    def keys(self, layer: int, keys: Tensor) -> Keys:
        cache = self.inquiry.cache
        n, prefix = cache.schedule.tokens_by_layer[layer], len(cache.prefix)
        held = cache.keys[layer]
        video = held[:, prefix + self.inquiry.context * n : cache.text_start(layer)]
        return Keys(held[:, :prefix].float(), video.float(), keys.float(), n, cache.text_start(layer))

    def _held(self, layer: int) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values of the prefix and of the frames that may be seen."""
        cache, context = self.inquiry.cache, self.inquiry.context
        end = cache.text_start(layer)
        spans = [(0, end)]
        if context:
            first = len(cache.prefix) + context * cache.schedule.tokens_by_layer[layer]
            spans = [(0, len(cache.prefix)), (first, end)]
        keys, values = cache.keys[layer], cache.values[layer]
        return [keys[:, low:high] for low, high in spans], [values[:, low:high] for low, high in spans]

    @cached_property
    def _among(self) -> Tensor:
        """True where row r sees row s of the text, [R, R]: shared words and its own question's, up to itself."""
        question = self._question
        related = (question[None] == question[:, None]) | (question[None] == -1)
        return (related & torch.ones(self.count, self.count, dtype=torch.bool).tril()).to(self._behind.device)

    @cached_property
    def _asking(self) -> Tensor:
        """The rows that ask, question by question, [A]."""
        rows = [
            torch.arange(asking.start, asking.stop) - self._shared + start
            for asking, start in zip(self.inquiry.rows, self._starts, strict=True)
        ]
        return torch.cat(rows).to(self._behind.device)

    @cached_property
    def _words(self) -> Tensor:
        """True where row r is of an asking row's text, [A, R]: shared, or of its own question."""
        question = self._question.to(self._behind.device)
        return (question[None] == question[self._asking][:, None]) | (question[None] == -1)

    @cached_property
    def _before_answer(self) -> Tensor:
        """True where row r stands before the answer's header, which follows the asking rows, [A, R]."""
        stops = torch.tensor([rows.stop for rows in self.inquiry.rows], device=self._behind.device)
        return self._behind[None] < stops[self._question.to(self._behind.device)[self._asking]][:, None]

    @cached_property
    def _means(self) -> Tensor:
        """Averages over each question's rows, [B, A]."""
        own = self._question.to(self._behind.device)[self._asking]
        of_question = own[None] == torch.arange(len(self._lengths), device=own.device)[:, None]
        return of_question / of_question.sum(1, keepdim=True)


def _scores(decoder: Decoder, text: _Text, layer: int, queries: Tensor, keys: Tensor, score_type: ScoreType) -> Tensor:
    whole = score_type.window == 0
    asking, held = text.asking(queries, to_the_end=whole), text.keys(layer, keys)
    if whole:
        return whole_scores(asking, held, text.inquiry.context)
    if text.inquiry.context:
        raise ValueError("context: windows of segments are counted from the first frame, which must be seen")
    return window_scores(asking, held, score_type, decoder.config)


def _check_positions(decoder: Decoder, text: _Text) -> None:
    needed, most = int(text.positions(0).max()) + 1, decoder.config.positions
    if needed > most:
        raise ValueError(f"question: {needed} positions are needed, the model was made for {most}; ask in fewer words")
