"""Decides when an actor's process gives memory back that it has freed.

glibc keeps what is not at the end of a heap, and the largest block it has seen freed decides how much it keeps there
too. Left to itself a process grows in single steps, minutes apart, up to its busiest moment, and stays there: a leak
could not be told from it.
"""

import ctypes
import threading
import time
from typing import Any

_EVERY_S = 1.0
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # what mallopt calls them (malloc.h)


def giving_back(actor_class: Any, large_bytes: int) -> Any:
    """The same class, for a process that gives blocks of `large_bytes` and more back at once, all others in a second.

    Each large block costs page faults anew: a process that takes the same ones over and over needs a higher limit,
    32 MiB at most. Where there is no glibc nothing changes.
    """

    def __init__(self: Any, *arguments: object, **named: object) -> None:
        give_back(large_bytes)
        actor_class.__init__(self, *arguments, **named)

    return type(actor_class.__name__, (actor_class,), {"__init__": __init__})


def give_back(large_bytes: int) -> None:
    """The same for this process, whatever runs in it."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.mallopt(_MMAP_THRESHOLD, large_bytes)
        libc.mallopt(_TRIM_THRESHOLD, 2 * large_bytes)  # once one is set, glibc no longer raises either by itself
        threading.Thread(target=_trim, args=(libc,), name="freed memory", daemon=True).start()


def _trim(libc: ctypes.CDLL) -> None:
    while True:
        time.sleep(_EVERY_S)
        libc.malloc_trim(0)
