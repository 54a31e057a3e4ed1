"""Decides how relevant every group of frames is to a question, inside the decoder's layers: QC-Comp (spec §8).

The question's rows attend without any mask over [prefix | frames | text]; a clip's score is the mean weight its tokens
receive. Rotated queries and keys of the forward itself are reused: moving a window to another position is one
rotation of the queries, because rotary attention depends on distances only (spec §14).
"""

import re
from collections.abc import Container
from dataclasses import dataclass

import torch
from torch import Tensor

from standwatch.compression.decoder import rotary_frequencies, rotate
from standwatch.compression.frame_sampling import GROUP
from standwatch.compression.lpcomp import VideoLayout
from standwatch.configs.schema import LanguageConfig

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


class ClipScorer:
    """An `Observer` of the decoder that collects one score per clip and layer while the question runs.

    The rows given to one `extend` call must include all of `rows`. After it, `scores[layer]` is float32 [clips];
    "default" scores a shorter last clip too, segments only whole clips.
    """

    def __init__(
        self,
        config: LanguageConfig,
        layout: VideoLayout,
        rows: QueryRows,
        score_type: ScoreType,
        layers: Container[int],
    ) -> None:
        self.scores: dict[int, Tensor] = {}
        self._frequencies = rotary_frequencies(config.head_dim, config.rope_theta, torch.float64)
        self._layout = layout
        self._rows = rows
        self._type = score_type
        self._layers = layers

    def __call__(self, layer: int, queries: Tensor, keys: Tensor) -> None:
        if layer not in self._layers:
            return
        behind = keys.shape[1] - self._layout.text_start(layer)  # text rows in the cache
        first = self._rows.start - (behind - queries.shape[1])
        last = self._rows.stop - (behind - queries.shape[1])
        assert 0 <= first < last <= queries.shape[1], "the question must run in one call"
        asking = queries[:, first:last].float()  # [H, R, hd]
        score = self._whole if self._type.window == 0 else self._windows
        self.scores[layer] = score(layer, asking, keys.float())

    def _whole(self, layer: int, asking: Tensor, keys: Tensor) -> Tensor:
        start, stop = self._layout.prefix, self._layout.text_start(layer)
        weight = _logits(asking, keys).softmax(-1).mean((0, 1))[start:stop]  # [F*n]
        clips = torch.split(weight, GROUP * self._layout.tokens_by_layer[layer])
        return torch.stack([clip.mean() for clip in clips])

    def _windows(self, layer: int, asking: Tensor, keys: Tensor) -> Tensor:
        prefix, text_start = self._layout.prefix, self._layout.text_start(layer)
        clip = GROUP * self._layout.tokens_by_layer[layer]
        window = self._type.window * clip
        clips = self._layout.frames // GROUP
        # Every window stands right behind the prefix, with the text right behind it.
        shift = prefix + window - text_start
        text = _logits(asking, keys[:, text_start : text_start + self._rows.stop])
        before = _logits(self._moved(asking, shift), keys[:, :prefix])
        total, covered = keys.new_zeros(clips), keys.new_zeros(clips)
        for start in self._type.window_starts(clips):
            begin = prefix + start * clip
            inside = _logits(self._moved(asking, shift + start * clip), keys[:, begin : begin + window])
            weight = torch.cat((inside, before, text), -1).softmax(-1)[..., :window].mean((0, 1))  # [window]
            total[start : start + self._type.window] += weight.view(-1, clip).mean(1)
            covered[start : start + self._type.window] += 1
        return torch.where(covered == covered.max(), total / covered, UNCOVERED)

    def _moved(self, asking: Tensor, distance: int) -> Tensor:
        """The same rows standing `distance` positions further (behind, if negative)."""
        angles = distance * self._frequencies  # float64: distances reach tens of thousands of positions
        angles = torch.cat((angles, angles))
        return rotate(asking, angles.cos().to(asking), angles.sin().to(asking))


def _logits(asking: Tensor, keys: Tensor) -> Tensor:
    """Scaled products of queries [H, R, hd] and keys [Hkv, S, hd]: [Hkv, H/Hkv * R, S]."""
    grouped = torch.unflatten(asking, 0, (keys.shape[0], -1)).flatten(1, 2) * asking.shape[-1] ** -0.5
    products: Tensor = grouped @ keys.transpose(1, 2)
    return products
