"""Decides which segments a feed's time is cut into, in which of them each frame is read, and where a replay begins.

Segments lie on the slots of the sampling grid, counted from the epoch, so they do not depend on where reading, writing
or a window began. They overlap by half: with hop = segment_frames / 2, segment k holds the frames with
k * hop <= slot < (k + 2) * hop. A frame in half h = slot // hop belongs to the segments h - 1 and h, and is read in
segment h - 1 whenever that one is at hand: there up to hop frames stand before it.
"""

from standwatch.pipeline.sampling import SampleGrid
from standwatch.pipeline.types import Int64Array, Window


class SegmentGrid:
    """Segments of `segment_frames` slots, an even number. At most one kept frame of a feed lies in a slot."""

    def __init__(self, sample_fps: float, segment_frames: int) -> None:
        if segment_frames < 2 or segment_frames % 2:
            raise ValueError(f"segment_frames: {segment_frames} is not an even number of at least 2; use 64")
        self.sampling = SampleGrid(sample_fps)
        self.hop = segment_frames // 2

    def slots(self, frame_ms: Int64Array) -> Int64Array:
        """The slot of each time; times are within 2**47 ms of the epoch (some thousand years)."""
        return frame_ms * self.sampling.numerator // self.sampling.denominator

    def cover(self, window: Window) -> tuple[int, ...]:
        """Numbers of the segments a window is read in, ascending: each slot of it is in exactly one.

        The last is the one in whose second half the window ends; a window of at most `hop` slots needs no other.
        An empty window has none.
        """
        first, last = self._ends(window)
        return tuple(range(first, last + 1, 2))

    def start_ms(self, number: int) -> int:
        """The first millisecond of a segment."""
        return self.sampling.start_ms(number * self.hop)

    @property
    def segment_ms(self) -> int:
        """How long a segment is, rounded up."""
        return self.start_ms(2)

    def context_from_ms(self, window: Window) -> int:
        """From where on frames are needed to read a window: its own first segment's start, or its own if earlier."""
        first, last = self._ends(window)
        return window.from_ms if first > last else min(window.from_ms, self.start_ms(first))

    def replay_from_ms(self, frame_ms: int) -> int:
        """From where on frames are needed to go on after a feed's last frame: the start of the segment it is read in.

        The next frame is read in that segment or in a later one, which begins later.
        """
        return self.start_ms(self.sampling.slot(frame_ms) // self.hop - 1)

    def _ends(self, window: Window) -> tuple[int, int]:
        """The first and the last segment of a window's cover; the first is above the last when there is none."""
        last = self.sampling.slot(window.to_ms - 1) // self.hop - 1
        if window.from_ms >= window.to_ms:
            return last + 1, last
        more = max(0, last - self.sampling.slot(window.from_ms) // self.hop + 1) // 2
        return last - 2 * more, last
