"""Decides how frames shrink on their way through the decoder: LP-Comp with caches per layer (spec §7).

Prefix and video are causal and come before any question, so they run once (`prefill`); every question, and every
generated token, then runs against the layers' caches (`extend`). Both together are exactly one long prefill.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from standwatch.compression.decoder import DecoderLayer, LayerCache, Observer, RmsNorm, Rotary
from standwatch.compression.schedule import Schedule, runnable_schedule
from standwatch.configs.schema import LanguageConfig


@dataclass(frozen=True)
class VideoLayout:
    """Where the video lies in a layer's sequence: `prefix` tokens, then `frames` groups of n tokens, then text."""

    prefix: int
    frames: int
    tokens_by_layer: tuple[int, ...]

    def text_start(self, layer: int) -> int:
        return self.prefix + self.frames * self.tokens_by_layer[layer]


class DecoderCache:
    """What every layer remembers of one sequence. `lengths` is its whole position, and can be rewound."""

    def __init__(self, layers: list[LayerCache], rotary: Rotary, layout: VideoLayout) -> None:
        self.layers = layers
        self.rotary = rotary
        self.layout = layout

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(layer.length for layer in self.layers)

    @property
    def room(self) -> int:
        """Positions that can still be appended; the same in every layer."""
        return self.layers[0].room

    def rewind(self, lengths: tuple[int, ...]) -> None:
        """Forget what was appended after `lengths` was read."""
        for layer, length in zip(self.layers, lengths, strict=True):
            assert length <= layer.length, "a cache can only be rewound to a place it has passed"
            layer.length = length


class Decoder(nn.Module):
    """The language model. Sequences are single, [S, D]; the head is tied to the embedding.

    Raises ValueError if the schedule would drop tokens before the first layer (too few layers).
    """

    def __init__(self, config: LanguageConfig, tokens_per_frame: int, keep: str) -> None:
        super().__init__()
        self.config = config
        self.schedule: Schedule = runnable_schedule(config.layers, tokens_per_frame, keep)
        self.embed_tokens = nn.Embedding(config.vocab, config.width)
        self.layers = nn.ModuleList(DecoderLayer(config, index) for index in range(config.layers))
        self.norm = RmsNorm(config.width, config.rms_eps)

    def embed(self, ids: list[int]) -> Tensor:
        """Token ids -> [m, D]. ValueError for an id outside the vocabulary."""
        if ids and not 0 <= min(ids) <= max(ids) < self.config.vocab:
            raise ValueError(f"token ids must be within 0..{self.config.vocab - 1}, got {min(ids)}..{max(ids)}")
        weight = self.embed_tokens.weight
        return weight[torch.tensor(ids, dtype=torch.long, device=weight.device)]

    def logits(self, hidden: Tensor) -> Tensor:
        """Final hidden states [m, D] -> float32 [m, vocab]."""
        return (hidden @ self.embed_tokens.weight.T).float()

    def prefill(self, prefix: Tensor, video: Tensor, room: int) -> tuple[Tensor, DecoderCache]:
        """Run prefix [P, D] and video [F, n, D], leaving `room` further positions in every layer's cache.

        Returns the normed final hidden states [P + F*n_last, D] and the cache. ValueError if n is not the schedule's.
        """
        if video.shape[1] != self.schedule.tokens_per_frame:
            raise ValueError(
                f"video has {video.shape[1]} tokens per frame, this decoder's schedule starts at "
                f"{self.schedule.tokens_per_frame}"
            )
        cache = self._empty_cache(VideoLayout(len(prefix), len(video), self.schedule.tokens_by_layer), room)
        rows = torch.cat((prefix, video.flatten(0, 1)))  # [P + F*n, D]
        for index, layer in enumerate(self.layers):
            if index in self.schedule.drop_steps:
                rows = self._drop(rows, index, cache.layout)
            rows = layer(rows, cache.layers[index], cache.rotary, None)
        hidden: Tensor = self.norm(rows)
        return hidden, cache

    def extend(self, cache: DecoderCache, rows: Tensor, observe: Observer | None = None) -> Tensor:
        """Run rows [m, D] behind all that `cache` holds; returns their normed final hidden states [m, D].

        A row's position in layer l is that layer's current length, whatever was dropped before (spec §7.4).
        Raises ValueError if the cache was made with less room.
        """
        if len(rows) > cache.room:
            raise ValueError(f"the cache has room for {cache.room} more rows, got {len(rows)}: prefill with more room")
        for layer, layer_cache in zip(self.layers, cache.layers, strict=True):
            rows = layer(rows, layer_cache, cache.rotary, observe)
        hidden: Tensor = self.norm(rows)
        return hidden

    def _empty_cache(self, layout: VideoLayout, room: int) -> DecoderCache:
        like = self.embed_tokens.weight
        capacities = [layout.text_start(layer) + room for layer in range(self.config.layers)]
        caches = [LayerCache(self.config, capacity, like) for capacity in capacities]
        rotary = Rotary(max(capacities), self.config.head_dim, self.config.rope_theta, like)
        return DecoderCache(caches, rotary, layout)

    def _drop(self, rows: Tensor, layer: int, layout: VideoLayout) -> Tensor:
        """Copy the survivors of every frame; prefix rows stay. [P + F*n, D] -> [P + F*n', D]."""
        prefix, video = rows[: layout.prefix], rows[layout.prefix :]
        places = list(self.schedule.survivors(layer))
        groups = torch.unflatten(video, 0, (layout.frames, layout.tokens_by_layer[layer - 1]))  # [F, n, D]
        return torch.cat((prefix, groups[:, places].flatten(0, 1)))
