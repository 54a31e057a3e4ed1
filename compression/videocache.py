"""Decides what is kept of a video that the decoder has seen: keys and values of every layer, at its own length (§7.4).

Layer l holds P rows of prefix, then n_l rows of each frame, then rows of text if any were written behind them.
A `VideoCache` is a view: appending gives a new one over the same storage, and older ones go on seeing what they saw.
So a step that fails leaves nothing behind, an earlier moment of a feed costs nothing, and only the newest view of a
storage may be appended to.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from standwatch.compression.schedule import Schedule
from standwatch.configs.schema import LanguageConfig


@dataclass(frozen=True, eq=False)
class VideoCache:
    """Prefix and frames of one sequence as every layer knows them, in storage for `capacity` frames and `room` rows."""

    schedule: Schedule
    prefix: Tensor  # [P, D]; runs together with the first frames
    keys: tuple[Tensor, ...]  # of each layer [Hkv, P + capacity * n_l + room, hd], rotated
    values: tuple[Tensor, ...]
    capacity: int
    room: int
    frames: int = 0
    text: int = 0

    @classmethod
    def empty(
        cls, config: LanguageConfig, schedule: Schedule, prefix: Tensor, capacity: int, room: int = 0
    ) -> "VideoCache":
        """Storage for frames to come, on the prefix's device and in its precision.

        Raises ValueError if that many positions are more than the model was made for.
        """
        if capacity < 1 or room < 0:
            raise ValueError(f"capacity: {capacity} frames and room {room} are not at least 1 and 0")
        longest = len(prefix) + capacity * schedule.tokens_per_frame + room
        if longest > config.positions:
            most = (config.positions - len(prefix) - room) // schedule.tokens_per_frame
            raise ValueError(
                f"frames: {capacity} of {schedule.tokens_per_frame} tokens need {longest} positions, the model was "
                f"made for {config.positions}; read at most {most} frames at once"
            )
        shapes = [
            (config.kv_heads, len(prefix) + capacity * n + room, config.head_dim) for n in schedule.tokens_by_layer
        ]
        keys, values = (tuple(prefix.new_empty(shape) for shape in shapes) for _ in range(2))
        return cls(schedule, prefix, keys, values, capacity, room)

    @property
    def started(self) -> bool:
        """Whether the prefix has run; it does with the first frames."""
        return self.frames > 0

    @property
    def nbytes(self) -> int:
        """Bytes of the storage of all layers, used or not."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    @property
    def lengths(self) -> tuple[int, ...]:
        """Rows that each layer holds, which is the position of the next one there."""
        return tuple(self.length(layer) for layer in range(len(self.keys)))

    def length(self, layer: int) -> int:
        return self.text_start(layer) + self.text if self.started else 0

    def text_start(self, layer: int) -> int:
        """Where text stands in this layer: behind prefix and frames."""
        return len(self.prefix) + self.frames * self.schedule.tokens_by_layer[layer]

    def check_readable(self) -> None:
        """Raise ValueError where frames ran through the first layers only: text needs all."""
        if self.schedule.behind:
            raise ValueError(
                f"schedule: ends {self.schedule.behind} layers before the decoder does, so no text can be read behind "
                "its frames; use one of all layers"
            )

    def first(self, frames: int) -> "VideoCache":
        """The cache as it was after its first frames, without text; nothing is copied."""
        assert 1 <= frames <= self.frames, "a cache can only go back to a place it has passed"
        return replace(self, frames=frames, text=0)

    def with_room(self, room: int) -> "VideoCache":
        """A copy in storage of its own, of just these frames, with room for that many rows of text."""
        keys, values = (
            tuple(
                torch.cat((own[:, : self.length(layer)], own.new_empty(own.shape[0], room, own.shape[2])), 1)
                for layer, own in enumerate(tensors)
            )
            for tensors in (self.keys, self.values)
        )
        return replace(self, keys=keys, values=values, capacity=self.frames, room=room + self.text)

    def save(self) -> dict[str, Tensor]:
        """What `restore` needs, without the storage that is still unused. ValueError while text stands in it."""
        if self.text:
            raise ValueError("text: only prefix and frames can be saved; go back to `first(frames)`")
        saved = {"prefix": self.prefix, "frames": torch.tensor(self.frames)}
        for layer in range(len(self.keys)):
            saved[f"keys.{layer}"] = self.keys[layer][:, : self.length(layer)].clone()
            saved[f"values.{layer}"] = self.values[layer][:, : self.length(layer)].clone()
        return saved

    @classmethod
    def restore(
        cls, saved: Mapping[str, Tensor], config: LanguageConfig, schedule: Schedule, capacity: int
    ) -> "VideoCache":
        """The cache that was saved, in new storage. ValueError if it is of another shape or too long for it."""
        if missing := [name for name in ("prefix", "frames") if name not in saved]:
            raise ValueError(f"{missing[0]}: is not among what was saved; restore what `save` gave")
        empty = cls.empty(config, schedule, saved["prefix"], capacity)
        restored = replace(empty, frames=int(saved["frames"]))
        if restored.frames > capacity:
            raise ValueError(f"capacity: {capacity} frames cannot hold the {restored.frames} saved ones")
        for layer, length in enumerate(restored.lengths):
            for name, storage in (("keys", restored.keys[layer]), ("values", restored.values[layer])):
                tensor = saved.get(f"{name}.{layer}")
                wanted = (storage.shape[0], length, storage.shape[2])
                if tensor is None or tensor.shape != wanted or f"{name}.{len(restored.keys)}" in saved:
                    found = "nothing" if tensor is None else list(tensor.shape)
                    raise ValueError(f"{name}.{layer}: saved is {found}, this model needs {list(wanted)}")
                storage[:, :length] = tensor
        return restored
