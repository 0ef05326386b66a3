from __future__ import annotations

import json
from pathlib import Path

import pytest

from cosmos_nemo.errors import UserError
from cosmos_nemo.runs.metrics import MetricsFile, read_metrics

ROW = {"step": 1, "loss": 2.0, "lr": 1e-3}


def _steps(path: Path) -> list[tuple[str, int]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [("val" if "val_loss" in row else "train", row["step"]) for row in rows]


def test_resumed_run_has_each_step_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = MetricsFile(tmp_path, resumed_step=0)
    for step in (1, 2, 3):
        first({**ROW, "step": step})
    first({"step": 2, "val_loss": 1.0})
    path.write_text(path.read_text() + '{"step": 4, "lo')  # killed while writing
    resumed = MetricsFile(tmp_path, resumed_step=2)
    assert ("train", 3) in _steps_until_damage(path), "nothing changes before there is something to write"
    resumed({"step": 2, "val_loss": 1.0})
    resumed({**ROW, "step": 3})
    assert _steps(path) == [("train", 1), ("train", 2), ("val", 2), ("train", 3)]


def _steps_until_damage(path: Path) -> list[tuple[str, int]]:
    return [("train", json.loads(line)["step"]) for line in path.read_text().splitlines()[:3]]


def test_missing_and_broken_metrics_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no metrics at .*metrics\.jsonl"):
        read_metrics(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step"\n')
    with pytest.raises(UserError, match="line 2 is not JSON"):
        read_metrics(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="is empty"):
        read_metrics(tmp_path)
