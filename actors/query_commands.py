"""`standwatch query` and `standwatch ask`: standing questions, and one asked now."""

import json
from pathlib import Path
from typing import Annotated

import typer
import yaml

from standwatch.actors.memory_commands import DEFAULT_MEMORY, AsJson, MemoryDir
from standwatch.actors.tables import print_table
from standwatch.pipeline.clock import now_ms, rfc3339
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.evaluations import EvaluationLog
from standwatch.pipeline.events import answer_body
from standwatch.pipeline.queries import (
    format_duration,
    parse_duration,
    queries_from_file,
    query_from_mapping,
    to_mapping,
)
from standwatch.pipeline.querystore import QueryStore
from standwatch.pipeline.types import StandingQuery

app = typer.Typer(no_args_is_help=True, help="Standing queries: asked once, answered again and again.")


@app.command()
def add(
    question: Annotated[str | None, typer.Argument(help="The question, in plain language.")] = None,
    query_id: Annotated[str | None, typer.Option("--id", help="Name of the query: letters, digits, . _ -")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="YAML file with one query or a list of them.")] = None,
    feeds: Annotated[str, typer.Option("--feeds", help="Feeds or patterns, separated by commas.")] = "*",
    kind: Annotated[str, typer.Option("--kind", help="yes_no (a verdict, may alert) or text (words).")] = "yes_no",
    every: Annotated[str, typer.Option("--every", help="How often, e.g. 10s.")] = "10s",
    window: Annotated[str, typer.Option("--window", help="How far back each time, e.g. 30s.")] = "30s",
    open_at: Annotated[float, typer.Option("--open-at", help="Probability of yes that opens an alert.")] = 0.7,
    close_at: Annotated[float, typer.Option("--close-at", help="Probability below which it closes.")] = 0.5,
    severity: Annotated[str, typer.Option("--severity", help="info, warning or critical.")] = "warning",
    memory: MemoryDir = DEFAULT_MEMORY,
) -> None:
    """Add a standing query, or replace it (its version counts up). A running system takes it up within a second."""
    if (question is None) == (file is None):
        raise BadInput("question: give either a question with --id, or --file QUERIES.yaml")
    if file is not None:
        queries = queries_from_file(file)
    elif query_id is None:
        raise BadInput("--id: is missing; name the query, for example --id person")
    else:
        mapping = {
            "query_id": query_id,
            "question": question,
            "feeds": [feed.strip() for feed in feeds.split(",")],
            "kind": kind,
            "every": every,
            "window": window,
            "open_at": open_at,
            "close_at": close_at,
            "severity": severity,
        }
        queries = [query_from_mapping(mapping, "query add")]
    store = QueryStore(memory / "queries")
    for query in queries:
        stored = store.add(query)
        print(f"{stored.query_id} version {stored.version}: {stored.question}")


@app.command("list")
def list_queries(memory: MemoryDir = DEFAULT_MEMORY, as_json: AsJson = False) -> None:
    """List the standing queries."""
    queries, problems = QueryStore(memory / "queries").load()
    if as_json:
        print(json.dumps([to_mapping(query) for query in queries], indent=2))
    else:
        columns = ("id", "version", "question", "feeds", "kind", "every", "window")
        print_table(columns, [_row(query) for query in queries])
    if problems:
        raise BadInput("; ".join(problems))


def _row(query: StandingQuery) -> tuple[str, ...]:
    every, window = format_duration(query.every_ms), format_duration(query.window_ms)
    feeds = " ".join(query.feeds)
    return query.query_id, str(query.version), query.question, feeds, query.kind.value, every, window


@app.command()
def show(query_id: Annotated[str, typer.Argument(help="The query's id.")], memory: MemoryDir = DEFAULT_MEMORY) -> None:
    """Show one query as YAML (fit for `query add --file`) and its last evaluations: why it did or did not fire."""
    query = QueryStore(memory / "queries").get(query_id)
    print(yaml.safe_dump(to_mapping(query), sort_keys=False), end="")
    for line in EvaluationLog(memory / "answering").read(query_id=query_id)[-10:]:
        span = f"{rfc3339(line.window.from_ms)} .. {rfc3339(line.window.to_ms)}"
        print(f"# {line.feed_id} {span}: {line.verdict.value} {line.probability:.3f} - {line.outcome}")


@app.command()
def remove(
    query_id: Annotated[str, typer.Argument(help="The query's id.")], memory: MemoryDir = DEFAULT_MEMORY
) -> None:
    """Remove a query; what it opened is closed."""
    QueryStore(memory / "queries").remove(query_id)
    print(f"{query_id} removed")


def ask(
    question: Annotated[str, typer.Argument(help="The question, in plain language.")],
    feed: Annotated[str, typer.Option("--feed", help="The feed to ask about.")],
    last: Annotated[str, typer.Option("--last", help="How far back from the feed's newest frame, e.g. 10m.")] = "10m",
    memory: MemoryDir = DEFAULT_MEMORY,
    as_json: AsJson = False,
) -> None:
    """Ask the past: reads the feed's memory, whether a system is running on it or not."""
    from standwatch.actors.ask_memory import ask_memory  # loads torch: only this command needs it

    answer = ask_memory(memory, feed, question, parse_duration(last, "--last"))
    if as_json:
        print(json.dumps(answer_body(answer, now_ms()), indent=2))
        return
    print(f"{answer.verdict.value} (probability of yes {answer.probability:.2f})")
    print(f"in words: {answer.text!r}")
    print(f"window: {rfc3339(answer.window.from_ms)} .. {rfc3339(answer.window.to_ms)}")
    print("evidence:")
    for frame in answer.evidence:
        at = frame.at
        print(f"  {rfc3339(frame.frame_ms)}  score {frame.score:.5f}  {at.topic}/{at.partition}@{at.offset}")
    print(f"weights: {answer.weights}" + (" - meaning nothing yet" if answer.weights == "untrained" else ""))
