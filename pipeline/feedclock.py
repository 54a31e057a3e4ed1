"""Decides the wall-clock time of a feed's chunks, and when one is due. No clock inside."""


class FeedClock:
    """Wall-clock times for a live feed whose own times count from anywhere.

    Anchored at the first chunk's arrival; anchored again when the feed's time and arrivals part by more than
    `max_drift_ms` (a reconnect, a camera's reset, a clock that runs fast). Times never go backwards or overlap.
    """

    def __init__(self, not_before_ms: int = 0, max_drift_ms: int = 2_000) -> None:
        """`not_before_ms`: where the feed's time has got to already, before a reconnect."""
        self._max_drift_ms = max_drift_ms
        self._anchor_ms: int | None = None
        self._end_ms = not_before_ms

    def start_ms(self, pts_ms: int, duration_ms: int, arrival_ms: int, waited_ms: int | None = None) -> int:
        """Time of the first frame of a chunk at `pts_ms` of the feed's time, complete at `arrival_ms`.

        `waited_ms`: how long the caller waited for it (None: as long as it took to film). A chunk that came in less
        than half its length had been lying there while the caller was held up: that it is late says nothing.
        """
        taken_ms = arrival_ms - duration_ms
        late_ms = 0 if self._anchor_ms is None else taken_ms - (self._anchor_ms + pts_ms)
        lay_there = waited_ms is not None and 2 * waited_ms < duration_ms
        if self._anchor_ms is None or late_ms < -self._max_drift_ms or (late_ms > self._max_drift_ms and not lay_there):
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
