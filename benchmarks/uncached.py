"""The path that questions are held against: prefix, video and text run through the decoder in one go, for one question.

What a system pays that keeps nothing: LP-Comp over all frames again. It is written as well as the product itself, from
the product's own layers, so that what is left is what keeping saves: one pass, text at the end of the same rows, causal
attention without a mask, scores from the pass's own queries and keys in the same layers, nothing after the last layer
scored if only scores are wanted, and logits of the last row alone.

`short_sequences` scores a window as the reference does instead (spec §8): from the rows that go into a layer it makes
[prefix | window | text] at positions of its own, for every window, and runs that through the layer's norm, projections
and attention without a mask. The reference runs the rest of the layer too, of all rows, and discards it: `to_the_end`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.models import schedule
from standwatch.compression.decoder import DecoderLayer
from standwatch.compression.frame_sampling import GROUP
from standwatch.compression.lpcomp import Decoder
from standwatch.compression.qcomp import Asking, Keys, QueryRows, ScoreType, whole_scores, window_scores


class Uncached:
    """One pass over [prefix | video | text] that scores in `layers`, and gives logits unless it `only_scores`."""

    def __init__(self, decoder: Decoder, layers: range, score_type: ScoreType, *, only_scores: bool) -> None:
        self._decoder, self._layers, self._score_type = decoder, layers, score_type
        self._only_scores = only_scores

    @torch.inference_mode()
    def __call__(self, prefix: Tensor, video: Tensor, text: Tensor, asking: QueryRows) -> tuple[Tensor, Tensor | None]:
        """Scores [layers, clips] of video [F, n, D], and logits [vocab]."""
        first, frames, kept = len(prefix), len(video), schedule()
        rows, scores = torch.cat((prefix, video.flatten(0, 1), text)), []
        for index, layer in enumerate(self._decoder.stack):
            n = kept.tokens_by_layer[index]
            if index in kept.drop_steps:
                groups = torch.unflatten(rows[first : len(rows) - len(text)], 0, (frames, -1))
                rows = torch.cat((rows[:first], groups[:, -n:].flatten(0, 1), rows[len(rows) - len(text) :]))
            cos, sin = self._decoder.rotary.at([(0, len(rows))], rows)
            queries, keys, values = layer.project(rows, cos, sin)
            if index in self._layers:
                scores.append(self._scores(queries, keys, first, frames, n, asking))
                if self._only_scores and index == self._layers[-1]:
                    return torch.stack(scores), None
            rows = layer.finish(rows, _attend(queries, keys, values, causal=True))
        last: Tensor = self._decoder.norm(rows[-1:])
        return torch.stack(scores), self._decoder.logits(last)[0]

    def _scores(self, queries: Tensor, keys: Tensor, first: int, frames: int, n: int, rows: QueryRows) -> Tensor:
        end, count = first + frames * n, rows.stop - rows.start
        words = torch.ones(count, keys.shape[1] - end, dtype=torch.bool)
        if self._score_type.window:
            words[:, rows.stop :] = False  # the answer's header
        asking = Asking(
            queries[:, end + rows.start : end + rows.stop].float(), words, torch.full((1, count), 1 / count)
        )
        held = Keys(keys[:, :first].float(), keys[:, first:end].float(), keys[:, end:].float(), n, end)
        if self._score_type.window:
            return window_scores(asking, held, self._score_type, self._decoder.config)[0]
        return whole_scores(asking, held, 0)[0]


class ShortSequences:
    """Scores of windows as the reference computes them, from the rows that go into a layer."""

    def __init__(self, decoder: Decoder, score_type: ScoreType, *, to_the_end: bool) -> None:
        self._decoder, self._score_type, self._to_the_end = decoder, score_type, to_the_end

    @torch.inference_mode()
    def __call__(self, layer: DecoderLayer, prefix: Tensor, video: Tensor, text: Tensor, rows: QueryRows) -> Tensor:
        """Scores [clips] from prefix [P, D], video [F, n, D] and the text short of the answer's header."""
        clips = len(video) // GROUP
        starts = self._score_type.window_starts(clips)
        total, covered = video.new_zeros(clips), video.new_zeros(clips)
        for start in starts:
            inside = slice(start, start + self._score_type.window)
            window = video[inside.start * GROUP : inside.stop * GROUP].flatten(0, 1)
            short = torch.cat((prefix, window, text))
            total[inside] += self._window(layer, short, len(prefix), len(window), rows)
            covered[inside] += 1
        return total / covered

    def _window(self, layer: DecoderLayer, short: Tensor, first: int, size: int, rows: QueryRows) -> Tensor:
        cos, sin = self._decoder.rotary.at([(0, len(short))], short)
        queries, keys, values = layer.project(short, cos, sin)
        if self._to_the_end:
            layer.finish(short, _attend(queries, keys, values, causal=False))
        asking = queries[:, first + size + rows.start : first + size + rows.stop]
        grouped = torch.unflatten(asking * asking.shape[-1] ** -0.5, 0, (len(keys), -1))
        weight = (grouped @ keys[:, None].transpose(-1, -2)).softmax(-1)  # [Hkv, G, A, S]
        by_key = weight[..., first : first + size].mean((0, 1, 2))
        return torch.unflatten(by_key, 0, (self._score_type.window, -1)).mean(-1)


def _attend(queries: Tensor, keys: Tensor, values: Tensor, *, causal: bool) -> Tensor:
    return F.scaled_dot_product_attention(queries[None], keys[None], values[None], is_causal=causal, enable_gqa=True)[0]
