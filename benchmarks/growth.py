"""Memory of every process of a live run of ten minutes: the second minute against the last, and the second half.

Four feeds at the pace of cameras, a standing query answered all along, the memory on disk growing. Counted is each
process's anonymous memory (RssAnon of /proc): what it has allocated. Pages of mapped files are the kernel's cache and
Ray's shared object store has a fixed size; neither is in it.

Of each minute the smallest sample counts: what a process holds when it is calm. What a call takes and gives back is no
growth, and both come and go with the cameras' period: medians count it in minutes in which the samples fall in step
with the calls, or the machine is busy, and in others not. A leak raises the smallest sample as it raises all others.

Both figures are the largest ratio over all processes. `growth` compares the last minute with the second, where a
difference below 8 MiB counts as none: so much allocators take until they have settled. `growth_steady` compares it
with the minute in the middle, when they have, and counts from 4 MiB on: a leak would go on there.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

import psutil

from benchmarks.workload import configuration, request
from standwatch.actors.publisher import publish
from standwatch.actors.topics import open_sink
from standwatch.actors.topology import SystemStatus, start
from standwatch.configs.schema import StandwatchConfig
from standwatch.pipeline.clock import now_ms
from standwatch.pipeline.queries import query_from_mapping
from standwatch.pipeline.querystore import QueryStore

FEEDS, TARGET, STEADY_TARGET = 4, 1.05, 1.01
SETTLING, NOISE = 8 * 2**20, 4 * 2**20


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    minutes = parser.parse_args(arguments).minutes
    with tempfile.TemporaryDirectory(prefix="standwatch-bench-") as root:
        config = configuration(Path(root), "decode.sample_fps=1", "topics.partitions=4")
        store = QueryStore(Path(config.memory.path) / "queries")
        store.add(query_from_mapping({"query_id": "person", "question": "Is a person there?", "every": "10s"}, "bench"))
        samples = watch(config, minutes * 60)
    return report(samples, minutes * 60)


def watch(config: StandwatchConfig, seconds: float) -> dict[str, list[tuple[float, int]]]:
    """Run live and sample every process every second: name -> (seconds since start, bytes)."""
    stop = threading.Event()
    cameras = [threading.Thread(target=film, args=(config, feed, stop)) for feed in range(FEEDS)]
    for camera in cameras:
        camera.start()
    samples: dict[str, list[tuple[float, int]]] = {}
    began = time.monotonic()

    def tick(_: SystemStatus) -> bool:
        passed = time.monotonic() - began
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
            try:
                name = f"{process.pid} {label(process)}"
                if "ffmpeg" not in name:
                    samples.setdefault(name, []).append((passed, anonymous(process.pid)))
            except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                continue
        return passed < seconds

    try:
        with start(config) as running:
            running.run(until_idle=False, tick=tick, every_s=1.0)
    finally:
        stop.set()
        for camera in cameras:
            camera.join()
    return samples


def film(config: StandwatchConfig, feed: int, stop: threading.Event) -> None:
    sink = open_sink(config.broker, config.topics)
    publish(request(config, feed, "live", True, now_ms()), sink, stop)
    sink.close()


def anonymous(pid: int) -> int:
    """Bytes of anonymous resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


def label(process: psutil.Process) -> str:
    words = process.cmdline() or [process.name()]
    if words[0].startswith("ray::"):
        return words[0].split(".")[0]  # without the method that runs at the moment
    return " ".join(Path(word).name for word in words[:2])


def report(samples: dict[str, list[tuple[float, int]]], seconds: float) -> int:
    growth, steady = 1.0, 1.0
    for name, points in sorted(samples.items()):
        minutes = [[size for at, size in points if low <= at < low + 60] for low in range(0, int(seconds), 60)]
        held = [min(minute) for minute in minutes if minute]
        if len(held) < len(minutes) or len(held) < 4:
            continue  # it did not live all along
        growth = max(growth, ratio(held[1], held[-1], SETTLING))
        steady = max(steady, ratio(held[len(held) // 2], held[-1], NOISE))
        print(f"{name[:44]:44} MiB by minute: {' '.join(f'{size / 2**20:.1f}' for size in held)}")
    print(f"growth {growth:.3f} target <={TARGET} {'ok' if growth <= TARGET else 'short'}")
    print(f"growth_steady {steady:.3f} target <={STEADY_TARGET} {'ok' if steady <= STEADY_TARGET else 'short'}")
    return 0 if growth <= TARGET and steady <= STEADY_TARGET else 1


def ratio(early: float, late: float, noise: int) -> float:
    return late / early if late - early > noise else 1.0


if __name__ == "__main__":
    raise SystemExit(main())
