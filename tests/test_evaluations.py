from dataclasses import replace
from pathlib import Path

from standwatch.pipeline.evaluations import DAY_MS, EvaluationLog
from standwatch.pipeline.types import Evaluation, Verdict, Window
from tests.questions_world import NOW, S

ONE = Evaluation("person", 1, "dock", Window(NOW - 30 * S, NOW), 30, Verdict.NO, 0.25, "below open_at 0.70", 2)


def later(windows: int, **changes: object) -> Evaluation:
    shift = windows * 10 * S
    moved = replace(ONE, window=Window(ONE.window.from_ms + shift, ONE.window.to_ms + shift))
    return replace(moved, **changes)  # type: ignore[arg-type]


def test_what_was_appended_reads_back_in_the_order_of_windows(tmp_path: Path) -> None:
    log = EvaluationLog(tmp_path / "log")
    assert log.read() == []
    log.append([later(2), later(0)], NOW)
    log.append([], NOW)
    log.append([later(1)], NOW)
    assert EvaluationLog(tmp_path / "log").read() == [later(0), later(1), later(2)]


def test_reading_filters_by_query_feed_and_time(tmp_path: Path) -> None:
    log = EvaluationLog(tmp_path)
    dog, yard = later(0, query_id="dog"), later(0, feed_id="yard")
    log.append([ONE, dog, yard, later(9)], NOW)
    assert log.read(query_id="dog") == [dog]
    assert log.read(feed_id="yard") == [yard]
    assert log.read(query_id="person", feed_id="dock", to_ms=NOW) == [ONE]
    assert log.read(from_ms=NOW) == [later(9)]
    assert log.read(from_ms=NOW - 1, query_id="person", feed_id="dock") == [ONE, later(9)]


def test_an_evaluation_that_was_repeated_after_a_crash_is_read_once(tmp_path: Path) -> None:
    log = EvaluationLog(tmp_path)
    log.append([ONE], NOW)
    log.append([later(0, outcome="again")], NOW + 1)
    assert [e.outcome for e in log.read()] == ["again"]


def test_each_utc_day_has_a_file_and_old_days_go(tmp_path: Path) -> None:
    (tmp_path / "notes-1999-01-01.jsonl").write_text("mine")
    log = EvaluationLog(tmp_path, retention_days=2)
    for day in range(4):
        log.append([later(day)], NOW + day * DAY_MS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "evaluations-2026-09-23.jsonl",
        "evaluations-2026-09-24.jsonl",
        "notes-1999-01-01.jsonl",
    ]
    assert log.read() == [later(2), later(3)]


def test_a_day_that_outgrows_its_bytes_keeps_its_latest_part(tmp_path: Path) -> None:
    log = EvaluationLog(tmp_path, day_bytes=1000)
    for index in range(100):
        log.append([later(index)], NOW)
    kept = log.read()
    assert kept == [later(index) for index in range(100 - len(kept), 100)]
    assert 4 <= len(kept) <= 12
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2 * (1000 + 400)


def test_a_line_that_a_crash_cut_off_costs_only_itself(tmp_path: Path) -> None:
    EvaluationLog(tmp_path).append([later(0), later(1)], NOW)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    log = EvaluationLog(tmp_path)
    log.append([later(2)], NOW)
    assert log.read() == [later(0), later(2)]
