"""Decides when: the wall-clock time of a live feed's chunks, when to send one, when to try again. No clock inside."""

from collections.abc import Callable


class FeedClock:
    """Wall-clock times for a live feed whose own times count from anywhere.

    Anchored at the first chunk's arrival; anchored again when the feed's time and arrivals part by more than
    `max_drift_ms` (a reconnect, a camera's reset, a clock that runs fast). Times never go backwards or overlap.
    """

    def __init__(self, max_drift_ms: int = 2_000) -> None:
        self._max_drift_ms = max_drift_ms
        self._anchor_ms: int | None = None
        self._end_ms = 0

    def start_ms(self, pts_ms: int, duration_ms: int, arrival_ms: int) -> int:
        """Time of the first frame of a chunk at `pts_ms` of the feed's time, complete at `arrival_ms`."""
        taken_ms = arrival_ms - duration_ms
        if self._anchor_ms is None or abs(self._anchor_ms + pts_ms - taken_ms) > self._max_drift_ms:
            self._anchor_ms = max(taken_ms, self._end_ms) - pts_ms
        start_ms = max(self._anchor_ms + pts_ms, self._end_ms)
        self._end_ms = start_ms + duration_ms
        return start_ms


class Pace:
    """When the chunks of a recording are due if it is to look live: when their last frame would have been taken."""

    def __init__(self, first_start_ms: int, wall_ms: int) -> None:
        """The chunk that starts at `first_start_ms` began to be filmed, as it were, at `wall_ms`."""
        self._shift_ms = wall_ms - first_start_ms

    def due_ms(self, start_ms: int, duration_ms: int) -> int:
        return start_ms + duration_ms + self._shift_ms


class Backoff:
    """Waits between attempts: doubling from `first_s` to `cap_s`, each shortened by up to half at random.

    Many feeds that lost the same camera network then do not all come back in the same moment.
    """

    def __init__(self, random: Callable[[], float], first_s: float = 1.0, cap_s: float = 60.0) -> None:
        """`random`: uniform in [0, 1)."""
        self._random = random
        self._first_s, self._cap_s = first_s, cap_s
        self._next_s = first_s

    def wait_s(self) -> float:
        """How long to wait before the next attempt."""
        whole_s = self._next_s
        self._next_s = min(self._cap_s, 2 * whole_s)
        return whole_s * (1 - self._random() / 2)

    def reset(self) -> None:
        """An attempt succeeded: the next failure begins with a short wait again."""
        self._next_s = self._first_s
