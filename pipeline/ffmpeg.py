"""Decides how ffmpeg is run: which binary, within which limits, and what of its errors is passed on."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from standwatch.pipeline.errors import BadInput

_MEMORY_BYTES = 16 << 30  # address space, of which thread stacks and arenas are most and use little
_STDERR_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Finished:
    """How a run of ffmpeg ended. `problem` is empty when it did all that was asked."""

    problem: str
    timed_out: bool
    killed: bool = False  # by somebody else: says nothing about the video


@lru_cache(maxsize=1)
def find_ffmpeg() -> str:
    """The ffmpeg of PATH, else that of the imageio-ffmpeg wheel. Raises `BadInput` where there is neither."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        import imageio_ffmpeg  # type: ignore[import-untyped]
    except ImportError:
        raise BadInput("ffmpeg: not found on PATH; install ffmpeg, or: pip install imageio-ffmpeg") from None
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise BadInput(f"ffmpeg: not found on PATH, and none in the wheel ({error}); install ffmpeg") from None


def scratch_file(name: str) -> int:
    """A descriptor of an empty file without a name; in memory where the system can. The caller closes it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def write_all(fd: int, parts: Sequence[bytes]) -> None:
    """Write the parts one after another and go back to the beginning."""
    for part in parts:
        view = memoryview(part)
        while view:
            view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)


def run_ffmpeg(arguments: Sequence[str], fds: Sequence[int], timeout_s: float, output_bytes: int) -> Finished:
    """Run ffmpeg to its end, or kill it and all it started after `timeout_s`.

    It inherits only `fds`; none of its files grows beyond `output_bytes`. Standard error goes to a bounded file
    and not to a pipe: nobody has to read while it runs, so nothing can block.
    """
    log = scratch_file("stderr")
    try:
        process = subprocess.Popen(
            [find_ffmpeg(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            pass_fds=fds,
            start_new_session=True,
        )
        _limit(process.pid, timeout_s, output_bytes)
        late = threading.Event()

        def kill() -> None:
            late.set()
            kill_group(process)

        timer = threading.Timer(timeout_s, kill)
        timer.start()
        try:
            code = process.wait()
        finally:
            timer.cancel()
            if process.returncode is None:
                kill_group(process)
        text = os.pread(log, _STDERR_BYTES, 0).decode("utf-8", "replace")
    finally:
        os.close(log)
    if late.is_set() or code == -signal.SIGXCPU:
        return Finished(f"not done within {timeout_s:g} s", timed_out=True)
    if code in (-signal.SIGKILL, -signal.SIGTERM):
        return Finished("killed from outside", timed_out=False, killed=True)
    if code == -signal.SIGXFSZ:
        return Finished(f"more than {output_bytes} bytes of pictures", timed_out=False)
    said = excerpt(text)
    if code == 0 and not said:
        return Finished("", timed_out=False)
    return Finished(said or f"ended with code {code}", timed_out=False)


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process that was started in a session of its own, with everything it started."""
    with suppress(ProcessLookupError):  # it may end by itself in this moment
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def excerpt(stderr: str) -> str:
    """The first lines of what ffmpeg said, without addresses and descriptors, which differ from run to run."""
    text = re.sub(r" @ 0x[0-9a-fA-F]+", "", stderr)
    text = re.sub(r"\bpipe:\d*", "input", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    distinct = list(dict.fromkeys(lines))
    return "; ".join(distinct[:3])[:400]


def _limit(pid: int, timeout_s: float, output_bytes: int) -> None:
    """Limits of the child, set from here: code between fork and exec is unsafe in a process with threads."""
    if sys.platform != "linux":
        return
    import resource

    cpu_s = int(timeout_s * (os.cpu_count() or 1)) + 1
    limits = {
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_AS: _MEMORY_BYTES,
        resource.RLIMIT_FSIZE: max(output_bytes, _STDERR_BYTES),
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        try:
            resource.prlimit(pid, kind, (limit, limit))
        except (ProcessLookupError, PermissionError, ValueError):
            return  # it has ended already, or this system forbids it; the timeout still holds
