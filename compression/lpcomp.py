"""Decides how frames shrink on their way through the decoder: LP-Comp, built append-only (spec §7, §14).

Prefix and frames are causal and stand before any question, so they run once, in any number of pieces: a frame that
comes later takes the position that it would have had, layer by layer. A piece costs its own rows, and attention over
what is there. Many sequences go through as one batch of rows although each has its own length: only attention knows
which row belongs to whom.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from standwatch.compression.attention import Sight, attend
from standwatch.compression.decoder import DecoderLayer, RmsNorm, Rotary
from standwatch.compression.schedule import Schedule
from standwatch.compression.videocache import VideoCache
from standwatch.configs.schema import LanguageConfig


@dataclass(frozen=True, eq=False)
class Appended:
    """What came of frames appended to some caches: the caches after them, and states behind the last layer, normed.

    `prefix` [P, D] is None unless a cache was empty before; `frames` has [F, n_last, D] for each cache.
    """

    caches: list[VideoCache]
    prefix: Tensor | None
    frames: list[Tensor]


class Decoder(nn.Module):
    """The language model. The head is tied to the embedding. Rows are [R, D]; there is no batch dimension."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.config = config
        self.rotary = Rotary(config.head_dim, config.rope_theta)
        self.embed_tokens = nn.Embedding(config.vocab, config.width)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.norm = RmsNorm(config.width, config.rms_eps)

    @property
    def stack(self) -> list[DecoderLayer]:
        """The layers, first to last."""
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def embed(self, ids: Sequence[int]) -> Tensor:
        """Token ids -> [m, D]. ValueError for an id outside the vocabulary."""
        if ids and not 0 <= min(ids) <= max(ids) < self.config.vocab:
            raise ValueError(f"token ids must be within 0..{self.config.vocab - 1}, got {min(ids)}..{max(ids)}")
        weight = self.embed_tokens.weight
        return weight[torch.tensor(ids, dtype=torch.long, device=weight.device)]

    def logits(self, hidden: Tensor) -> Tensor:
        """Final hidden states [m, D] -> float32 [m, vocab]."""
        return (hidden @ self.embed_tokens.weight.T).float()

    def empty(self, schedule: Schedule, prefix: Tensor, capacity: int, room: int = 0) -> VideoCache:
        """A cache without frames. ValueError if the schedule is another model's, or for too many positions.

        Under a schedule that ends before the last layer frames run as far as it, and nothing can be asked about them.
        """
        made_for = schedule.layers + schedule.behind
        if made_for != self.config.layers:
            raise ValueError(f"schedule: is of {made_for} layers, this decoder has {self.config.layers}")
        return VideoCache.empty(self.config, schedule, prefix, capacity, room)

    def append(self, caches: Sequence[VideoCache], videos: Sequence[Tensor]) -> Appended:
        """Run new frames [F, n, D] of each cache behind those it holds; the same as if all had come at once.

        The caches share one schedule, and those without frames one prefix. Raises ValueError for frames of another
        shape, for more than a cache has capacity for, and if text stands in the way.
        """
        _check(caches, videos)
        schedule = caches[0].schedule
        newborn = next((cache for cache in caches if not cache.started), None)
        prefix = 0 if newborn is None else len(newborn.prefix)
        frames = [len(video) for video in videos]
        rows = torch.cat([video.flatten(0, 1) for video in videos])
        if newborn is not None:  # one run of the prefix serves all
            rows = torch.cat((newborn.prefix, rows))
        for index, layer in enumerate(self.stack[: schedule.layers]):
            if index in schedule.drop_steps:
                rows = drop(rows, prefix, schedule, index)
            counts = [count * schedule.tokens_by_layer[index] for count in frames]
            spans = [(cache.length(index) or len(cache.prefix), n) for cache, n in zip(caches, counts, strict=True)]
            cos, sin = self.rotary.at([(0, prefix), *spans] if prefix else spans, rows)
            projected = layer.project(rows, cos, sin)
            sights = _remember(caches, index, prefix, counts, *projected)
            rows = layer.finish(rows, _in_rows(attend(sights), caches, prefix))
        hidden: Tensor = self.norm(rows)
        by_frame = torch.split(torch.unflatten(hidden[prefix:], 0, (sum(frames), -1)), frames)
        return Appended(
            [replace(cache, frames=cache.frames + count) for cache, count in zip(caches, frames, strict=True)],
            hidden[:prefix] if prefix else None,
            list(by_frame),
        )

    def prefill(self, schedule: Schedule, prefix: Tensor, video: Tensor, room: int = 0) -> VideoCache:
        """The cache of a whole video [F, n, D] in one go, with room for that many rows of text."""
        return self.append([self.empty(schedule, prefix, max(1, len(video)), room)], [video]).caches[0]

    def extend(self, cache: VideoCache, rows: Tensor) -> tuple[Tensor, VideoCache]:
        """Write text rows [m, D] behind all that `cache` holds; their normed final states [m, D], and the cache then.

        A row's position in layer l is that layer's own length, whatever was dropped before (spec §7.4).
        Raises ValueError if the cache was made with less room, if it holds no frames yet, and if its schedule ends
        before the last layer.
        """
        cache.check_readable()
        if not cache.started:
            raise ValueError("frames: the cache holds none, and its prefix runs with the first; add some before text")
        left = cache.room - cache.text
        if len(rows) > left:
            raise ValueError(f"rows: the cache has room for {left} more, got {len(rows)}; make it with more room")
        for index, layer in enumerate(self.stack):
            start, end = cache.length(index), cache.length(index) + len(rows)
            cos, sin = self.rotary.at([(start, len(rows))], rows)
            queries, keys, values = layer.project(rows, cos, sin)
            cache.keys[index][:, start:end] = keys
            cache.values[index][:, start:end] = values
            sight = Sight(queries, cache.keys[index][:, :end], cache.values[index][:, :end])
            rows = layer.finish(rows, attend([sight])[0])
        hidden: Tensor = self.norm(rows)
        return hidden, replace(cache, text=cache.text + len(hidden))


def _check(caches: Sequence[VideoCache], videos: Sequence[Tensor]) -> None:
    if not caches or len(caches) != len(videos):
        raise ValueError(f"caches and videos must pair up, at least one of each; got {len(caches)} and {len(videos)}")
    schedule = caches[0].schedule
    wanted = schedule.tokens_per_frame, caches[0].prefix.shape[1]
    newborn = [cache for cache in caches if not cache.started]
    for cache, video in zip(caches, videos, strict=True):
        if cache.schedule != schedule:
            raise ValueError("schedule: caches of different schedules cannot run as one batch")
        if video.dim() != 3 or video.shape[1:] != wanted or not len(video):
            raise ValueError(
                f"video: must be [F, {wanted[0]}, {wanted[1]}] with F of at least 1, the schedule starts at "
                f"{wanted[0]} tokens per frame; got {list(video.shape)}"
            )
        if cache.text:
            raise ValueError("text: frames cannot come after text; go back to `first(frames)`")
        if cache.frames + len(video) > cache.capacity:
            raise ValueError(f"frames: {cache.frames} and {len(video)} more exceed the capacity of {cache.capacity}")
    if any(cache.prefix is not newborn[0].prefix and not cache.prefix.equal(newborn[0].prefix) for cache in newborn):
        raise ValueError("prefix: caches that begin together must begin alike")


def drop(rows: Tensor, prefix: int, schedule: Schedule, layer: int) -> Tensor:
    """Copy the survivors of every frame; prefix rows stay. [P + F*n, D] -> [P + F*n', D]."""
    groups = torch.unflatten(rows[prefix:], 0, (-1, schedule.tokens_by_layer[layer - 1]))  # [F, n, D]
    places = schedule.survivors(layer)
    first, count = places[0], len(places)
    # A run of neighbours, as with suffixes, is a slice; a list of places is a slow gather.
    kept = groups[:, first : first + count] if places[-1] - first == count - 1 else groups[:, list(places)]
    return torch.cat((rows[:prefix], kept.flatten(0, 1))) if prefix else kept.flatten(0, 1)


def _remember(
    caches: Sequence[VideoCache],
    layer: int,
    prefix: int,
    counts: Sequence[int],
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
) -> list[Sight]:
    """Put the new rows' keys and values into their caches; who sees what then."""
    sights, row = [], prefix
    for cache, count in zip(caches, counts, strict=True):
        own = slice(row, row + count)
        stored_keys, stored_values = cache.keys[layer], cache.values[layer]
        start = cache.length(layer)
        asking = queries[:, own]
        if not cache.started:
            stored_keys[:, :prefix], stored_values[:, :prefix] = keys[:, :prefix], values[:, :prefix]
            start = prefix
            # With the prefix among them queries and keys are as many, which the causal kernel needs no mask for.
            asking = queries[:, : own.stop] if row == prefix else torch.cat((queries[:, :prefix], asking), 1)
        end = start + count
        stored_keys[:, start:end], stored_values[:, start:end] = keys[:, own], values[:, own]
        sights.append(Sight(asking, stored_keys[:, :end], stored_values[:, :end]))
        row += count
    return sights


def _in_rows(attended: Sequence[Tensor], caches: Sequence[VideoCache], prefix: int) -> Tensor:
    """What every row attended to, in the order of the rows: the prefix once, then each cache's frames."""
    if len(attended) == 1:
        return attended[0]
    parts = [part if cache.started else part[:, prefix:] for part, cache in zip(attended, caches, strict=True)]
    if prefix:
        first = next(part for part, cache in zip(attended, caches, strict=True) if not cache.started)
        parts.insert(0, first[:, :prefix])
    return torch.cat(parts, 1)
