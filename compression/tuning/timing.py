"""Decides how words that have found their frames learn to tell when these were.

What of two events was first follows from when each was. Words that look at the right frames see what is there, and
hardly learn by answering to bring along where in the video that is: an answer about order is one word, and right half
of the time for whoever guesses. The renderer knows it of every look, so two thirds of the way up the last row of its
words is to tell it, along one direction for all, the one from the word "before" to the word "after", in which the
layers that follow can compare.
"""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

from standwatch.compression.labels import Sample
from standwatch.compression.schedule import Schedule
from standwatch.compression.training import Heard

_MOMENT = 3  # frames; what takes longer has no one place
_VIDEO = 4  # frames; fewer have hardly an early and a late
_CHANCE = 1 / 3  # mean square of places drawn evenly from -1 to 1
_EARLY, _LATE = " before", " after"


def later_of(embedding: Tensor, encode: Callable[[str], Sequence[int]]) -> Tensor:
    """The direction [D], of length 1, in which later is told, from the model's embedding [V, D]."""
    early, late = (embedding[list(encode(word))].float().mean(0) for word in (_EARLY, _LATE))
    return F.normalize(late - early, dim=0)


class Timekeeper:
    """Hears the rows of a forward pass over some samples, and what it costs that looks at a moment do not tell when.

    Along `later` [D] (`later_of`) a row, normed, is to have its place: -1 at the start of the frames that its text
    sees, 1 at their end.
    """

    def __init__(self, samples: Sequence[Sample], schedule: Schedule, later: Tensor) -> None:
        self._samples, self._schedule, self._later = samples, schedule, later
        self._layer = schedule.layers * 2 // 3
        self._cost = later.new_zeros(())

    def hear(self, heard: Heard) -> None:
        """Of the layer that counts, what all samples' rows have come to."""
        if heard.layer != self._layer:
            return
        n, start = self._schedule.tokens_by_layer[heard.layer], 0
        telling: list[int] = []
        places: list[float] = []
        for sample in self._samples:
            seen = sample.layout.frames - sample.layout.context
            for look in sample.looks:
                if seen >= _VIDEO and len(look.frames) <= _MOMENT:
                    telling.append(start + sample.looking(look, n).stop - 1)
                    places.append((2 * sum(look.frames) / len(look.frames) + 1) / seen - 1)
            start += sample.layout.rows(n)
        if telling:
            told = F.layer_norm(heard.rows[telling].float(), self._later.shape) @ self._later
            self._cost = F.mse_loss(told, told.new_tensor(places)) / _CHANCE

    def cost(self) -> Tensor:
        """Of a look at a moment on average, 1 for who always says the middle; 0 where there was none."""
        return self._cost
