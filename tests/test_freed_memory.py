import ctypes
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")

_HOLDER = """
import time
from pathlib import Path
from standwatch.actors.freed_memory import giving_back

def held_mib():
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) // 1024

class Holder:
    def __init__(self, blocks, size):
        bytearray(b"x") * (16 << 20)  # from now on glibc by itself takes smaller ones from the heap
        full = [bytearray(b"x") * size for _ in range(blocks)]
        self.last = full[-1]  # at the end of the heap: nothing before it goes back by itself

kind = giving_back(Holder, {large_bytes})
before = held_mib()
holder = kind(400, size=200_000)
assert type(holder).__name__ == "Holder"
until = time.monotonic() + {wait_s}
while held_mib() - before > 20 and time.monotonic() < until:
    time.sleep(0.1)
print(held_mib() - before)
"""


def kept_mib(large_bytes: int, wait_s: float) -> int:
    """What a process keeps of 80 MB that it has freed, as soon as it is little or at the end of the wait."""
    code = _HOLDER.format(large_bytes=large_bytes, wait_s=wait_s)
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60).stdout)


def test_large_blocks_go_back_when_they_are_freed() -> None:
    assert kept_mib(large_bytes=128 << 10, wait_s=0) <= 20


def test_all_others_go_back_soon_after() -> None:
    assert kept_mib(large_bytes=32 << 20, wait_s=30) <= 20
