"""Decides how many tokens, and which, of every frame each decoder layer still sees (spec §7.1-7.3)."""

import math
from dataclasses import dataclass
from functools import lru_cache

SUFFIX = "suffix"
UNIFORM = "uniform"


@dataclass(frozen=True)
class Schedule:
    """Token numbers (1-based, of one frame) that survive each step; `kept[0]` is all of them.

    Step i runs right before layer i (0-based), that is after layer i-1, so layer l sees `kept[l + 1]`.
    """

    kept: tuple[tuple[int, ...], ...]
    behind: int = 0  # layers of the decoder behind its last one, where it ends early

    @property
    def layers(self) -> int:
        return len(self.kept) - 1

    @property
    def tokens_per_frame(self) -> int:
        return len(self.kept[0])

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens per frame after step 0..layers."""
        return tuple(len(numbers) for numbers in self.kept)

    @property
    def drop_steps(self) -> tuple[int, ...]:
        """Steps i at which list i+1 is shorter than list i; a decoder cannot run with 0 among them."""
        return tuple(i for i in range(self.layers) if len(self.kept[i]) != len(self.kept[i + 1]))

    @property
    def tokens_by_layer(self) -> tuple[int, ...]:
        """Tokens per frame that layer 0..layers-1 sees."""
        return self.lengths[1:]

    def first(self, layers: int) -> "Schedule":
        """The same, ended behind that many layers."""
        return Schedule(self.kept[: layers + 1], self.behind + self.layers - layers)

    def survivors(self, layer: int) -> tuple[int, ...]:
        """0-based places, within a frame's tokens as layer-1 saw them, that layer `layer` still sees."""
        before, after = self.kept[layer], set(self.kept[layer + 1])
        return tuple(place for place, number in enumerate(before) if number in after)


@lru_cache(maxsize=32)
def build_schedule(layers: int, tokens_per_frame: int, keep: str) -> Schedule:
    """The cosine schedule from `tokens_per_frame` to 1 over `layers` layers (spec §7.1).

    `keep` is "suffix" (the last tokens of each frame, the released model) or "uniform" (spread over the frame).
    """
    if layers < 1 or tokens_per_frame < 1:
        raise ValueError(
            f"a schedule needs layers and tokens_per_frame of at least 1, not {layers} and {tokens_per_frame}"
        )
    lists = [tuple(range(1, tokens_per_frame + 1))]
    for step in range(1, layers + 1):
        lists.append(_thinned(lists[-1], _target_length(step, layers, tokens_per_frame), tokens_per_frame))
    if keep == SUFFIX:
        lists = [tuple(range(tokens_per_frame - len(numbers) + 1, tokens_per_frame + 1)) for numbers in lists]
    elif keep != UNIFORM:
        raise ValueError(f"keep: {keep!r} is neither 'suffix' nor 'uniform'")
    return Schedule(tuple(lists))


def runnable_schedule(layers: int, tokens_per_frame: int, keep: str) -> Schedule:
    """`build_schedule`, refused with ValueError if it would drop tokens before the first layer (spec §7.2)."""
    schedule = build_schedule(layers, tokens_per_frame, keep)
    if 0 in schedule.drop_steps:
        deep_enough = layers + 1
        while 0 in build_schedule(deep_enough, tokens_per_frame, keep).drop_steps:
            deep_enough += 1
        raise ValueError(
            f"layers: {layers} decoder layers are too few for tokens_per_frame={tokens_per_frame}, tokens would be "
            f"dropped before the first layer; use at least {deep_enough} layers or fewer tokens per frame"
        )
    return schedule


def _target_length(step: int, layers: int, tokens_per_frame: int) -> int:
    """Half a cosine from all tokens to one, rounded half up."""
    return 1 + int((tokens_per_frame - 1) * 0.5 * (1 + math.cos(math.pi * step / layers)) + 0.5)


def _thinned(numbers: tuple[int, ...], length: int, tokens_per_frame: int) -> tuple[int, ...]:
    while len(numbers) > length:
        without = [numbers[:i] + numbers[i + 1 :] for i in range(len(numbers))]
        numbers = min(without, key=lambda rest: _unevenness(rest, tokens_per_frame))  # min keeps the earliest
    return numbers


def _unevenness(numbers: tuple[int, ...], tokens_per_frame: int) -> float:
    """Squared distance from an even spacing. The reference never scores the last number, hence range(1, n)."""
    count = len(numbers)
    return sum((tokens_per_frame * j / count - numbers[j - 1]) ** 2 for j in range(1, count))
