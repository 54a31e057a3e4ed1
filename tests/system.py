"""Helpers for tests that run the real command line: a tiny model, publishing, waiting, looking into memory."""

import json
import math
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from standwatch.pipeline.ffmpeg import find_ffmpeg
from standwatch.pipeline.memory import MemoryReader
from standwatch.pipeline.types import Window

FOOTAGE = Path(__file__).resolve().parents[1] / "standwatch" / "footage"
BOTTLES = FOOTAGE / "bottle-detection.mp4"
PEOPLE = FOOTAGE / "one-by-one-person-detection.mp4"
START_MS = 1_790_000_000_000
START = "2026-09-21T14:13:20Z"
EVER = Window(0, 10**15)

TINY_MODEL = (
    "model.vision.image_px=64",
    "model.vision.patch_px=8",
    "model.vision.width=32",
    "model.vision.heads=2",
    "model.vision.blocks=2",
    "model.vision.mlp_width=64",
    "model.language.layers=12",
    "model.language.width=32",
    "model.language.mlp_width=64",
    "model.language.heads=2",
    "model.language.kv_heads=1",
    "model.language.head_dim=16",
    "model.language.vocab=512",
)


@dataclass(frozen=True)
class Place:
    """One test's memory and topics."""

    memory: Path
    overrides: tuple[str, ...]
    to: str

    @property
    def settings(self) -> list[str]:
        return [f"memory.path={self.memory}", *self.overrides, *TINY_MODEL]


def spool_place(root: Path, *extra: str) -> Place:
    spool = root / "spool"
    overrides = ("broker.kind=spool", f"broker.spool_dir={spool}", "memory.commit_ms=100", *extra)
    return Place(root / "memory", overrides, f"spool:{spool}")


def kafka_place(root: Path, bootstrap: str, *extra: str) -> Place:
    """Topics of this test's own on a broker that other tests use too."""
    mark = uuid.uuid4().hex[:8]
    names = tuple(f"topics.{kind}=test.{mark}.{kind}" for kind in ("chunks", "answers", "alerts", "dead_letters"))
    overrides = (
        "broker.kind=kafka",
        f"broker.bootstrap_servers={bootstrap}",
        "memory.commit_ms=100",
        *names,
        *extra,
    )
    standwatch("topics", "create", "--config", "kafka", *overrides)
    return Place(root / "memory", overrides, f"kafka://{bootstrap}/test.{mark}.chunks")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "standwatch.actors.cli", *arguments]


def standwatch(*arguments: str, code: int = 0, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its exit code must be `code`, and it must never show a traceback."""
    done = subprocess.run(command(*arguments), check=False, capture_output=True, text=True, timeout=timeout)
    said = f"{arguments}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in said, said
    assert done.returncode == code, said
    return done


def publish(place: Place, video: Path, feed: str, start: str = START) -> None:
    standwatch("publish", str(video), "--feed", feed, "--to", place.to, "--fast", "--start", start)


def run_until_idle(place: Place) -> dict[str, Any]:
    done = standwatch("run", "--config", "local", "--until-idle", "--json", *place.settings, timeout=240)
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


@contextmanager
def running(place: Place) -> Iterator[subprocess.Popen[str]]:
    """`standwatch run` in the background, in its own process group; ended with Ctrl-C, by force if need be."""
    log = place.memory.parent / "run.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command("run", "--config", "local", *place.settings),
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(60)
            log_of(place)
        finally:
            kill_tree(process.pid)
            process.wait(30)


def log_of(place: Place) -> str:
    """What the last `running` printed; it never shows a traceback."""
    said = (place.memory.parent / "run.log").read_text()
    assert "Traceback" not in said, said
    return said


def kill_tree(pid: int) -> None:
    """SIGKILL a process and all its descendants, at once."""
    try:
        parent = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return
    for victim in [parent, *parent.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            victim.kill()


def actor_processes(pid: int, kind: str) -> list[psutil.Process]:
    """The processes of a run that are Ray actors of a class."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        try:
            title = " ".join(child.cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if title.startswith(f"ray::{kind}"):
            found.append(child)
    return found


def frames_in_memory(memory: Path) -> dict[str, list[int]]:
    """The times of all frames of each feed, in stored order; empty while there is no memory yet."""
    if not memory.exists():
        return {}
    reader = MemoryReader(str(memory))
    return {
        feed.feed_id: reader.window(feed.feed_id, EVER).frame_ms.tolist() for feed in reader.stat().feeds if feed.frames
    }


def wait_for_frames(place: Place, least: int, timeout: float = 60) -> int:
    """Wait until memory holds at least so many frames; returns how many it holds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        held = sum(len(times) for times in frames_in_memory(place.memory).values())
        if held >= least:
            return held
        time.sleep(0.05)
    raise AssertionError(f"no {least} frames in {place.memory} after {timeout} s")


def sampled_times(video: Path, fps: float, start_ms: int = START_MS) -> list[int]:
    """Times of the sampled frames of a file: one independent ffmpeg call, and the sampling rule in plain Python."""
    done = subprocess.run(
        [find_ffmpeg(), "-hide_banner", "-i", str(video), "-vf", "showinfo", "-an", "-f", "null", "-"],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = [float(found) for found in re.findall(r"pts_time:\s*([-0-9.]+)", done.stderr)]
    kept, last_slot = [], None
    for at in seconds:
        frame_ms = start_ms + round((at - seconds[0]) * 1000)
        slot = math.floor(frame_ms * fps / 1000)
        if slot != last_slot:
            kept.append(frame_ms)
            last_slot = slot
    return kept


def verify_clean(place: Place) -> None:
    done = standwatch("memory", "verify", "--memory", str(place.memory), "--json")
    assert not [finding for finding in json.loads(done.stdout) if finding["error"]]
