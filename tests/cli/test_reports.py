"""Commands that draw what runs have written."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cosmos_nemo import cli


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    rows = [json.dumps({"step": step, "loss": 2.0 - step / 10}) for step in range(10)]
    (folder / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def test_plot_draws_and_prints_the_first_and_last_loss(run_dir: Path, tmp_path: Path) -> None:
    line = ["plot", str(run_dir), "--output", str(tmp_path / "loss.png"), "--window", "2"]
    result = CliRunner().invoke(cli.app, line)
    assert (result.exit_code, result.stdout) == (0, f"run: loss 1.950 -> 1.150\nwrote {tmp_path / 'loss.png'}\n")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_report_hands_everything_over(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "timings.txt").write_text("train the model\t12\n")
    line = ["report", str(tmp_path / "page.html"), "--run", str(run_dir), "--title", "My runs"]
    line += ["--timings", str(tmp_path / "timings.txt"), "--next", "make test"]
    assert CliRunner().invoke(cli.app, line).exit_code == 0
    page = (tmp_path / "page.html").read_text()
    assert all(text in page for text in ("My runs", "train the model", "12 s", "make test", "optimizer steps"))
