"""Decides what a well-formed standing query is, and how it is written in files and on the command line."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import yaml  # type: ignore[import-untyped, unused-ignore]

from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.fields import Fields
from standwatch.pipeline.types import QueryKind, StandingQuery

QUERY_KEYS = (
    "query_id",
    "question",
    "version",
    "feeds",
    "kind",
    "every",
    "window",
    "open_at",
    "close_at",
    "debounce_k",
    "debounce_n",
    "cooldown",
    "severity",
    "evidence_frames",
)
SEVERITIES = ("info", "warning", "critical")
MAX_FILE_BYTES = 1_048_576
_MARKERS = ("<|im_start|>", "<|im_end|>", "<image>")  # of the chat format that every model here speaks
MAX_QUESTION_CHARS = 2_000
MAX_EVIDENCE_FRAMES = 512
HOUR_MS = 3_600_000
_MAX_DURATION_MS = 3_650 * 24 * HOUR_MS
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": HOUR_MS, "d": 24 * HOUR_MS}
_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?(ms|s|m|h|d)")
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_FEED_PATTERN = re.compile(r"[A-Za-z0-9._*?!\[\]-]{1,128}")


def parse_duration(value: str | int, field: str) -> int:
    """Milliseconds of `500ms`, `30s`, `1.5m`, `2h`, `1d`, or of a whole number of milliseconds; always above 0.

    A text without a unit is refused: whoever writes `--last 10` does not mean ten milliseconds.
    Raises `BadInput` naming `field`.
    """
    fix = "write a number with a unit, for example 500ms, 30s, 10m or 2h"
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadInput(f"{field}: {value!r} is not a duration; {fix}")
    if isinstance(value, int):
        duration_ms = value
    else:
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise BadInput(f"{field}: {value!r} is not a duration; {fix}")
        duration_ms = round(float(match[1]) * _UNITS_MS[match[2]])
    if duration_ms <= 0:
        raise BadInput(f"{field}: {value!r} must be above 0; {fix}")
    if duration_ms > _MAX_DURATION_MS:
        raise BadInput(f"{field}: {value!r} is longer than ten years; {fix}")
    return duration_ms


def format_duration(duration_ms: int) -> str:
    """The shortest text that `parse_duration` reads back as exactly this."""
    unit = max(
        (u for u, ms in _UNITS_MS.items() if duration_ms % ms == 0),
        key=lambda u: _UNITS_MS[u],
    )
    return f"{duration_ms // _UNITS_MS[unit]}{unit}"


def check_id(name: str, field: str) -> str:
    """`name` when it can name a query (the rule of feed names too). Raises `BadInput` naming `field`."""
    if _ID.fullmatch(name) is None:
        shown = repr(name) if len(name) <= 60 else f"a name of {len(name)} characters"
        raise BadInput(f"{field}: {shown} cannot name a query; use 1 to 128 of A-Z a-z 0-9 . _ -, not beginning with .")
    return name


def query_from_mapping(value: object, source: str, prefix: str = "") -> StandingQuery:
    """The query that a mapping describes; absent keys take the defaults of `StandingQuery`.

    `close_at` defaults to at most `open_at`, `debounce_n` to `debounce_k`.
    Raises `BadInput` as `source: field: problem; fix`.
    """
    fields = Fields(value, source, prefix, QUERY_KEYS)
    usual = StandingQuery(query_id="", question="")
    query_id = check_id(fields.text("query_id"), fields.path("query_id"))
    question = fields.text("question").strip()
    if not question:
        raise fields.error("question", "is empty; write what is to be watched for, in plain language")
    if len(question) > MAX_QUESTION_CHARS:
        raise fields.error(
            "question",
            f"has {len(question)} characters; at most {MAX_QUESTION_CHARS} are allowed",
        )
    for marker in _MARKERS:
        if marker in question:
            raise fields.error(
                "question", f"contains {marker!r}, which would end the question for the model; remove it"
            )
    open_at = fields.number("open_at", 0, 1, usual.open_at)
    close_at = fields.number("close_at", 0, 1, min(usual.close_at, open_at))
    if close_at > open_at:
        raise fields.error("close_at", f"{close_at:g} is above open_at ({open_at:g}); lower it")
    debounce_k = fields.integer("debounce_k", 1, 1000, usual.debounce_k)
    debounce_n = fields.integer("debounce_n", 1, 1000, debounce_k)
    if debounce_k > debounce_n:
        raise fields.error("debounce_k", f"{debounce_k} is above debounce_n ({debounce_n}); it is k of the last n")
    return StandingQuery(
        query_id=query_id,
        question=question,
        version=fields.integer("version", 1, 2**53, usual.version),
        feeds=_feeds(fields),
        kind=QueryKind(fields.choice("kind", [kind.value for kind in QueryKind], usual.kind.value)),
        every_ms=_duration(fields, "every", usual.every_ms, low_ms=100),
        window_ms=_duration(fields, "window", usual.window_ms, high_ms=24 * HOUR_MS),
        open_at=open_at,
        close_at=close_at,
        debounce_k=debounce_k,
        debounce_n=debounce_n,
        cooldown_ms=_duration(fields, "cooldown", usual.cooldown_ms, low_ms=0),
        severity=fields.choice("severity", SEVERITIES, usual.severity),
        evidence_frames=fields.integer("evidence_frames", 0, MAX_EVIDENCE_FRAMES, usual.evidence_frames),
    )


def to_mapping(query: StandingQuery) -> dict[str, object]:
    """The way back: a mapping of plain values, with every key, that `query_from_mapping` reads as an equal query."""
    return {
        "query_id": query.query_id,
        "question": query.question,
        "version": query.version,
        "feeds": list(query.feeds),
        "kind": query.kind.value,
        "every": format_duration(query.every_ms),
        "window": format_duration(query.window_ms),
        "open_at": query.open_at,
        "close_at": query.close_at,
        "debounce_k": query.debounce_k,
        "debounce_n": query.debounce_n,
        "cooldown": format_duration(query.cooldown_ms) if query.cooldown_ms else 0,
        "severity": query.severity,
        "evidence_frames": query.evidence_frames,
    }


def parse_queries(text: str, source: str) -> list[StandingQuery]:
    """The queries of a file's text: one, or several under `queries:`. JSON when `source` ends in .json, else YAML."""
    try:
        content: object = json.loads(text) if source.endswith(".json") else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        kind = "JSON" if source.endswith(".json") else "YAML"
        raise BadInput(f"{source}: not valid {kind}: {' '.join(str(error).split())}") from None
    if content is None:
        raise BadInput(f"{source}: is empty; write at least query_id and question")
    if not isinstance(content, Mapping) or "queries" not in content:
        return [query_from_mapping(content, source)]
    listed = Fields(content, source, known=("queries",)).get("queries")
    if not isinstance(listed, list) or not listed:
        raise BadInput(f"{source}: queries: must be a list of at least one query")
    queries = [query_from_mapping(item, source, f"queries[{i}].") for i, item in enumerate(listed)]
    ids = [query.query_id for query in queries]
    for i, query_id in enumerate(ids):
        if query_id in ids[:i]:
            raise BadInput(f"{source}: queries[{i}].query_id: {query_id!r} is there twice; give each its own")
    return queries


def queries_from_file(path: Path) -> list[StandingQuery]:
    """`parse_queries` of a file. Raises `BadInput` too when the file cannot be read as text."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the path") from None
    if len(data) > MAX_FILE_BYTES:
        raise BadInput(f"{path}: is larger than 1 MiB; this is not a query file")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise BadInput(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    return parse_queries(text, str(path))


def _feeds(fields: Fields) -> tuple[str, ...]:
    value = fields.get("feeds")
    if value is None:
        return ("*",)
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed:
        raise fields.error(
            "feeds",
            "must be a list of at least one feed name or pattern such as dock-*",
        )
    for name in listed:
        if not isinstance(name, str) or _FEED_PATTERN.fullmatch(name) is None:
            raise fields.error("feeds", f"{name!r} is neither a feed name nor a pattern such as dock-*")
    return tuple(listed)


def _duration(
    fields: Fields,
    name: str,
    usual: int,
    low_ms: int = 1,
    high_ms: int = _MAX_DURATION_MS,
) -> int:
    value = fields.get(name)
    if value is None:
        return usual
    if low_ms == 0 and value == 0 and not isinstance(value, bool):
        return 0
    if not isinstance(value, str | int):
        raise fields.error(name, f"{value!r} is not a duration; write for example 30s or 10m")
    duration_ms = parse_duration(value, fields.path(name))
    if duration_ms < low_ms:
        raise fields.error(name, f"{value!r} is below {format_duration(low_ms)}; write for example 10s")
    if duration_ms > high_ms:
        raise fields.error(name, f"{value!r} is above {format_duration(high_ms)}; shorten it")
    return duration_ms
