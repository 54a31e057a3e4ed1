"""Decides which chunks of a run share one ffmpeg input, and how the time of each stays recoverable.

Opening an input costs ffmpeg as much as decoding a dozen frames. Consecutive fragmented MP4 chunks with the same
init segment therefore become one stream: the init segment once, then every chunk's fragments with their decode
times moved so that the chunk's first presented frame lies at exactly k * SPACING_US, k = 1, 2, ... What cannot be
joined gets an input of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.mp4 import Box, Fragment, Track, boxes, fragments, tracks, with_decode_time
from standwatch.pipeline.types import Chunk

SPACING_S = 128  # above any chunk's length (configs: max_chunk_ms <= 60000)
SPACING_US = SPACING_S * 1_000_000

_RAW_FORMATS = {"video/h264": "h264", "video/h265": "hevc"}


@dataclass(frozen=True, slots=True)
class Stream:
    """One input of ffmpeg: the bytes, how to read them, and the places in the run of the chunks it holds."""

    parts: tuple[bytes, ...]
    options: Mapping[str, str | int | float]
    chunks: tuple[int, ...]
    joined: bool  # the k-th chunk's times start at (k + 1) * SPACING_US; otherwise at the first frame's
    counted_fps: float | None = None  # the stream carries no times: count frames at this rate


@dataclass(frozen=True, slots=True)
class _Piece:
    """A chunk that can be joined: its init segment, and moof/mdat boxes with the time of its first picture."""

    init: bytes
    known: tuple[Track, ...]  # the tracks that the init segment names
    payload: bytes
    moofs: tuple[tuple[Box, Fragment], ...]
    body: tuple[Box, ...]  # moof and mdat boxes in order
    timescale: int
    first: int  # presentation time of the first presented sample

    def moved_to(self, base: int) -> list[bytes] | None:
        """The fragments with the first presented sample at `base`; None where the times do not fit."""
        by_start = {box.start: fragment for box, fragment in self.moofs}
        parts = []
        for box in self.body:
            if box.kind == b"moof":
                moved = with_decode_time(self.payload, box, by_start[box.start].decode_time - self.first + base)
                if moved is None:
                    return None
                parts.append(moved)
            else:
                parts.append(self.payload[box.start : box.end])
        return parts


def plan_streams(
    chunks: Sequence[Chunk], max_chunk_ms: int, max_source_pixels: int
) -> tuple[list[Stream], dict[int, str]]:
    """The inputs for a run of chunks of one feed, and the reasons of those refused by their boxes alone."""
    streams: list[Stream] = []
    refused: dict[int, str] = {}
    last: _Piece | None = None
    for index, chunk in enumerate(chunks):
        try:
            piece = _examine(chunk, last, max_chunk_ms, max_source_pixels)
        except BadInput as error:
            refused[index] = str(error)
            continue
        if piece is None:
            streams.append(_alone(chunk, index))
        elif last is not None and piece.init == last.init and (longer := _appended(streams[-1], piece, index)):
            streams[-1] = longer
        else:
            start = piece.moved_to(SPACING_S * piece.timescale)
            options: dict[str, str | int | float] = {"f": "mp4", "ignore_editlist": 1}
            streams.append(Stream((piece.init, *start), options, (index,), True) if start else _alone(chunk, index))
            piece = piece if start else None
        last = piece
    return streams, refused


def _appended(stream: Stream, piece: _Piece, index: int) -> Stream | None:
    parts = piece.moved_to((len(stream.chunks) + 1) * SPACING_S * piece.timescale)
    if parts is None:
        return None
    return replace(stream, parts=(*stream.parts, *parts), chunks=(*stream.chunks, index))


def _alone(chunk: Chunk, index: int) -> Stream:
    raw = _RAW_FORMATS.get(chunk.content_type)
    if raw:
        options: dict[str, str | int | float] = {"f": raw, "framerate": chunk.fps or 25.0}
        return Stream((chunk.payload,), options, (index,), False, chunk.fps)
    if chunk.content_type == "image/jpeg":
        return Stream((chunk.payload,), {"f": "jpeg_pipe"}, (index,), False)
    return Stream((chunk.payload,), {"f": "mp4"}, (index,), False)


def _examine(chunk: Chunk, last: _Piece | None, max_chunk_ms: int, max_source_pixels: int) -> _Piece | None:
    """What joining needs of a chunk; None for one that needs an input of its own. Raises `BadInput`.

    `last` is the chunk before: an init segment that it repeats is not read again.
    """
    data = chunk.payload
    if chunk.content_type == "image/jpeg":
        if not data.startswith(b"\xff\xd8") or data.rstrip(b"\0\r\n").endswith(b"\xff\xd9") is False:
            raise BadInput("payload: image/jpeg without a JPEG's first or last marker; it is truncated or no JPEG")
        return None
    if chunk.content_type != "video/mp4":
        if not data.startswith((b"\0\0\1", b"\0\0\0\1")):
            raise BadInput(f"payload: {chunk.content_type} must be Annex-B and begin with a start code (00 00 01)")
        return None
    if data[4:8] not in (b"ftyp", b"styp", b"moov", b"free", b"skip", b"wide", b"mdat"):
        raise BadInput("payload: not an MP4, though content-type says video/mp4")
    top = list(boxes(data))
    moov = next((box for box in top if box.kind == b"moov"), None)
    if moov is None:
        raise BadInput("payload: the MP4 has no moov box; every record needs its own init segment (ftyp, moov)")
    init = b"".join(data[box.start : box.end] for box in top if box.kind in (b"ftyp", b"moov"))
    known = last.known if last is not None and last.init == init else tracks(data, moov)
    video = next((track for track in known if track.kind == b"vide"), None)
    if video is None:
        raise BadInput("payload: no video stream in the MP4; send records that contain video")
    if video.width * video.height > max_source_pixels:
        raise BadInput(
            f"payload: pictures of {video.width}x{video.height} are above max_source_pixels ({max_source_pixels})"
        )
    if not any(box.kind == b"moof" for box in top):
        if any(box.kind == b"mdat" and box.start < moov.start for box in top):
            raise BadInput("payload: the MP4's index (moov) comes after its data; write it with -movflags +faststart")
        return None
    return _fragmented(chunk, top, moov, init, known, video, max_chunk_ms)


def _fragmented(
    chunk: Chunk,
    top: Sequence[Box],
    moov: Box,
    init: bytes,
    known: tuple[Track, ...],
    video: Track,
    max_chunk_ms: int,
) -> _Piece | None:
    data = chunk.payload
    parsed = [(box, fragments(data, box, known)) for box in top if box.kind == b"moof"]
    samples = [one for _, found in parsed for one in found if one.track_id == video.track_id]
    presented = [time for fragment in samples for time in fragment.presented]
    if not presented:
        raise BadInput("payload: the MP4 holds no picture; send records that contain video")
    if not samples[0].starts_at_key:
        raise BadInput("payload: it does not start at a key frame; cut chunks at key frames")
    first = min(presented)
    span_ms = (max(presented) - first) * 1000 // video.timescale
    if span_ms > max_chunk_ms:
        raise BadInput(f"duration_ms: the pictures span {span_ms} ms, above max_chunk_ms ({max_chunk_ms}); cut shorter")
    held = sum(box.end - box.body for box in top if box.kind == b"mdat")
    named = sum(sum(fragment.sizes) for _, found in parsed for fragment in found)
    if named > held:
        raise BadInput(f"payload: the MP4's samples need {named} bytes and {held} are there; it is truncated")
    if len(known) != 1 or any(len(found) != 1 or found[0].absolute for _, found in parsed):
        return None
    body = tuple(box for box in top if box.kind in (b"moof", b"mdat"))
    if body[0].start < moov.start:
        return None
    return _Piece(init, known, data, tuple((box, found[0]) for box, found in parsed), body, video.timescale, first)
