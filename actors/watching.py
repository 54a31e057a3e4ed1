"""Runs a system with a screen in front of it: what `standwatch run` and `standwatch demo` do."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from standwatch.actors import publisher
from standwatch.actors.alert_page import AlertPage
from standwatch.actors.console import Recent, render
from standwatch.actors.drawings import TRAINING, load_drawings
from standwatch.actors.topics import open_sink, open_source
from standwatch.actors.topology import SystemStatus, start
from standwatch.configs.load import load_config
from standwatch.configs.schema import StandwatchConfig
from standwatch.pipeline.clock import now_ms, rfc3339
from standwatch.pipeline.errors import BadInput, Unavailable
from standwatch.pipeline.events import parse_alert, parse_answer
from standwatch.pipeline.memory import MemoryReader
from standwatch.pipeline.ports import Source
from standwatch.pipeline.queries import queries_from_file
from standwatch.pipeline.querystore import QueryStore
from standwatch.pipeline.types import Alert, Record

_LINE_S = 5.0
_LAST_S = 5.0
_FOOTAGE = {"bottles": "bottle-detection.mp4", "people": "one-by-one-person-detection.mp4"}
_DRAWN = {
    name: f"world:{name}?seed={seed}&minutes=60&per_minute=4&size=224x224"
    for name, seed in (("street", 2_000_001), ("yard", 2_000_002), ("corridor", 2_000_003))
}


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did, and where everything lies."""

    frames: dict[str, int]
    dead_letters: int
    answers: int
    alerts: int
    rewinds: int
    weights: str
    memory: str
    topics: str

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def as_text(self) -> str:
        feeds = ", ".join(f"{feed} {count}" for feed, count in sorted(self.frames.items())) or "none"
        feed = min(self.frames, default="NAME")
        return "\n".join(
            (
                f"frames in memory: {feeds}",
                f"answers: {self.answers}   alerts: {self.alerts}   dead letters: {self.dead_letters}",
                f"weights: {self.weights}",
                f"memory: {self.memory}",
                f"topics: {self.topics}",
                f"look:   standwatch memory stat --memory {self.memory}",
                f'ask:    standwatch ask "What is happening?" --feed {feed} --last 10m --memory {self.memory}',
            )
        )


class _Listener:
    """Follows the answers and alerts that go out, for the screen, the summary and `on_alert`."""

    def __init__(self, config: StandwatchConfig, on_alert: Callable[[Alert], None]) -> None:
        self.recent = Recent()
        self._on_alert = on_alert
        self._answers_topic = config.topics.answers
        self._answers = self._open(config, config.topics.answers)
        self._alerts = self._open(config, config.topics.alerts)

    def _open(self, config: StandwatchConfig, topic: str) -> Source:
        source = open_source(config.broker, config.topics, topic)
        source.assign({p: None for p in source.partitions()})
        source.assign(dict(source.end_offsets()))  # what an earlier run said is not this one's
        return source

    def look(self) -> None:
        """Take what has come. A broker that is away, or another's record on the topic, is no reason to stop a run."""
        for source in (self._answers, self._alerts):
            with suppress(Unavailable):
                for record in source.poll(1000, 1):
                    self._add(record)

    def close(self) -> None:
        """Take the last of it and let go."""
        deadline = time.monotonic() + _LAST_S
        with suppress(Unavailable):
            while any((*self._answers.lag().values(), *self._alerts.lag().values())) and time.monotonic() < deadline:
                self.look()
        self._answers.close()
        self._alerts.close()

    def _add(self, record: Record) -> None:
        with suppress(BadInput):
            if record.at.topic == self._answers_topic:
                self.recent.add_answer(parse_answer(record))
            else:
                alert = parse_alert(record)
                self.recent.add_alert(alert)
                self._on_alert(alert)


class _Screen:
    """The live view: a table on a terminal, a line now and then elsewhere, nothing when quiet."""

    def __init__(self, config: StandwatchConfig, live: Live, console: Console, quiet: bool) -> None:
        self._memory = Path(config.memory.path)
        self._live, self._console, self._quiet = live, console, quiet
        self._next_line = 0.0

    def show(self, status: SystemStatus, recent: Recent) -> None:
        if self._quiet:
            return
        if self._console.is_terminal:
            queries, _ = QueryStore(self._memory / "queries").load()
            self._live.update(render(status, queries, recent, _size(self._memory)), refresh=True)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_S
            frames = " ".join(f"{feed.feed_id}={feed.frames}" for feed in status.feeds) or "none yet"
            self._console.print(f"frames {frames}  answers {recent.answers}  alerts {recent.alerts}", highlight=False)


def watch(
    config: StandwatchConfig,
    until_idle: bool,
    for_ms: int | None,
    quiet: bool,
    stop: threading.Event,
    on_alert: Callable[[Alert], None] = lambda _: None,
) -> Summary:
    """Run until `stop`, until idle, or for a time; `on_alert` is told every transition of an alert as it comes."""
    console = Console(stderr=True)
    if not quiet:
        console.print("starting Ray and the model ...")
    listener = _Listener(config, on_alert)
    last = SystemStatus((), (), None)
    with start(config) as running, Live(console=console, auto_refresh=False, transient=True) as live:
        screen = _Screen(config, live, console, quiet)
        end = None if for_ms is None else time.monotonic() + for_ms / 1000

        def tick(status: SystemStatus) -> bool:
            nonlocal last
            last = status
            listener.look()
            screen.show(status, listener.recent)
            return not stop.is_set() and (end is None or time.monotonic() < end)

        running.run(until_idle, tick)
    listener.close()
    broker = config.broker
    return Summary(
        frames={feed.feed_id: feed.frames for feed in MemoryReader(config.memory.path).stat().feeds},
        dead_letters=sum(part.dead_letters for part in last.ingest),
        answers=listener.recent.answers,
        alerts=listener.recent.alerts,
        rewinds=sum(part.rewinds for part in last.ingest),
        weights=last.answers.weights if last.answers else "",
        memory=config.memory.path,
        topics=f"spool:{broker.spool_dir}" if broker.kind == "spool" else f"kafka://{broker.bootstrap_servers}",
    )


def run_demo(for_ms: int | None, overrides: Sequence[str], drawn: bool) -> Summary:
    """Publish the bundled footage in a loop, as live feeds, and `drawn` worlds too; watch them in a fresh directory.

    A page of its alerts with their pictures grows beside its memory.
    """
    root = Path("runs") / f"demo-{rfc3339(now_ms())[:19].replace(':', '')}"
    places = (f"memory.path={root / 'memory'}", f"broker.spool_dir={root / 'spool'}")
    config = load_config("demo", None, [*places, *overrides])
    sources = {feed: str(files("standwatch") / "footage" / name) for feed, name in _FOOTAGE.items()}
    if drawn:
        load_drawings(TRAINING, tell=lambda said: print(said, file=sys.stderr))  # before five feeds wait for them
        sources |= _DRAWN
    store = QueryStore(Path(config.memory.path) / "queries")
    for query in queries_from_file(Path(str(files("standwatch.configs") / "demo-queries.yaml"))):
        store.add(query)
    page = AlertPage(root / "alerts", config.memory.path)
    print(f"alerts with their pictures, in a browser: {page.path.resolve().as_uri()}", file=sys.stderr)
    stop = stop_on_signals()
    cameras = [threading.Thread(target=_film, args=(config, feed, name, stop)) for feed, name in sources.items()]
    for camera in cameras:
        camera.start()
    try:
        return watch(config, until_idle=False, for_ms=for_ms, quiet=False, stop=stop, on_alert=page.add)
    finally:
        stop.set()
        for camera in cameras:
            camera.join()
        page.end()


def stop_on_signals() -> threading.Event:
    """An event that Ctrl-C and SIGTERM set."""
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    return stop


def _film(config: StandwatchConfig, feed: str, source: str, stop: threading.Event) -> None:
    request = publisher.PublishRequest(
        source=source,
        feed_id=feed,
        topic=config.topics.chunks,
        pace="live",
        loop=True,
        start_ms=now_ms(),
        max_record_bytes=config.topics.max_record_bytes,
    )
    sink = open_sink(config.broker, config.topics)
    try:
        publisher.publish(request, sink, stop)
    finally:
        sink.close()


def _size(memory: Path) -> int:
    size = 0
    for path in memory.rglob("*.arrow"):
        with suppress(FileNotFoundError):  # merged or forgotten meanwhile
            size += path.stat().st_size
    return size
