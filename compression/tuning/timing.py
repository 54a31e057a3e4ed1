"""Decides how words that have found their frames learn to tell when these were, and which of two moments was first.

What of two events was first follows from when each was. Words that look at the right frames see what is there, and
hardly learn by answering to bring along where in the video that is: an answer about order is one word, and right half
of the time for whoever guesses. The renderer knows it of every look, so two thirds of the way up the last row of its
words is to tell it, along one direction for all, the one from the word "before" to the word "after".

Yes or no says which was first in a roundabout way: it turns with the moments, and with the words between them. So four
fifths of the way up the row that begins the answer is to tell it along the same direction in one way for all questions:
whether the moment that is named first was before or after the other. That is a difference of what their words tell.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TypeAlias

import torch.nn.functional as F
from torch import Tensor

from standwatch.compression.labels import IGNORED, Look, Sample
from standwatch.compression.schedule import Schedule
from standwatch.compression.training import Heard

_MOMENT = 3  # frames; what takes longer has no one place
_VIDEO = 4  # frames; fewer have hardly an early and a late
_CHANCE = 1 / 3  # mean square of places drawn evenly from -1 to 1
_EARLY, _LATE = " before", " after"

_Told: TypeAlias = Iterator[tuple[int, float]]  # rows of a sample, and what each is to tell


def later_of(embedding: Tensor, encode: Callable[[str], Sequence[int]]) -> Tensor:
    """The direction [D], of length 1, in which later is told, from the model's embedding [V, D]."""
    early, late = (embedding[list(encode(word))].float().mean(0) for word in (_EARLY, _LATE))
    return F.normalize(late - early, dim=0)


class Timekeeper:
    """Hears the rows of a forward pass over some samples, and what it costs that they do not tell when.

    Along `later` [D] (`later_of`) the last row of a look at a moment, normed, is to have its place: -1 at the start of
    the frames that its text sees, 1 at their end. In a text with two such looks the row that begins the answer is to
    have -1 there where the one that stands first in it is at the earlier moment, else 1.
    """

    def __init__(self, samples: Sequence[Sample], schedule: Schedule, later: Tensor) -> None:
        self._samples, self._schedule, self._later = samples, schedule, later
        layers = schedule.layers
        self._told: dict[int, tuple[Callable[[Sample, int], _Told], float]] = {
            layers * 2 // 3: (_places, _CHANCE),
            layers - layers // 5: (_orders, 1.0),
        }
        self._cost = later.new_zeros(())

    def hear(self, heard: Heard) -> None:
        """Of the layers that count, what all samples' rows have come to."""
        if heard.layer not in self._told:
            return
        tell, chance = self._told[heard.layer]
        n, start = self._schedule.tokens_by_layer[heard.layer], 0
        telling: list[int] = []
        wanted: list[float] = []
        for sample in self._samples:
            for row, one in tell(sample, n):
                telling.append(start + row)
                wanted.append(one)
            start += sample.layout.rows(n)
        if telling:
            told = F.layer_norm(heard.rows[telling].float(), self._later.shape) @ self._later
            self._cost = self._cost + F.mse_loss(told, told.new_tensor(wanted)) / chance

    def cost(self) -> Tensor:
        """Of both on average, each 1 for who always says the middle and 0 where there is nothing to tell, together."""
        return self._cost


def _places(sample: Sample, n: int) -> _Told:
    for look in _moments(sample):
        yield sample.looking(look, n).stop - 1, _place(sample, look)


def _orders(sample: Sample, n: int) -> _Told:
    for text, looks in groupby(_moments(sample), lambda look: look.text):
        places = [_place(sample, look) for look in sorted(looks, key=lambda look: look.first)]
        if len(places) == 2 and places[0] != places[1]:
            labels = sample.texts[text].labels
            asked = next(number for number, label in enumerate(labels) if label != IGNORED)
            row = sample.looking(Look(text, 0, asked, ()), n).stop - 1
            yield row, -1.0 if places[0] < places[1] else 1.0


def _moments(sample: Sample) -> list[Look]:
    long_enough = _seen(sample) >= _VIDEO
    return [look for look in sample.looks if long_enough and len(look.frames) <= _MOMENT]


def _place(sample: Sample, look: Look) -> float:
    return (2 * sum(look.frames) / len(look.frames) + 1) / _seen(sample) - 1


def _seen(sample: Sample) -> int:
    return sample.layout.frames - sample.layout.context
