from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from cosmos_nemo.lightning.progress import ProgressDisplay
from cosmos_nemo.lightning.throughput import Work
from cosmos_nemo.lightning.wandb_log import identity
from cosmos_nemo.runs.log import RunLog

ROW = {
    **{"step": 1, "loss": 2.0, "lr": 1e-3, "grad_norm": 0.5, "seconds_per_step": 1.0, "tokens_per_second": 9.0},
    **{"tflops": 1.0, "mfu": None, "data_wait_seconds": 0.0, "skipped_samples": 0, "peak_memory_gib": 1.0},
    "consumed_samples": 2,
}


def test_plain_lines_where_there_is_no_terminal() -> None:
    text = io.StringIO()
    display = ProgressDisplay(40, every_n_steps=10, console=Console(file=text, soft_wrap=True))
    for step in range(1, 41):
        display(ROW | {"step": step, "mfu": 0.4, "skipped_samples": 3, "data_wait_seconds": 0.2})
    lines = text.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["1/40", "10/40", "20/40", "30/40", "40/40"]
    assert "MFU 40.0%" in lines[0] and "3 samples skipped" in lines[0] and "waited 0.20 s for data" in lines[0]


def test_bar_on_a_terminal_ends_with_the_run() -> None:
    text = io.StringIO()
    display = ProgressDisplay(2, console=Console(file=text, force_terminal=True, width=200, highlight=False))
    display(ROW)
    display({"step": 1, "val_loss": 3.0})
    display(ROW | {"step": 2})
    display.close()
    assert "2/2" in text.getvalue() and "validation loss 3.0000" in text.getvalue()


def test_mfu_is_null_where_the_peak_is_not_known() -> None:
    work = Work(tokens=1000, tflop=8.0, num_devices=4, peak_tflops=None)
    assert work.rates(2.0) == {"tokens_per_second": 500.0, "tflops": 1.0, "mfu": None}
    assert Work(tokens=1, tflop=8.0, num_devices=4, peak_tflops=4.0).rates(2.0)["mfu"] == 0.25


def test_wandb_variables_go_before_the_recipe(tmp_path: Path) -> None:
    log = RunLog(project="p", group="g", name="n", wandb="offline")
    plain = identity(log, tmp_path, {})
    assert plain | {"id": ""} == {
        **{"resume": "allow", "mode": "offline", "project": "p", "name": "n", "group": "g", "id": ""}
    }
    assert plain["id"] == identity(log, tmp_path, {})["id"] != identity(log, tmp_path / "other", {})["id"]
    assert identity(log, tmp_path, {"WANDB_PROJECT_NAME": "guide"})["project"] == "guide"
    given = {
        "WANDB_MODE": "online",
        "WANDB_PROJECT": "x",
        "WANDB_RUN_ID": "y",
        "WANDB_NAME": "z",
        "WANDB_RUN_GROUP": "w",
    }
    assert identity(log, tmp_path, given) == {"resume": "allow"}
