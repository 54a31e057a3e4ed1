"""`python -m benchmarks`: finding the figures, reading what they print, and saying so when one fails."""

import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import Row, benchmarks, machine, main, measure, table


def rows(program: str, timeout_s: float = 30) -> list[Row]:
    return measure([sys.executable, "-c", program], "figure", timeout_s, lambda line: None)


def test_a_benchmark_is_a_module_with_a_main(tmp_path: Path) -> None:
    (tmp_path / "append.py").write_text("def main(): ...\n")
    (tmp_path / "workload.py").write_text("def footage(): ...\n")
    (tmp_path / "__main__.py").write_text("def main(): ...\n")
    assert benchmarks(tmp_path) == ["append"]


def test_every_figure_that_is_printed_becomes_a_row() -> None:
    program = "print('a 0.91 target 0.9 ok'); print('talk'); print('b 7 target <= 5 ms short'); raise SystemExit(1)"
    assert rows(program) == [Row("a", "0.91", "0.9", "ok"), Row("b", "7", "<= 5 ms", "short")]


def test_what_a_benchmark_says_is_passed_on() -> None:
    said: list[str] = []
    measure([sys.executable, "-c", "print('one'); import sys; print('two', file=sys.stderr)"], "f", 30, said.append)
    assert sorted(said) == ["one", "two"]


@pytest.mark.parametrize(
    ("program", "verdict"),
    [
        ("raise SystemExit(3)", "failed (exit status 3)"),
        ("print('figure 1 target 1 ok'); raise SystemExit(3)", "failed (exit status 3)"),
        ("print('nothing of use')", "printed no figure"),
    ],
)
def test_a_benchmark_that_fails_is_a_row_that_is_not_ok(program: str, verdict: str) -> None:
    assert rows(program)[-1] == Row("figure", "-", "-", verdict)


def test_a_benchmark_that_hangs_is_stopped_with_what_it_started() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    assert rows(program, timeout_s=0.5) == [Row("figure", "-", "-", "stopped after 0.5 s")]


def test_the_table_is_markdown_and_the_machine_has_a_name() -> None:
    assert table([Row("a", "1", "2", "short")]).splitlines()[2:] == ["| a | 1 | 2 | short |"]
    assert " cores" in machine()


def test_list_prints_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert "decode" in capsys.readouterr().out.split()


def test_an_unknown_name_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "nothing"])
    assert "decode" in capsys.readouterr().err
