"""Decides what counts as a peer that is lost for now: its answer is always to go back and carry on."""

from ray.exceptions import GetTimeoutError, ObjectLostError, RayActorError

from standwatch.pipeline.errors import StaleSession, Unavailable

LOST = (RayActorError, ObjectLostError, GetTimeoutError, StaleSession, Unavailable)


def first_line(error: BaseException) -> str:
    """What an error says, for a status line: Ray's texts hold whole tracebacks."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def last_line(error: RayActorError) -> str:
    """What ended an actor: Ray hands on its constructor's error as the text of a traceback, itself in the last line."""
    return str(error).strip().splitlines()[-1]
