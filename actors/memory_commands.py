"""`standwatch memory`: what a memory holds, whether it is sound, and its rows for other tools."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from standwatch.actors.tables import print_table
from standwatch.pipeline.clock import rfc3339
from standwatch.pipeline.export import export_feed
from standwatch.pipeline.memory import MemoryReader
from standwatch.pipeline.rolling import FeedStat
from standwatch.pipeline.verify import verify as verify_memory

app = typer.Typer(no_args_is_help=True, help="Look into a rolling memory, running or at rest.")

MemoryDir = Annotated[Path, typer.Option("--memory", help="The memory's directory (memory.path).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
DEFAULT_MEMORY = Path("runs/local/memory")


@app.command()
def stat(memory: MemoryDir = DEFAULT_MEMORY, as_json: AsJson = False) -> None:
    """Show feeds, frames, spans of time and sizes."""
    held = MemoryReader(str(memory)).stat()
    if as_json:
        print(json.dumps(asdict(held), indent=2))
        return
    columns = ("feed", "topic", "partition", "frames", "MB", "from", "to", "token space")
    print_table(columns, [_row(feed) for feed in held.feeds])


def _row(feed: FeedStat) -> tuple[str, ...]:
    first, last = ("-" if at is None else rfc3339(at) for at in (feed.first_ms, feed.last_ms))
    size = f"{feed.bytes / 1e6:.2f}"
    return feed.feed_id, feed.topic, str(feed.partition), str(feed.frames), size, first, last, feed.token_space


@app.command()
def verify(memory: MemoryDir = DEFAULT_MEMORY, as_json: AsJson = False) -> None:
    """Check every file against its manifest, and that each frame is there once and in order; exits 1 if not."""
    findings = verify_memory(str(memory))
    errors = [finding for finding in findings if finding.is_error]
    if as_json:
        print(json.dumps([{"where": f.where, "what": f.what, "error": f.is_error} for f in findings], indent=2))
    else:
        for finding in findings:
            print(f"{'WRONG' if finding.is_error else 'note'}  {finding.where}: {finding.what}")
        if not errors:
            print("memory is sound")
    if errors:
        raise typer.Exit(1)


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="File to write; .parquet or .arrow decides the format.")],
    feed: Annotated[str, typer.Option("--feed", help="The feed to export.")],
    memory: MemoryDir = DEFAULT_MEMORY,
) -> None:
    """Write a feed's rows (times, offsets, tokens, thumbnails) for pandas, DuckDB and the like."""
    rows = export_feed(str(memory), feed, None, out)
    print(f"{rows} rows written to {out}")
