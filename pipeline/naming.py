"""Decides what a feed may be called and how its name travels: as record key and as CloudEvents source."""

import re

from standwatch.pipeline.errors import BadInput

FEED_SOURCE = "/feeds/"
_FEED = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


def check_feed_id(name: str, field: str = "feed") -> str:
    """The name itself. Raises `BadInput` naming `field` where it cannot be a feed's name."""
    if _FEED.fullmatch(name) is None:
        shown = name if len(name) <= 40 else f"{name[:37]}... ({len(name)} characters)"
        raise BadInput(
            f"{field}: {shown!r} cannot name a feed; "
            "use 1 to 128 letters, digits, '.', '_' or '-', not beginning with '.'"
        )
    return name


def feed_of_source(source: str, field: str) -> str:
    """The feed of a CloudEvents source. Raises `BadInput` naming `field`."""
    if not source.startswith(FEED_SOURCE):
        raise BadInput(f"{field}: {source[:80]!r} is not {FEED_SOURCE}<feed>")
    return check_feed_id(source[len(FEED_SOURCE) :], field)
