"""Decides which feeds' open segments a worker goes on holding: those that may still grow."""

from collections.abc import Mapping
from dataclasses import dataclass

from standwatch.compression.segments import OpenSegments


@dataclass(frozen=True)
class _Held:
    state: OpenSegments
    used_s: float


class OpenFeeds:
    """Open segments by feed. A feed that has gone is let go, and with it some megabytes.

    It has gone when its newest frame lies more than a segment behind the newest of all, and nothing came of it for as
    long by the clock. Both must say so, because footage of another day may come beside live feeds. Should it come
    back in the order of time, its frames lie in segments of their own.
    """

    def __init__(self, segment_frames: int, segment_s: float) -> None:
        self._segment_frames, self._segment_s = segment_frames, segment_s
        self._held: dict[str, _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def get(self, feed: str) -> OpenSegments:
        """Of a feed that is not held: the state before its first frame."""
        held = self._held.get(feed)
        return OpenSegments() if held is None else held.state

    def put(self, states: Mapping[str, OpenSegments], now_s: float) -> None:
        """Take the newest states of some feeds, at `now_s` of a clock that does not go back."""
        for feed, state in states.items():
            self._held[feed] = _Held(state, now_s)
        newest = max((held.state.last_slot for held in self._held.values()), default=0)
        self._held = {
            feed: held
            for feed, held in self._held.items()
            if newest - held.state.last_slot <= self._segment_frames or now_s - held.used_s <= self._segment_s
        }

    def clear(self) -> None:
        self._held.clear()
