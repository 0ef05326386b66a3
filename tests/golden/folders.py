"""Writes small golden folders whose expected values come from closed forms."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

TOLERANCE = {"atol": 1e-9, "rtol": 1e-7}


def entry(folder: Path, name: str, kind: str, family: str, config: Any, tensors: dict[str, torch.Tensor]) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.io.safetensors"
    save_file(tensors, path)
    data = path.read_bytes()
    described = {"file": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return {
        "name": name,
        "kind": kind,
        "family": family,
        "config": config,
        "files": {"io": described},
        "tolerance": TOLERANCE,
    }


def lr_case(folder: Path, name: str = "lr_decay", error: float = 0.0, **overrides: Any) -> dict:
    """A learning rate that falls linearly from 0.5 to 0 in 10 steps; `error` is added to its last value."""
    schedule = {"warm_up_steps": [0], "cycle_lengths": [10], "f_start": [0.1], "f_max": [0.5], "f_min": [0.0]}
    steps = torch.arange(11)
    multiplier = 0.5 - 0.05 * steps.double()
    multiplier[-1] += error
    tensors = {"down.steps": steps, "down.multiplier": multiplier}
    return entry(folder, name, "lr_schedule", "predict2+predict1", {"down": schedule}, tensors) | overrides


def write_manifest(folder: Path, *cases: dict, **overrides: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "cases": list(cases)} | overrides))
    return folder
