"""Decides how long to wait before trying again."""

from collections.abc import Callable
from random import random


class Backoff:
    """Waits between attempts: doubling from `first_s` to `cap_s`, each shortened by up to half at random.

    Many feeds that lost the same camera network then do not all come back in the same moment.
    """

    def __init__(self, first_s: float = 1.0, cap_s: float = 60.0, random: Callable[[], float] = random) -> None:
        """`random`: uniform in [0, 1)."""
        self._random = random
        self._first_s, self._cap_s = first_s, cap_s
        self._next_s = first_s

    def next_s(self) -> float:
        """How long to wait before the next attempt."""
        whole_s = self._next_s
        self._next_s = min(self._cap_s, 2 * whole_s)
        return whole_s * (1 - self._random() / 2)

    def reset(self) -> None:
        """An attempt succeeded: the next failure begins with a short wait again."""
        self._next_s = self._first_s
