"""Decides how relevant every group of frames is to a question, inside the decoder's layers: QC-Comp (spec §8, §14).

The question's rows attend without any mask over [prefix | frames | text]; a clip's score is the mean weight that its
tokens receive. What the pass over the text computes anyway is all that is needed: its rotated queries, and the cached
keys of prefix and frames. A window that stands elsewhere is the same keys seen by shifted queries, because rotary
attention depends on distances only.

Not reproduced of the reference (spec §8), since no published number depends on it: a division by zero with fewer
clips than a window has, and NaN scores for a question that leaves no rows; both are errors here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from standwatch.compression.decoder import rotary_frequencies, rotate
from standwatch.compression.frame_sampling import GROUP
from standwatch.configs.schema import LanguageConfig

_MOST_LOGITS = 1 << 19  # held at a time: what goes over them more than once finds them in the cache
UNCOVERED = 1e9  # the score of a clip that too few windows cover; it is no score at all


@dataclass(frozen=True)
class ScoreType:
    """Windows of `window` clips every `stride` clips; a window of 0 stands for the whole sequence at once."""

    window: int
    stride: int

    @classmethod
    def parse(cls, text: str) -> "ScoreType":
        """Read "default" or "segments_A_B"; ValueError unless A is a multiple of B."""
        if text == "default":
            return cls(0, 0)
        match = re.fullmatch(r"segments_(\d+)_(\d+)", text)
        if match is None:
            raise ValueError(f"score type {text!r} is neither 'default' nor 'segments_A_B'")
        window, stride = int(match[1]), int(match[2])
        if window < 1 or stride < 1 or window % stride:
            raise ValueError(f"score type {text!r}: A must be a positive multiple of B")
        return cls(window, stride)

    def window_starts(self, clips: int) -> range:
        """First clip of each window; ValueError if not even one fits."""
        if clips < self.window:
            raise ValueError(f"segments of {self.window} clips need {self.window * GROUP} frames, got {clips} clips")
        return range(0, clips - self.window + 1, self.stride)


@dataclass(frozen=True)
class QueryRows:
    """Rows of the text after the video: rows start..stop-1 ask; what follows `stop` is the assistant's header."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise ValueError(f"the question leaves no rows to score with (rows {self.start}..{self.stop - 1})")


@dataclass(frozen=True, eq=False)
class Asking:
    """The rows that ask, of B questions about one video: row a of A belongs to one question and sees its words only.

    `words` [A, R] is True where row a sees row r of the text; `means` [B, A] averages over a question's rows.
    """

    queries: Tensor  # [H, A, hd], float32, rotated where they stand
    words: Tensor
    means: Tensor


@dataclass(frozen=True, eq=False)
class Keys:
    """What one layer holds, float32 and rotated: prefix [Hkv, P, hd], F' visible frames [Hkv, F'*n, hd], text."""

    prefix: Tensor
    video: Tensor
    text: Tensor  # [Hkv, R, hd], those of the rows that run now
    tokens_per_frame: int
    text_start: int  # position of the first text row


def whole_scores(asking: Asking, keys: Keys, context: int) -> Tensor:
    """ "default": scores [B, clips] over all visible frames at once.

    Clips are counted from the first frame held, of which `context` are not visible: the first clip may be a part of
    one, as the last may. Every clip is scored.
    """
    groups = clip_of(context, keys.video.shape[1] // keys.tokens_per_frame, keys.video.device)
    by_frame = _frame_weights(asking, keys)  # [B, F']
    sums = by_frame.new_zeros(len(by_frame), int(groups[-1]) + 1).index_add_(1, groups, by_frame)
    return sums / groups.bincount()


def clip_of(context: int, frames: int, device: torch.device) -> Tensor:
    """Which clip each visible frame is of, [F'], from 0; `context` frames before them are held and not visible."""
    return (torch.arange(frames, device=device) + context) // GROUP - context // GROUP


def window_scores(asking: Asking, keys: Keys, score_type: ScoreType, config: LanguageConfig) -> Tensor:
    """ "segments_A_B": scores [B, clips] of whole clips, each the mean over the windows that contain it.

    A clip that fewer windows contain than others has `UNCOVERED`. All frames held are visible.
    """
    clip = GROUP * keys.tokens_per_frame
    size = score_type.window * clip
    clips = keys.video.shape[1] // clip
    starts = score_type.window_starts(clips)
    windows = keys.video[:, : clips * clip].unfold(1, size, score_type.stride * clip).transpose(0, 1)
    # Every window [Hkv, hd, size] stands right behind the prefix, with the text right behind it.
    shift = keys.prefix.shape[1] + size - keys.text_start
    total = keys.video.new_zeros(len(asking.means), clips)
    for rows, means, words in _parts(asking, size):
        outside = torch.cat((_logits(_moved(rows, [shift], config)[0], keys.prefix), _text(rows, keys, words)), -1)
        over_heads = _over_heads(means, rows)
        together = max(1, _MOST_LOGITS // (outside[..., 0].numel() * size))
        for at in range(0, len(starts), together):
            some = starts[at : at + together]
            moved = _moved(rows, [shift + start * clip for start in some], config)  # [windows, H, A, hd]
            inside = _grouped(moved, keys.text.shape[0]) @ windows[at : at + together]  # [windows, Hkv, G*A, size]
            weight = torch.cat((outside.expand(len(some), -1, -1, -1), inside), -1).softmax(-1)[..., -size:]
            by_clip = torch.unflatten(weight, -1, (score_type.window, clip)).sum(-1).flatten(1, 2)
            for start, scores in zip(some, over_heads @ by_clip / clip, strict=True):
                total[:, start : start + score_type.window] += scores
    covered = total.new_zeros(clips)
    for start in starts:
        covered[start : start + score_type.window] += 1
    return torch.where(covered == covered.max(), total / covered, UNCOVERED)


def _frame_weights(asking: Asking, keys: Keys) -> Tensor:
    """Mean weight on the tokens of each visible frame, [B, F']."""
    first, count = keys.prefix.shape[1], keys.video.shape[1]
    total = keys.video.new_zeros(len(asking.means), count)
    for rows, means, words in _parts(asking, count):
        parts = _logits(rows, keys.prefix), _logits(rows, keys.video), _text(rows, keys, words)
        weight = torch.cat(parts, -1).softmax(-1)[..., first : first + count]  # [Hkv, G*A, F'*n]
        total += _over_heads(means, rows) @ weight.flatten(0, 1)
    return torch.unflatten(total, -1, (-1, keys.tokens_per_frame)).mean(-1)


def _over_heads(means: Tensor, rows: Tensor) -> Tensor:
    """Averages over the rows [H, A, hd] of each question, and over heads, [B, H * A]."""
    return means.repeat(1, len(rows)) / len(rows)


def _parts(asking: Asking, keys: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Queries, means and words of as many rows at a time as keep the products within reasonable memory."""
    heads, count = asking.queries.shape[:2]
    size = max(1, _MOST_LOGITS // (heads * keys))
    return [
        (asking.queries[:, at : at + size], asking.means[:, at : at + size], asking.words[at : at + size])
        for at in range(0, count, size)
    ]


def _text(rows: Tensor, keys: Keys, words: Tensor) -> Tensor:
    """Logits over the text, [Hkv, G*A, R]: a question does not see the others' words."""
    hidden = torch.zeros_like(words, dtype=rows.dtype).masked_fill_(~words, -torch.inf)
    by_head = torch.unflatten(_logits(rows, keys.text), 1, (-1, rows.shape[1])) + hidden
    return by_head.flatten(1, 2)


def _moved(asking: Tensor, distances: Sequence[int], config: LanguageConfig) -> Tensor:
    """The same rows [H, A, hd] standing each distance further (behind, if negative): [distances, H, A, hd]."""
    # float64: distances reach tens of thousands of positions
    frequencies = rotary_frequencies(config.head_dim, config.rope_theta, torch.float64)
    angles = torch.tensor(distances, dtype=torch.float64)[:, None] * frequencies
    angles = torch.cat((angles, angles), -1)[:, None, None]
    return rotate(asking[None], angles.cos().to(asking), angles.sin().to(asking))


def _grouped(asking: Tensor, kv_heads: int) -> Tensor:
    """Scaled queries [..., H, A, hd] as [..., Hkv, H/Hkv * A, hd]."""
    grouped = torch.unflatten(asking, -3, (kv_heads, -1)).flatten(-3, -2)
    scaled: Tensor = grouped * asking.shape[-1] ** -0.5
    return scaled


def _logits(asking: Tensor, keys: Tensor) -> Tensor:
    """Scaled products of queries [H, A, hd] and keys [Hkv, S, hd]: [Hkv, H/Hkv * A, S]."""
    products: Tensor = _grouped(asking, keys.shape[0]) @ keys.transpose(1, 2)
    return products
