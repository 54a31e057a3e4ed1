"""File access that crashes where a test says, and a power cut that loses what was not made safe."""

import os
from pathlib import Path

from standwatch.pipeline.files import Files


class Crash(BaseException):
    """The process is gone. No `except Exception` may outlive it."""


class CrashingFiles(Files):
    """Crashes before the k-th step (counting from 1), and from then on at every step; 0 never crashes.

    Remembers what a power cut may lose: names made or removed since their directory was synced, and the contents of
    files that were never flushed.
    """

    def __init__(self, root: Path, crash_at: int = 0) -> None:
        super().__init__(str(root))
        self.crash_at = crash_at
        self.steps = 0
        self._made: list[str] = []
        self._removed: list[tuple[str, bytes]] = []
        self._unflushed: dict[int, str] = {}

    def power_cut(self, kept: str) -> None:
        """What the disk is left with: of the names changed since the last sync "all" are kept, "none" or the "last".

        A file system may write directory entries early and in any order; contents not flushed are lost.
        """
        for path in self._unflushed.values():
            if os.path.exists(path):
                os.truncate(path, 0)
        if kept != "all":
            for path, data in self._removed:
                Path(path).write_bytes(data)
            for path in self._made if kept == "none" else self._made[:-1]:
                Path(path).unlink(missing_ok=True)

    def _step(self) -> None:
        self.steps += 1
        if self.crash_at and self.steps >= self.crash_at:
            raise Crash(f"step {self.steps}")

    def _create(self, path: str) -> int:
        self._step()
        descriptor = super()._create(path)
        self._made.append(path)
        self._unflushed[descriptor] = path
        return descriptor

    def _flush(self, descriptor: int) -> None:
        self._step()
        super()._flush(descriptor)
        self._unflushed.pop(descriptor)

    def _link(self, source: str, target: str) -> None:
        self._step()
        super()._link(source, target)
        self._made.append(target)

    def _unlink(self, path: str) -> None:
        self._step()
        data = Path(path).read_bytes() if os.path.exists(path) else None
        super()._unlink(path)
        if path in self._made:
            self._made.remove(path)
        elif data is not None:
            self._removed.append((path, data))

    def _sync(self, path: str) -> None:
        self._step()
        super()._sync(path)
        self._made = [made for made in self._made if os.path.dirname(made) != path]
        self._removed = [gone for gone in self._removed if os.path.dirname(gone[0]) != path]
