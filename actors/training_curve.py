"""Draws what training runs wrote into their curves: loss, and how many answers are right, by topic."""

import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

_NOT_TOPICS = {"step", "loss", "seconds"}


def draw_curves(curves: Sequence[Path], to: Path) -> None:
    """One column for each run's curve, in their order; written as the format that the file's name says.

    Raises ValueError for a file without a single report.
    """
    figure = Figure(figsize=(5 * len(curves), 7), layout="constrained")
    panels = figure.subplots(2, len(curves), squeeze=False)
    for (above, below), path in zip(panels.T, curves, strict=True):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if not lines:
            raise ValueError(f"{path}: there is no report in it yet")
        above.plot([line["step"] for line in lines], [line["loss"] for line in lines])
        above.set(title=path.parent.name, ylabel="loss", ylim=(0, None))
        examined = [line for line in lines if set(line) - _NOT_TOPICS]
        for topic in sorted({name for line in examined for name in line} - _NOT_TOPICS):
            marks = [line for line in examined if topic in line]
            below.plot([line["step"] for line in marks], [line[topic] for line in marks], marker="o", label=topic)
        below.set(xlabel="step", ylabel="answers right, to the letter", ylim=(0, 1))
        if examined:
            below.legend(fontsize="x-small", ncols=2)
    figure.savefig(to)
