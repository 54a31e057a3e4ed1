"""Decides what an error means: three fates (STYLE §4.13), one base class for each that is not a crash."""


class BadInput(ValueError):
    """The input itself is wrong. Dead-letter it (or tell the user) and go on; retrying cannot help."""


class Unavailable(ConnectionError):
    """Something outside is away for now. Retry with bounded backoff; the input is not at fault."""


class StaleEpoch(RuntimeError):
    """Another keeper has claimed this partition since; this one must stop writing. Crashes the shell."""


class StaleSession(RuntimeError):
    """A call that does not follow the callee's last new start: its sender must rewind and send again."""


class GaveUp(RuntimeError):
    """A part of the system failed again and again; the message names it and its last error."""


class PositionLost(RuntimeError):
    """A stored position lies beyond its topic's end: this is not the topic it was taken from. Crashes the shell."""
