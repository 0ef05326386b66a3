"""The shared golden vectors of the autoregressive reference, through this project's own network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cosmos_nemo.numerics.schedule import warmup_cosine
from tests.distributed import run_ranks
from tests.golden.test_shared_vectors import run_captured


@pytest.fixture
def folder(shared_dir) -> Path:
    return shared_dir / "golden" / "ar_tok"


def copy_case(source: Path, target: Path, name: str) -> dict:
    """A golden folder with one case, without checksums, so that a test can change its files."""
    case = next(c for c in json.loads((source / "manifest.json").read_text())["cases"] if c["name"] == name)
    for file in case["files"].values():
        shutil.copyfile(source / file["file"], target / file["file"])
        file.pop("sha256", None), file.pop("bytes", None)
    (target / "manifest.json").write_text(json.dumps({"format": 2, "cases": [case]}))
    return case


def change(path: Path, **tensors: torch.Tensor) -> None:
    save_file(load_file(path) | tensors, path)


def test_every_case_passes_in_one_process(folder):
    code, printed = run_captured(str(folder), "^ar_")
    assert code == 0, printed
    assert "SKIP" not in printed


@pytest.mark.parametrize(("size", "skipped"), [(2, set()), (4, {"ar_yarn"})])
def test_every_divisible_case_passes_tensor_parallel(folder, size, skipped):
    outputs = run_ranks("tests.golden.test_shared_vectors:run_captured", size, str(folder), "^ar_")
    assert {code for code, _ in outputs} == {0}, outputs[0][1]
    rows = {line.split()[0]: line for line in outputs[0][1].splitlines()[1:-1]}
    assert {name for name, row in rows.items() if "SKIP" in row} == skipped


@pytest.mark.parametrize(
    ("case", "role", "tensor"),
    [
        ("ar_base", "io", "grad.model.layers.1.attention.k_norm.weight"),
        ("ar_base", "io", "greedy.ctx1.sequence"),
        ("ar_base", "io", "trace.loss"),
        ("ar_base", "tp4.rank3", "model.layers.0.feed_forward.w3.weight"),
        ("ar_yarn", "io", "rope_sin"),
        ("ar_cross", "io", "abs_pos_emb_bf16"),
        ("ar_rope_tables", "io", "t2v_5x40x64_d128.angles"),
        ("ar_abs_pos_emb", "io", "d4096_5x40x64.sum"),
    ],
)
def test_one_changed_tensor_is_noticed(folder, tmp_path, case, role, tensor):
    entry = copy_case(folder, tmp_path, case)
    path = tmp_path / entry["files"][role]["file"]
    changed = load_file(path)[tensor]
    changed.view(-1)[-1] += 1 if changed.dtype == torch.int64 else 0.01 + 0.01 * changed.abs().max()
    change(path, **{tensor: changed})
    code, printed = run_captured(str(tmp_path), case)
    assert code == 1 and "FAIL" in printed, printed


def test_weights_after_the_last_step_are_those_of_torchs_own_optimizer(folder, tmp_path):
    from cosmos_nemo.checkpoints.convert import published_state_dict
    from cosmos_nemo.golden.autoregressive.build import build_model
    from cosmos_nemo.golden.manifest import read_cases
    from cosmos_nemo.parallel.process import model_parallel_world

    entry = copy_case(folder, tmp_path, "ar_base")
    (case,) = read_cases([tmp_path])
    io, settings = case.load(), entry["optimizer"]
    with model_parallel_world() as world:
        model = build_model(case, world, weights=case.load("weights"))
        optimizer = torch.optim.AdamW(
            model.parameters(), betas=settings["betas"], eps=settings["eps"], weight_decay=settings["weight_decay"]
        )
        for step, tokens in enumerate(io["trace.batches"]):
            logits = model(tokens, latent_shape=tuple(entry["config"]["latent"])).transpose(0, 1)[:, :-1]
            first = entry["config"]["ignore_first_num_tokens"]
            ce = torch.nn.functional.cross_entropy(logits[:, first:].flatten(0, 1), tokens[:, 1 + first :].flatten())
            loss = ce + entry["config"]["z_loss_coeff"] * logits.logsumexp(-1).square().mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings["grad_clip"])
            optimizer.param_groups[0]["lr"] = warmup_cosine(
                step,
                warm_up_steps=settings["warmup_iters"],
                decay_steps=settings["lr_decay_iters"],
                lr=settings["lr"],
                min_lr=settings["min_lr"],
            )
            optimizer.step()
        final = {f"trace.final.{name}": tensor.clone() for name, tensor in published_state_dict(model).items()}
    path = tmp_path / entry["files"]["io"]["file"]
    change(path, **{name: final[name] for name in io if name in final})
    code, printed = run_captured(str(tmp_path), "ar_base")
    assert code == 0 and "not compared" not in printed, printed
    wrong = "trace.final.model.norm.weight"
    change(path, **{wrong: final[wrong] + 1e-3})
    code, printed = run_captured(str(tmp_path), "ar_base")
    assert code == 1 and wrong in printed, printed
