"""Decides how times are written at the edges: RFC 3339 in UTC outside, milliseconds since the epoch inside."""

import re
import time
from datetime import datetime, timedelta, timezone

from standwatch.pipeline.errors import BadInput

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_RFC3339 = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(\.\d+)?([Zz]|[+-]\d{2}:\d{2})")


def now_ms() -> int:
    """The wall clock, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def rfc3339(at_ms: int) -> str:
    """`2026-11-21T09:30:00.250Z` for a time in milliseconds since the epoch."""
    return (_EPOCH + timedelta(milliseconds=at_ms)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % 1000:03d}Z"


def time_of_day(at_ms: int) -> str:
    """`09:30:00`, in UTC."""
    return rfc3339(at_ms)[11:19]


def parse_rfc3339(text: str, field: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 time. Raises `BadInput` naming `field`."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise BadInput(f"{field}: {text[:40]!r} is not an RFC 3339 time; write for example 2026-11-21T09:30:00Z")
    day, clock, fraction, zone = match.groups()
    offset = "+00:00" if zone in "Zz" else zone
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}{offset}")
    except ValueError as error:
        raise BadInput(f"{field}: {text[:40]!r} is not a real time ({error})") from None
    milliseconds = int(((fraction or ".") + "000")[1:4])
    return (whole - _EPOCH) // timedelta(milliseconds=1) + milliseconds
