"""Decides what becomes of an actor's `run` when it ends: done, asked again, or given up."""

import time
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError

from standwatch.actors.peers import last_line
from standwatch.pipeline.errors import BadInput, GaveUp, PositionLost, StaleEpoch

_MAX_CRASHES = 5  # of one actor in a row without a minute of work between them
_QUIET_S = 60.0
_FINAL = (BadInput, PositionLost, StaleEpoch)  # repeating cannot help: the user has to know


class Runner:
    """Keeps one actor's `run` going: Ray restarts the actor, this asks it to run again.

    The peers are arguments of `run` and not of the constructor, so that a restarted actor needs nothing from Ray's
    object store to come up.
    """

    def __init__(self, name: str, actor: Any, *peers: Any) -> None:
        self._name, self._actor, self._peers = name, actor, peers
        self._crashes, self._started = 0, 0.0
        self._call: Any = None

    def start(self, until_idle: bool) -> None:
        self._started = time.monotonic()
        self._call = self._actor.run.remote(*self._peers, until_idle)

    def finished(self, until_idle: bool) -> bool:
        """True when `run` returned by itself; restarts it after a crash and raises after too many in a row."""
        if not ray.wait([self._call], timeout=0)[0]:
            return False
        try:
            ray.get(self._call)
            return True
        except ActorDiedError as error:
            raise GaveUp(f"{self._name} cannot be started again: {last_line(error)}") from None
        except RayActorError:
            self._again(until_idle)  # the process is gone and Ray starts it anew
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, _FINAL):
                raise cause from None
            self._crashes = self._crashes + 1 if time.monotonic() - self._started < _QUIET_S else 1
            if self._crashes >= _MAX_CRASHES:
                raise GaveUp(f"{self._name} failed {self._crashes} times in a row, last with {cause!r}") from error
            self._again(until_idle)
        return False

    def _again(self, until_idle: bool) -> None:
        time.sleep(0.2)
        self.start(until_idle)
