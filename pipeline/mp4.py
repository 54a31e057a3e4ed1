"""Decides what an MP4 holds by its boxes alone: tracks, fragments, sample times. Decodes nothing.

Only what cutting and splicing need is read (ISO/IEC 14496-12). Every length is checked against the bytes that
are there, so that a truncated or damaged file is refused here and not half decoded later.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from standwatch.pipeline.errors import BadInput

_CODECS = {
    b"avc1": "h264",
    b"avc3": "h264",
    b"hvc1": "hevc",
    b"hev1": "hevc",
    b"av01": "av1",
    b"vp09": "vp9",
    b"mp4v": "mpeg4",
    b"mjpg": "mjpeg",
}


_NOT_SYNC = 0x10000  # sample flag: decoding cannot start here


@dataclass(frozen=True, slots=True)
class Box:
    """One box: its bytes are data[start:end], its content data[body:end]."""

    kind: bytes
    start: int
    body: int
    end: int


@dataclass(frozen=True, slots=True)
class Track:
    """What the init segment says of a track. Width and height are those of the pictures as coded."""

    track_id: int
    kind: bytes  # b"vide", b"soun", ...
    timescale: int
    codec: str  # "h264", "hevc", ...; the four letters of the sample entry where it is none that we know
    width: int
    height: int
    default_duration: int  # of a sample in a fragment, in the timescale; 0 where none is given
    default_size: int
    default_flags: int


@dataclass(frozen=True, slots=True)
class Fragment:
    """The samples of one track in one moof, in the order of decoding. Times in the track's timescale."""

    track_id: int
    decode_time: int
    durations: tuple[int, ...]
    offsets: tuple[int, ...]  # presentation time minus decode time
    sizes: tuple[int, ...]
    starts_at_key: bool
    absolute: bool  # sample positions count from the beginning of the file: the fragment cannot be moved

    @property
    def presented(self) -> tuple[int, ...]:
        """Presentation time of each sample."""
        times, at = [], self.decode_time
        for duration, offset in zip(self.durations, self.offsets, strict=True):
            times.append(at + offset)
            at += duration
        return tuple(times)


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """The boxes of data[start:end] in order. Raises `BadInput` for one that is longer than what is there."""
    stop = len(data) if end is None else end
    while start < stop:
        if stop - start < 8:
            raise BadInput(
                f"payload: {stop - start} bytes at {start} are no MP4 box; the record is truncated or damaged"
            )
        size, kind = struct.unpack_from(">I4s", data, start)
        body = start + 8
        if size == 1 and stop - start >= 16:
            (size,) = struct.unpack_from(">Q", data, body)
            body += 8
        elif size == 0:
            size = stop - start
        if size < body - start or start + size > stop:
            name = kind.decode("latin-1")
            raise BadInput(
                f"payload: MP4 box {name!r} at {start} has length {size}, but {stop - start} bytes are left; "
                "the record is truncated or damaged"
            )
        yield Box(kind, start, body, start + size)
        start += size


def find(data: bytes, within: Box, *path: bytes) -> Box | None:
    """The first box at this path inside another."""
    for kind in path:
        found = next((box for box in boxes(data, within.body, within.end) if box.kind == kind), None)
        if found is None:
            return None
        within = found
    return within


def tracks(data: bytes, moov: Box) -> tuple[Track, ...]:
    """The tracks of a moov, in order. Raises `BadInput` where it is damaged."""
    try:
        defaults = _defaults(data, moov)
        return tuple(_track(data, box, defaults) for box in boxes(data, moov.body, moov.end) if box.kind == b"trak")
    except struct.error as error:
        raise BadInput(f"payload: the MP4's moov box is damaged ({error})") from None


def fragments(data: bytes, moof: Box, known: Sequence[Track]) -> tuple[Fragment, ...]:
    """The fragments of a moof, one for each track in it. Raises `BadInput` where it is damaged."""
    try:
        return tuple(_fragment(data, box, known) for box in boxes(data, moof.body, moof.end) if box.kind == b"traf")
    except struct.error as error:
        raise BadInput(f"payload: an MP4 moof box is damaged ({error})") from None


def with_decode_time(data: bytes, moof: Box, decode_time: int) -> bytes | None:
    """The bytes of a moof of one track with its first decode time replaced; None where the time does not fit."""
    traf = find(data, moof, b"traf")
    tfdt = traf and find(data, traf, b"tfdt")
    if not tfdt:
        return None
    wide = data[tfdt.body] == 1
    if decode_time < 0 or decode_time >= (1 << (63 if wide else 32)):
        return None
    at = tfdt.body + 4
    time = struct.pack(">Q" if wide else ">I", decode_time)
    return data[moof.start : at] + time + data[at + len(time) : moof.end]


def _defaults(data: bytes, moov: Box) -> dict[int, tuple[int, int, int]]:
    """Default duration, size and flags of samples in fragments, by track."""
    mvex = find(data, moov, b"mvex")
    if mvex is None:
        return {}
    found = {}
    for box in boxes(data, mvex.body, mvex.end):
        if box.kind == b"trex":
            track_id, _, duration, size, flags = struct.unpack_from(">IIIII", data, box.body + 4)
            found[track_id] = (duration, size, flags)
    return found


def _track(data: bytes, trak: Box, defaults: dict[int, tuple[int, int, int]]) -> Track:
    tkhd, mdhd = find(data, trak, b"tkhd"), find(data, trak, b"mdia", b"mdhd")
    hdlr, stsd = find(data, trak, b"mdia", b"hdlr"), find(data, trak, b"mdia", b"minf", b"stbl", b"stsd")
    if tkhd is None or mdhd is None or hdlr is None or stsd is None:
        raise BadInput("payload: an MP4 track lacks tkhd, mdhd, hdlr or stsd; the record is damaged")
    (track_id,) = struct.unpack_from(">I", data, tkhd.body + (20 if data[tkhd.body] == 1 else 12))
    (timescale,) = struct.unpack_from(">I", data, mdhd.body + (20 if data[mdhd.body] == 1 else 12))
    kind = data[hdlr.body + 8 : hdlr.body + 12]
    if timescale == 0:
        raise BadInput("payload: an MP4 track has timescale 0; the record is damaged")
    entry, width, height = b"", 0, 0
    if stsd.end - stsd.body >= 16:
        entry = data[stsd.body + 12 : stsd.body + 16]
        if kind == b"vide":
            width, height = struct.unpack_from(">HH", data, stsd.body + 8 + 32)
    duration, size, sample_flags = defaults.get(track_id, (0, 0, 0))
    codec = _CODECS.get(entry, entry.decode("latin-1"))
    return Track(track_id, kind, timescale, codec, width, height, duration, size, sample_flags)


def _fragment(data: bytes, traf: Box, known: Sequence[Track]) -> Fragment:
    tfhd, tfdt = find(data, traf, b"tfhd"), find(data, traf, b"tfdt")
    if tfhd is None:
        raise BadInput("payload: an MP4 fragment has no tfhd box; the record is damaged")
    flags, track_id = struct.unpack_from(">II", data, tfhd.body)
    track = next((one for one in known if one.track_id == track_id), None)
    if track is None:
        raise BadInput(f"payload: an MP4 fragment belongs to track {track_id}, which its init segment does not have")
    at = tfhd.body + 8 + (8 if flags & 0x1 else 0) + (4 if flags & 0x2 else 0)
    duration, size, sample_flags = track.default_duration, track.default_size, track.default_flags
    if flags & 0x8:
        (duration,) = struct.unpack_from(">I", data, at)
        at += 4
    if flags & 0x10:
        (size,) = struct.unpack_from(">I", data, at)
        at += 4
    if flags & 0x20:
        (sample_flags,) = struct.unpack_from(">I", data, at)
    decode_time = 0
    if tfdt is not None:
        (decode_time,) = struct.unpack_from(">Q" if data[tfdt.body] == 1 else ">I", data, tfdt.body + 4)
    rows: list[tuple[int, int, int]] = []
    for box in boxes(data, traf.body, traf.end):
        if box.kind == b"trun":
            if not rows:
                sample_flags = _first_flags(data, box, sample_flags)
            rows.extend(_samples(data, box, duration, size))
    durations, sizes, offsets = zip(*rows, strict=True) if rows else ((), (), ())
    absolute = tfdt is None or bool(flags & 0x1) or not flags & 0x20000
    return Fragment(track_id, decode_time, durations, offsets, sizes, not sample_flags & _NOT_SYNC, absolute)


def _first_flags(data: bytes, trun: Box, otherwise: int) -> int:
    """Flags of the first sample of a trun."""
    (flags,) = struct.unpack_from(">I", data, trun.body)
    at = trun.body + 8 + (4 if flags & 0x1 else 0)
    if not flags & 0x4:
        if not flags & 0x400:
            return otherwise
        at += (4 if flags & 0x100 else 0) + (4 if flags & 0x200 else 0)
    (found,) = struct.unpack_from(">I", data, at)
    return int(found)


def _samples(data: bytes, trun: Box, duration: int, size: int) -> list[tuple[int, int, int]]:
    """(duration, size, presentation offset) of each sample of a trun."""
    flags, count = struct.unpack_from(">II", data, trun.body)
    at = trun.body + 8 + (4 if flags & 0x1 else 0) + (4 if flags & 0x4 else 0)
    width = 4 * sum(bool(flags & bit) for bit in (0x100, 0x200, 0x400, 0x800))
    if at + count * width > trun.end:
        raise BadInput("payload: an MP4 trun box names more samples than it holds; the record is damaged")
    if width == 0 and count > 1_000_000:
        raise BadInput(f"payload: an MP4 trun box names {count} samples; the record is damaged")
    signed = (flags >> 24) >= 1
    rows = []
    for _ in range(count):
        row = [duration, size, 0]
        for bit, column in ((0x100, 0), (0x200, 1), (0x400, -1), (0x800, 2)):
            if flags & bit:
                if column >= 0:
                    (row[column],) = struct.unpack_from(">i" if column == 2 and signed else ">I", data, at)
                at += 4
        rows.append((row[0], row[1], row[2]))
    return rows
