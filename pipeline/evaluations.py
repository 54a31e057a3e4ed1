"""Decides what is kept of every evaluation, so that "why did it not fire?" has an answer."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from standwatch.pipeline.clock import parse_rfc3339, rfc3339
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.fields import Fields
from standwatch.pipeline.snapshots import JsonRecord
from standwatch.pipeline.types import Evaluation, Verdict, Window

DAY_MS = 86_400_000
_NAME = re.compile(r"evaluations-([0-9]{4}-[0-9]{2}-[0-9]{2})(\.older)?\.jsonl")
_BIG = 2**63


class EvaluationLog:
    """A directory of append-only JSONL files, one for each UTC day of evaluating; one writer, any number of readers.

    Bounded twice: days before the last `retention_days` are deleted, and a day that outgrows `day_bytes` keeps its
    last `day_bytes` to twice that (`evaluations-DAY.older.jsonl` is the part before). Other files are left alone.
    A batch that is written twice, as after a crash, is read once.
    """

    def __init__(self, directory: Path, retention_days: int = 14, day_bytes: int = 128 * 1024 * 1024) -> None:
        self._directory = directory
        self._retention_days = retention_days
        self._day_bytes = day_bytes
        self._day = ""

    def append(self, evaluations: Sequence[Evaluation], evaluated_ms: int) -> None:
        """Add a batch in one write; it survives the death of this process, though not of the machine."""
        if not evaluations:
            return
        day = rfc3339(evaluated_ms)[:10]
        if day != self._day:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._drop_before(rfc3339(evaluated_ms - (self._retention_days - 1) * DAY_MS)[:10])
            self._day = day
        path = self._directory / f"evaluations-{day}.jsonl"
        if path.exists() and path.stat().st_size >= self._day_bytes:
            os.replace(path, self._directory / f"evaluations-{day}.older.jsonl")
        lines = "".join(_line(evaluation, evaluated_ms) for evaluation in evaluations).encode()
        with path.open("ab") as file:
            # A line that a crash cut off must not swallow the next one.
            file.write(lines if _ends_whole(path) else b"\n" + lines)

    def read(
        self,
        query_id: str | None = None,
        feed_id: str | None = None,
        from_ms: int | None = None,
        to_ms: int | None = None,
    ) -> list[Evaluation]:
        """What was evaluated of windows that overlap [from_ms, to_ms), by end of window; None does not filter.

        Of an evaluation that is there twice the last counts. Lines that a crash cut off are passed over.
        """
        found: dict[tuple[str, int, str, Window], Evaluation] = {}
        for one in self._all():
            if query_id not in (None, one.query_id) or feed_id not in (None, one.feed_id):
                continue
            if from_ms is not None and one.window.to_ms <= from_ms:
                continue
            if to_ms is not None and one.window.from_ms >= to_ms:
                continue
            found[one.query_id, one.query_version, one.feed_id, one.window] = one
        return sorted(found.values(), key=lambda e: (e.window.to_ms, e.feed_id, e.query_id, e.query_version))

    def _all(self) -> Iterator[Evaluation]:
        for path in self._files():
            try:
                with path.open("rb") as file:
                    for line in file:
                        evaluation = _evaluation(line, str(path))
                        if evaluation is not None:
                            yield evaluation
            except FileNotFoundError:  # a writer tidied up meanwhile
                continue

    def _files(self) -> list[Path]:
        """Oldest first; of one day the `.older` part first."""
        if not self._directory.is_dir():
            return []
        named = [(path, _NAME.fullmatch(path.name)) for path in self._directory.iterdir()]
        return [path for path, _ in sorted(((p, m) for p, m in named if m), key=lambda f: (f[1][1], not f[1][2]))]

    def _drop_before(self, day: str) -> None:
        for path in self._files():
            if path.name[len("evaluations-") :][:10] < day:
                path.unlink(missing_ok=True)


def _line(one: Evaluation, evaluated_ms: int) -> str:
    record: JsonRecord = {
        "evaluated_at": rfc3339(evaluated_ms),
        "query_id": one.query_id,
        "query_version": one.query_version,
        "feed_id": one.feed_id,
        "from": rfc3339(one.window.from_ms),
        "to": rfc3339(one.window.to_ms),
        "frames": one.frames,
        "verdict": one.verdict.value,
        "probability": round(one.probability, 6),
        "outcome": one.outcome,
        "skipped_windows": one.skipped_windows,
    }
    return json.dumps(record, allow_nan=False, separators=(",", ":")) + "\n"


def _evaluation(line: bytes, source: str) -> Evaluation | None:
    try:
        fields = Fields(json.loads(line), source)
        window = Window(
            parse_rfc3339(fields.text("from"), fields.path("from")), parse_rfc3339(fields.text("to"), fields.path("to"))
        )
        return Evaluation(
            query_id=fields.text("query_id"),
            query_version=fields.integer("query_version", 1, _BIG),
            feed_id=fields.text("feed_id"),
            window=window,
            frames=fields.integer("frames", 0, _BIG),
            verdict=Verdict(fields.choice("verdict", [verdict.value for verdict in Verdict])),
            probability=fields.number("probability", 0, 1),
            outcome=fields.text("outcome"),
            skipped_windows=fields.integer("skipped_windows", 0, _BIG),
        )
    except (BadInput, ValueError):
        return None


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
