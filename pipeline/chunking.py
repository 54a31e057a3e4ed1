"""Decides what a chunk is: one init segment and one fragment of it, and whether that may be copied as it is."""

from dataclasses import dataclass

from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.mp4 import Box, Track, boxes, fragments, tracks


@dataclass(frozen=True, slots=True)
class Cut:
    """A fragment made self-contained. Times in the track's timescale."""

    payload: bytes
    track: Track
    first: int  # presentation time of the first presented sample
    duration: int  # to the end of the last presented sample
    samples: int
    starts_at_key: bool
    closed: bool  # nothing is presented before the key frame, so nothing refers to what came before

    @property
    def duration_ms(self) -> int:
        return max(1, round(self.duration * 1000 / self.track.timescale))

    @property
    def fps(self) -> float:
        """Mean frame rate; 1 where a single frame has no duration."""
        return round(self.samples * self.track.timescale / self.duration, 3) if self.duration else 1.0


class FragmentReader:
    """Puts the boxes of a fragmented MP4 of one track together, one box at a time."""

    def __init__(self) -> None:
        self._init = b""
        self._moof = b""
        self._track: Track | None = None

    def add(self, box: bytes) -> Cut | None:
        """Take the next top-level box; returns a cut when one is complete."""
        kind = box[4:8]
        if kind in (b"ftyp", b"moov"):
            self._init += box
        if kind == b"moov":
            (self._track,) = tracks(box, next(boxes(box)))
        elif kind == b"moof":
            self._moof = box
        elif kind == b"mdat" and self._track is not None:
            return self._cut(self._track, box)
        return None

    def _cut(self, track: Track, mdat: bytes) -> Cut | None:
        (fragment,) = fragments(self._moof, Box(b"moof", 0, 8, len(self._moof)), [track])
        presented = fragment.presented
        if not presented:
            return None
        first = min(presented)
        return Cut(
            payload=self._init + self._moof + mdat,
            track=track,
            first=first,
            duration=max(map(sum, zip(presented, fragment.durations, strict=True))) - first,
            samples=len(presented),
            starts_at_key=fragment.starts_at_key,
            closed=presented[0] == first,
        )


def copy_problem(cut: Cut, max_chunk_ms: int, max_record_bytes: int) -> str:
    """Why a cut of the original stream cannot be published as it is; empty where it can."""
    if cut.track.codec not in ("h264", "hevc"):
        return f"codec {cut.track.codec}"
    if not cut.starts_at_key:
        return "key frames too far apart"
    if not cut.closed:
        return "open group of pictures"
    if cut.duration_ms > max_chunk_ms:
        return f"{cut.duration_ms} ms between key frames"
    if len(cut.payload) > max_record_bytes:
        return f"{len(cut.payload)} bytes between key frames"
    return ""


class BoxSplitter:
    """Splits a byte stream into top-level boxes; holds at most one unfinished box."""

    def __init__(self, max_box_bytes: int) -> None:
        self._max_box_bytes = max_box_bytes
        self._held = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; returns the boxes that are complete now, in order."""
        self._held += data
        found = []
        while len(self._held) >= 8:
            size = int.from_bytes(self._held[:4], "big")
            if size == 1 and len(self._held) >= 16:
                size = int.from_bytes(self._held[8:16], "big")
            elif size < 8 and size != 1:
                raise BadInput("source: the stream is no MP4 that can be cut")
            if size > self._max_box_bytes:
                raise BadInput(
                    f"source: {size} bytes between two key frames; lower the camera's bit rate or key frame gap"
                )
            if size == 1 or len(self._held) < size:
                break
            found.append(bytes(self._held[:size]))
            del self._held[:size]
        return found
