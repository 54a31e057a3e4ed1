"""The picture of a training run."""

import json
from pathlib import Path

import pytest
from PIL import Image

from standwatch.actors.training_curve import draw_curves


def test_runs_become_columns_of_one_picture(tmp_path: Path) -> None:
    lines = [
        {"step": 10, "loss": 2.0, "seconds": 1.0},
        {"step": 20, "loss": 1.0, "seconds": 2.0, "presence": 0.5, "list": 0.25},
    ]
    for name in ("tune", "compress"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "curve.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    one, both = tmp_path / "one.png", tmp_path / "both.png"
    draw_curves([tmp_path / "tune" / "curve.jsonl"], one)
    draw_curves([tmp_path / name / "curve.jsonl" for name in ("tune", "compress")], both)
    with Image.open(one) as narrow, Image.open(both) as wide:
        assert wide.width == 2 * narrow.width
        assert len(wide.convert("RGB").getcolors(wide.width * wide.height) or ()) > 10


def test_a_run_without_a_report_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    path.touch()
    with pytest.raises(ValueError, match=r"curve\.jsonl: there is no report"):
        draw_curves([path], tmp_path / "curve.png")
