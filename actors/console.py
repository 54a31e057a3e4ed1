"""What a person sees of a running system in the terminal."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from standwatch.actors.topology import SystemStatus
from standwatch.pipeline.clock import now_ms, time_of_day
from standwatch.pipeline.types import Alert, Answer, StandingQuery


@dataclass
class Recent:
    """The last answers and alerts, newest last, and how many there were."""

    lines: deque[str] = field(default_factory=lambda: deque(maxlen=8))
    answers: int = 0
    alerts: int = 0

    def add_answer(self, answer: Answer) -> None:
        self.answers += 1
        words = f" {escape(_one_line(answer.text))!r}" if answer.text else ""
        self.lines.append(
            f"[cyan]answer[/] {time_of_day(answer.window.to_ms)} {answer.feed_id} {answer.query_id}: "
            f"{answer.verdict.value} {answer.probability:.2f}{words} [dim](weights: {answer.weights})[/]"
        )

    def add_alert(self, alert: Alert) -> None:
        self.alerts += 1
        self.lines.append(
            f"[bold red]alert {alert.transition.value}[/] {time_of_day(alert.observed_ms)} {alert.feed_id} "
            f"{alert.query.query_id}: {alert.verdict.value} {alert.probability:.2f}"
        )


def render(status: SystemStatus, queries: Sequence[StandingQuery], recent: Recent, memory_bytes: int) -> Group:
    """The whole screen: feeds, shards, queries, and what came out last."""
    feeds = Table(title="Feeds", title_justify="left", expand=True)
    for column in ("feed", "partition", "frames in memory", "newest frame", "behind now"):
        feeds.add_column(column, justify="left" if column == "feed" else "right")
    for feed in status.feeds:
        behind = max(0, now_ms() - feed.watermark_ms) / 1000
        feeds.add_row(
            feed.feed_id, str(feed.at.partition), str(feed.frames), time_of_day(feed.watermark_ms), f"{behind:.1f} s"
        )
    shards = Table(title="Shards", title_justify="left", expand=True)
    for column in ("shard", "state", "records", "lag", "frames", "in flight", "late frames", "dead letters", "rewinds"):
        shards.add_column(column, justify="left" if column == "state" else "right")
    for part in status.ingest:
        shards.add_row(
            str(part.shard),
            part.state,
            str(part.records),
            str(part.lag_records),
            str(part.frames),
            str(part.in_flight_clips),
            str(part.frames_dropped.get("late", 0)),
            str(part.dead_letters),
            str(part.rewinds),
        )
    asked = Table(title="Standing queries", title_justify="left", expand=True)
    for column in ("query", "question", "feeds", "every"):
        asked.add_column(column)
    for query in queries:
        asked.add_row(query.query_id, query.question, " ".join(query.feeds), f"{query.every_ms / 1000:g} s")
    said = "\n".join(recent.lines) or "[dim]nothing yet[/]"
    answerer = status.answers
    problems = answerer.problems if answerer else ()
    said += "".join(f"\n[yellow]{escape(problem)}[/]" for problem in problems)
    reading = f"answerer {answerer.state}, {answerer.readings} readings" if answerer else "answerer restarting"
    foot = f"{reading}   memory {memory_bytes / 1e6:.1f} MB   answers {recent.answers}   alerts {recent.alerts}"
    weights = answerer.weights if answerer else ""
    note = f"weights: {weights}" + (" - computed for real, meaning nothing yet" if weights == "untrained" else "")
    return Group(feeds, shards, asked, Text.from_markup(said), Text(foot), Text(note, style="yellow"))


def _one_line(text: str, width: int = 60) -> str:
    line = " ".join(text.split())
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    return printable if len(printable) <= width else printable[: width - 1] + "…"
