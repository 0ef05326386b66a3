from __future__ import annotations

import json

from PIL import Image

from cosmos_nemo.report.loss_curve import plot_loss, running_mean


def write_run(folder, losses):
    folder.mkdir()
    lines = [json.dumps({"step": step, "loss": loss}) for step, loss in enumerate(losses, start=1)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_running_mean_uses_the_last_window_only():
    assert running_mean([1.0, 3.0, 5.0, 7.0], window=2) == [1.0, 2.0, 4.0, 6.0]


def test_plot_is_a_picture_and_reports_first_and_last_mean(tmp_path):
    run = write_run(tmp_path / "run", [10.0] * 5 + [1.0] * 5)
    summary = plot_loss([run], tmp_path / "plots" / "loss.png", window=5)
    assert summary == {"run": (10.0, 1.0)}
    assert Image.open(tmp_path / "plots" / "loss.png").size[0] > 400
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["loss.png"]
