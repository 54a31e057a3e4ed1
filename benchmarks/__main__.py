"""Runs every figure, one after the other, and prints the table that the README quotes; exits 1 when one is short.

A figure is a module of this folder with a `main`; it prints `NAME VALUE target TARGET ok|short` once per figure.
"""

import argparse
import ast
import os
import platform
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
RESULT = re.compile(r"(?P<name>\S+) (?P<value>\S+) target (?P<target>.+) (?P<verdict>ok|short)")


@dataclass(frozen=True)
class Row:
    """One line of the table. `verdict` is `ok`, `short`, or what went wrong."""

    name: str
    value: str
    target: str
    verdict: str


def benchmarks(folder: Path = FOLDER) -> list[str]:
    """Modules that measure something, by name; what they share has no `main` and is none."""
    return sorted(path.stem for path in folder.glob("[!_]*.py") if _has_main(path))


def _has_main(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in body)


def measure(command: Sequence[str], name: str, timeout_s: float, show: Callable[[str], None]) -> list[Row]:
    """Run one benchmark, pass on what it says, and return its rows; a failure is a row too."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True
    )
    late = threading.Event()

    def give_up() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(timeout_s, give_up)
    timer.start()
    rows = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            show(line.rstrip("\n"))
            if match := RESULT.fullmatch(line.strip()):
                rows.append(Row(**match.groupdict()))
        code = process.wait()
    finally:
        timer.cancel()
        _kill(process)  # with whatever it started
    if late.is_set():
        return [*rows, Row(name, "-", "-", f"stopped after {timeout_s:g} s")]
    if code and all(row.verdict == "ok" for row in rows):
        return [*rows, Row(name, "-", "-", f"failed (exit status {code})")]
    return rows or [Row(name, "-", "-", "printed no figure")]


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def table(rows: Sequence[Row]) -> str:
    lines = ["| figure | value | target | |", "|---|---|---|---|"]
    lines.extend(f"| {row.name} | {row.value} | {row.target} | {row.verdict} |" for row in rows)
    return "\n".join(lines)


def machine() -> str:
    """What the figures were taken on."""
    model = platform.processor() or platform.machine()
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        cpuinfo = ""
    if found := re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE):
        model = found[1].strip()
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 0 when every figure reaches its target."""
    known = benchmarks()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure and print every figure.")
    parser.add_argument("--only", metavar="NAME", choices=known, action="append", help=f"one of {', '.join(known)}")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=1800, help="for each one; default 1800")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(known))
        return 0
    rows: list[Row] = []
    for name in options.only or known:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        rows.extend(measure(command, name, options.timeout, lambda line: print(line, flush=True)))
    print(f"\n{table(rows)}\n\nMeasured on {machine()}.")
    return 0 if all(row.verdict == "ok" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
