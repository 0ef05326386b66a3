from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cosmos_nemo.errors import UserError
from cosmos_nemo.files import write_text
from cosmos_nemo.runs import layout
from cosmos_nemo.runs.record import RunRecord
from cosmos_nemo.runs.start import Resume, changed_settings, choose_start, remove_debris

MODEL = RunRecord(family="predict2", task="video2world", model={"num_layers": 2, "hidden_size": 128})


def _run(folder: Path, *steps: int, model: RunRecord = MODEL) -> Path:
    for step in steps:
        checkpoint = folder / "checkpoints" / layout.iteration_name(step)
        (checkpoint / "weights").mkdir(parents=True)
        (checkpoint / "weights" / "data").write_bytes(b"x" * step)
        manifest = layout.make_manifest(checkpoint, step=step, consumed_samples=step)
        (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    model.write(folder)
    return folder


def test_empty_folder_is_a_new_run(tmp_path: Path) -> None:
    assert choose_start(tmp_path / "run", Resume(), MODEL).checkpoint is None


def test_newest_undamaged_checkpoint_is_taken_whatever_latest_says(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", 3, 6, 9)
    write_text(run / "checkpoints" / "latest_checkpoint.txt", "iter_000000003\n")
    (run / "checkpoints/iter_000000009/weights/data").write_bytes(b"x")
    (run / "checkpoints/.tmp-iter_000000012").mkdir()
    start = choose_start(run, Resume(), MODEL)
    assert start.checkpoint.step == 6
    assert "iter_000000009" in start.warnings[0] and "1 bytes" in start.warnings[0]
    remove_debris(run)
    assert sorted(p.name for p in (run / "checkpoints").iterdir() if p.is_dir())[0] == "iter_000000003"


def test_run_without_any_good_checkpoint_does_not_silently_start_over(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", 3)
    (run / "checkpoints/iter_000000003/manifest.json").unlink()
    with pytest.raises(UserError, match="all 1 checkpoints in"):
        choose_start(run, Resume(), MODEL)


def test_own_checkpoints_go_before_a_named_one_so_that_the_same_command_continues(tmp_path: Path) -> None:
    base = _run(tmp_path / "base", 100)
    run = tmp_path / "run"
    assert choose_start(run, Resume(path=str(base)), MODEL).checkpoint.step == 100
    _run(run, 103, 106)
    assert choose_start(run, Resume(path=str(base)), MODEL).checkpoint.step == 106


def test_own_older_checkpoint_can_be_named(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", 3, 6)
    named = Resume(path=str(run / "checkpoints" / "iter_000000003"))
    assert choose_start(run, named, MODEL).checkpoint.step == 3


def test_another_model_is_refused_with_the_fields_that_differ(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", 3, model=replace(MODEL, model={"num_layers": 28, "hidden_size": 128}))
    with pytest.raises(UserError, match="num_layers 28 there, 2 here"):
        choose_start(run, Resume(), MODEL)


def test_another_family_is_refused(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", 3, model=replace(MODEL, family="autoregressive"))
    with pytest.raises(UserError, match="family autoregressive there, predict2 here"):
        choose_start(run, Resume(), MODEL)


def test_an_average_is_neither_lost_nor_begun_half_way(tmp_path: Path) -> None:
    averaged = replace(MODEL, averaging={"decay": 0.9, "rate": None})
    run = _run(tmp_path / "run", 3, model=averaged)
    with pytest.raises(UserError, match="made with a moving average of the weights; set model"):
        choose_start(run, Resume(), MODEL)
    assert choose_start(run, Resume(), replace(MODEL, averaging={"decay": 0.99, "rate": None})).checkpoint.step == 3
    MODEL.write(run)
    with pytest.raises(UserError, match="made without a moving average of the weights; unset model"):
        choose_start(run, Resume(), averaged)


def test_a_run_without_run_json_can_be_continued(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", 3)
    (run / "run.json").unlink()
    assert choose_start(run, Resume(), MODEL).checkpoint.step == 3


def test_changed_settings_of_a_resumed_run_are_named() -> None:
    saved = replace(MODEL, objective={"state_t": 24}, optimizer={"lr": 1e-3, "max_steps": 10}, seed=1, precision="32")
    now = replace(saved, optimizer={"lr": 1e-4, "max_steps": 20}, seed=2)
    assert changed_settings(saved, saved) == []
    assert changed_settings(saved, now) == ["optimizer: lr 0.001 there, 0.0001 here", "seed 1 there, 2 here"]


def test_checkpoints_are_not_mixed_with_a_new_run(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", 3)
    with pytest.raises(UserError, match="holds checkpoints already"):
        choose_start(run, Resume(resume_if_exists=False), MODEL)
