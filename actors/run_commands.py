"""`standwatch run`, `publish`, `demo` and `config`: the commands that move video."""

import json
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress as ProgressBar
from rich.progress import SpinnerColumn, TextColumn

from standwatch.actors import publisher
from standwatch.actors.topics import open_sink, open_source
from standwatch.actors.tuned_weights import demo_settings, make_tuned, quick_dtype
from standwatch.actors.weights_commands import progress
from standwatch.configs.load import load_config, to_yaml
from standwatch.pipeline.clock import now_ms, parse_rfc3339, rfc3339
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.naming import check_feed_id
from standwatch.pipeline.queries import parse_duration

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, e.g. decode.sample_fps=2 flow.shards=4"),
]
Profile = Annotated[str, typer.Option("--config", help="Profile: demo, local or kafka.")]
UserFile = Annotated[Path | None, typer.Option("--file", help="Your own YAML, laid over the profile.")]


def show_config(config: Profile = "local", file: UserFile = None, overrides: Overrides = None) -> None:
    """Check a configuration and print it as resolved."""
    print(to_yaml(load_config(config, file, overrides or ())), end="")


def run(
    config: Profile = "local",
    file: UserFile = None,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when all that was published is in memory and answered.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    overrides: Overrides = None,
) -> None:
    """Watch: ingest, compress, remember, and answer the standing queries. Ends with Ctrl-C."""
    settings = load_config(config, file, overrides or ())
    from standwatch.actors.watching import stop_on_signals, watch  # imports Ray: only these commands need it

    summary = watch(settings, until_idle=until_idle, for_ms=None, quiet=as_json, stop=stop_on_signals())
    print(json.dumps(summary.as_json(), indent=2) if as_json else summary.as_text())


def demo(
    for_: Annotated[str | None, typer.Option("--for", help="End by itself after this time, e.g. 60s.")] = None,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Fetch nothing: weights drawn at random, whose answers mean nothing.")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Watch bundled footage and drawn worlds, published as live feeds, with standing questions. Ctrl-C ends it."""
    for_ms = None if for_ is None else parse_duration(for_, "--for")
    load_config("demo", None, overrides or ())  # a mistake in it is told before anything is fetched
    model: list[str] = []
    if not untrained:
        with progress() as tell:
            model = demo_settings(make_tuned(tell), quick_dtype())
    from standwatch.actors.watching import run_demo

    print(run_demo(for_ms, [*model, *(overrides or ())], drawn=not untrained).as_text())


def publish(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|URL",
            help="A video file, rtsp:// or http(s):// (HLS), or a drawn world: world:yard?seed=7",
        ),
    ],
    feed: Annotated[str, typer.Option("--feed", help="Name of the feed: letters, digits, . _ -")],
    to: Annotated[str, typer.Option("--to", help="spool:DIR or kafka://HOST:PORT/TOPIC")] = "spool:runs/local/spool",
    live: Annotated[bool, typer.Option("--live/--fast", help="At the pace of a camera, or as fast as it goes.")] = True,
    loop: Annotated[bool, typer.Option("--loop", help="Start again at the end.")] = False,
    start: Annotated[
        str | None, typer.Option("--start", help="Time of the first frame of a file (RFC 3339); default now.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Publish a file or stream as a feed, in chunks that start at key frames."""
    check_feed_id(feed, "--feed")
    if "://" in source and start is not None:
        raise BadInput("--start: only a file can be given a start; a live stream's time is now")
    where = publisher.destination(to)
    request = publisher.PublishRequest(
        source=source,
        feed_id=feed,
        topic=where.topics.chunks,
        pace="live" if live else "fast",
        loop=loop,
        start_ms=now_ms() if start is None else parse_rfc3339(start, "--start"),
        max_record_bytes=where.topics.max_record_bytes,
    )
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    _check_destination(where)
    sink = open_sink(where.broker, where.topics)
    screen = Console(stderr=True)
    quiet = as_json or not screen.is_terminal
    try:
        with ProgressBar(
            SpinnerColumn(), TextColumn("{task.description}"), console=screen, transient=True, disable=quiet
        ) as bar:
            task = bar.add_task(f"{feed}: connecting")

            def tell(done: publisher.Published) -> None:
                text = f"{feed}: {done.chunks} chunks, {done.bytes / 1e6:.1f} MB, up to {rfc3339(done.last_ms)}"
                bar.update(task, description=text + (f", {done.reconnects} reconnects" if done.reconnects else ""))

            done = publisher.publish(request, sink, stop, tell)
    finally:
        sink.close()
    if as_json:
        print(json.dumps({"feed": feed, "chunks": done.chunks, "bytes": done.bytes, "until": rfc3339(done.last_ms)}))
    else:
        print(f"{feed}: {done.chunks} chunks, {done.bytes / 1e6:.1f} MB, until {rfc3339(done.last_ms)}")


def _check_destination(where: publisher.Destination) -> None:
    """Tell of a broker that is away or a topic that is missing at once, not after the first seconds of video."""
    if where.broker.kind == "spool":
        return  # it is created with the first chunk, so that a mistake in the source leaves nothing behind
    source = open_source(where.broker, where.topics, where.topics.chunks)
    try:
        source.partitions()
    finally:
        source.close()
