"""Decides how a chunk travels as a record of a topic: key, headers (CloudEvents, binary mode) and value.

Reading is strict: what a producer must give is required, and whatever is given has to be right. The README's
record contract is this module in words.
"""

import math
import re
from collections.abc import Mapping
from fractions import Fraction

from standwatch.pipeline.clock import now_ms, parse_rfc3339, rfc3339
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.mp4 import boxes, fragments, tracks
from standwatch.pipeline.naming import FEED_SOURCE, check_feed_id, feed_of_source
from standwatch.pipeline.types import Chunk, DeadLetter, Headers, Outgoing, Record

_LATEST_MS = 4_102_444_800_000  # the year 2100
CONTENT_TYPES = ("video/mp4", "video/h264", "video/h265", "image/jpeg")
CHUNK_TYPE = "org.standwatch.chunk.v1"
_TYPE_SUFFIX = ".chunk.v1"  # a third party's type is welcome when it ends so
_REASON_CHARACTERS = 2000
_REQUIRED = ("content-type", "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "seq")
_RATE = re.compile(r"\d{1,9}(\.\d{1,9})?(/\d{1,9})?")  # no exponents: one of them can name a number without end
_INTEGER = re.compile(r"-?\d{1,18}")
_TIMEBASE = re.compile(r"[1-9]\d{0,9}/[1-9]\d{0,9}")


def encode_chunk(chunk: Chunk, topic: str, timestamp_ms: int | None = None, traceparent: str = "") -> Outgoing:
    """The record of a chunk. `timestamp_ms` is when it is written (None: now): a topic's retention counts from it."""
    check_feed_id(chunk.feed_id)
    headers = {
        "content-type": chunk.content_type,
        "ce_specversion": "1.0",
        "ce_id": f"{chunk.start_ms}-{chunk.seq}",
        "ce_source": FEED_SOURCE + chunk.feed_id,
        "ce_type": CHUNK_TYPE,
        "ce_time": rfc3339(chunk.start_ms),
        "ce_partitionkey": chunk.feed_id,
        "seq": str(chunk.seq),
        "duration_ms": str(chunk.duration_ms),
        "keyframe": "true",
    }
    if chunk.fps is not None:
        headers["fps"] = f"{chunk.fps:.6g}"
    headers.update(_described(chunk))
    if traceparent:
        headers["traceparent"] = traceparent
    pairs = tuple((name, value.encode()) for name, value in headers.items())
    return Outgoing(
        topic, chunk.feed_id.encode(), chunk.payload, pairs, now_ms() if timestamp_ms is None else timestamp_ms
    )


def read_chunk(record: Record, max_chunk_ms: int = 60_000, latest_ms: int = _LATEST_MS) -> Chunk:
    """The chunk of a record, its video not looked at. Raises `BadInput` naming the header (or key, or value).

    A chunk later than `latest_ms` is refused: a feed's memory never goes back, so one wrong year would end it.
    """
    headers = _texts(record.headers)
    for name in _REQUIRED:
        if not headers.get(name):
            raise BadInput(f"{name}: header is missing or empty; every chunk needs {', '.join(_REQUIRED)}")
    content_type = headers["content-type"].split(";")[0].strip().lower()
    if content_type not in CONTENT_TYPES:
        raise BadInput(f"content-type: {content_type[:80]!r} is none of {', '.join(CONTENT_TYPES)}")
    if headers["ce_specversion"] != "1.0":
        raise BadInput(f"ce_specversion: {headers['ce_specversion'][:20]!r} is not '1.0'")
    if not headers["ce_type"].endswith(_TYPE_SUFFIX):
        raise BadInput(f"ce_type: {headers['ce_type'][:80]!r} does not end with {_TYPE_SUFFIX!r}")
    feed_id = feed_of_source(headers["ce_source"], "ce_source")
    _check_key(record.key, feed_id, headers)
    start_ms = parse_rfc3339(headers["ce_time"], "ce_time")
    if start_ms > latest_ms:
        raise BadInput(f"ce_time: {headers['ce_time'][:40]} is far in the future; check the producer's clock")
    if start_ms < 0:
        raise BadInput(f"ce_time: {headers['ce_time']} is before 1970; give the wall clock of the first frame")
    picture = content_type == "image/jpeg"
    if "duration_ms" not in headers and not picture:
        raise BadInput(f"duration_ms: header is missing; {content_type} needs it (milliseconds)")
    duration_ms = _integer(headers, "duration_ms", 0 if picture else 1, max_chunk_ms, default=0)
    seq = _integer(headers, "seq", 0)
    fps = _check_described(headers)
    if fps is None and content_type in ("video/h264", "video/h265"):
        raise BadInput(f"fps: header is missing; {content_type} carries no times of its own and needs it")
    if not record.value:
        raise BadInput("payload: the record's value is empty; send the video itself")
    return Chunk(feed_id, record.at, start_ms, duration_ms, content_type, record.value, seq, fps)


def dead_letter(letter: DeadLetter, topic: str, at_ms: int | None = None, whole: bool = True) -> Outgoing:
    """The record that tells of an unusable one: its key, value and headers as they came, and why.

    The same for every replay of the same record, `dlq-id` first of all; `at_ms` (when it was refused) defaults to
    the record's own timestamp. Not `whole`, it goes without the value, for a topic that takes no record so large.
    """
    record, at = letter.record, letter.record.at
    when_ms = max(record.timestamp_ms, 0) if at_ms is None else at_ms
    why = {
        "dlq-id": f"{at.topic}/{at.partition}/{at.offset}",
        "dlq-reason": letter.reason[:_REASON_CHARACTERS],
        "dlq-topic": at.topic,
        "dlq-partition": str(at.partition),
        "dlq-offset": str(at.offset),
        "dlq-time": rfc3339(when_ms),
    }
    if not whole:
        why["dlq-left-out"] = f"{len(record.value)} bytes of value"
    headers = record.headers + tuple((name, value.encode("utf-8", "replace")) for name, value in why.items())
    return Outgoing(topic, record.key or b"", record.value if whole else b"", headers, when_ms)


def _texts(headers: Headers) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name, value in headers:
        lower = name.lower()
        if lower in found:
            raise BadInput(f"{lower}: header is given twice; give it once")
        try:
            found[lower] = value.decode()
        except UnicodeDecodeError:
            if lower in _REQUIRED or lower in _CHECKED:
                raise BadInput(f"{lower}: header is not UTF-8 text") from None
    return found


def _check_key(key: bytes | None, feed_id: str, headers: Mapping[str, str]) -> None:
    if key != feed_id.encode():
        shown = "missing" if key is None else repr(key[:80].decode("utf-8", "backslashreplace"))
        raise BadInput(f"key: {shown}, but ce_source names feed {feed_id!r}; the record's key must be the feed's name")
    extension = headers.get("ce_partitionkey", feed_id)
    if extension != feed_id:
        raise BadInput(f"ce_partitionkey: {extension[:80]!r} is not the record's key {feed_id!r}")


_CHECKED = ("duration_ms", "pts", "timebase", "keyframe", "width", "height", "fps", "codec", "ce_partitionkey")


def _check_described(headers: Mapping[str, str]) -> float | None:
    """Check what may be left out; returns the frame rate where it is given."""
    _integer(headers, "pts", -(1 << 62))
    _integer(headers, "width", 1, 65_536)
    _integer(headers, "height", 1, 65_536)
    if "timebase" in headers and _TIMEBASE.fullmatch(headers["timebase"]) is None:
        raise BadInput(
            f"timebase: {headers['timebase'][:40]!r} is not a fraction of a second; write for example 1/90000"
        )
    if headers.get("keyframe", "true").lower() not in ("true", "1"):
        raise BadInput("keyframe: every chunk must start at a key frame; cut there, and say 'true' or leave it out")
    if headers.get("codec", "any") == "":
        raise BadInput("codec: header is empty; name the codec or leave it out")
    return _rate(headers["fps"]) if "fps" in headers else None


def _integer(headers: Mapping[str, str], name: str, low: int, high: int = 1 << 62, default: int = 0) -> int:
    text = headers.get(name)
    if text is None:
        return default
    if _INTEGER.fullmatch(text) is None or not low <= int(text) <= high:
        limits = f"within {low}..{high}" if high < 1 << 62 else "" if low < 0 else f"from {low} up"
        raise BadInput(f"{name}: {text[:40]!r} is not a whole number {limits}".rstrip())
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(Fraction(text)) if _RATE.fullmatch(text) else math.nan
    except (ValueError, ZeroDivisionError, OverflowError):
        rate = math.nan
    if not 0.001 <= rate <= 1000:
        raise BadInput(f"fps: {text[:40]!r} is not a frame rate within 0.001..1000; write for example 25 or 30000/1001")
    return rate


def _described(chunk: Chunk) -> dict[str, str]:
    """What the headers say of the video beyond what a chunk knows; empty where its boxes do not tell."""
    if chunk.content_type != "video/mp4":
        return {}
    top = list(boxes(chunk.payload))
    known = next((tracks(chunk.payload, box) for box in top if box.kind == b"moov"), ())
    video = next((track for track in known if track.kind == b"vide"), None)
    if video is None:
        return {}
    facts = {"width": str(video.width), "height": str(video.height), "codec": video.codec}
    parsed = (fragments(chunk.payload, box, known) for box in top if box.kind == b"moof")
    times = [time for found in parsed for one in found if one.track_id == video.track_id for time in one.presented]
    if times:
        facts |= {"pts": str(min(times)), "timebase": f"1/{video.timescale}"}
    return facts
