"""The shared golden vectors of the published reference, through this project's own networks."""

import contextlib
import io
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from cosmos_nemo.golden.runner import run
from tests.distributed import run_ranks

BUILT = "predict2|rope|lr_|ema"


def run_captured(path: str, filter: str) -> tuple[int, str]:
    """Run the cases and return the exit code with what was printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = run([path], filter=filter)
    return code, printed.getvalue()


def test_every_predict2_case_passes_in_one_process(shared_dir):
    code, printed = run_captured(str(shared_dir / "golden" / "dit"), BUILT)
    assert code == 0, printed
    assert "FAIL" not in printed and "SKIP" not in printed


def test_every_divisible_predict2_case_passes_tensor_parallel(shared_dir):
    folder = shared_dir / "golden" / "dit"
    (code, printed), (other_code, other_printed) = run_ranks(
        "tests.golden.test_shared_vectors:run_captured", 2, str(folder), BUILT
    )
    assert (code, other_code) == (0, 0), printed
    assert other_printed == ""
    rows = {line.split()[0]: line for line in printed.splitlines()}
    for case in json.loads((folder / "manifest.json").read_text())["cases"]:
        if case["name"] in rows and "weights" in case["files"]:
            heads = case["config"]["num_heads"]
            skipped = f"tensor_model_parallel_size=2 does not divide num_attention_heads ({heads})"
            assert (skipped if heads % 2 else "PASS") in rows[case["name"]]


@pytest.mark.parametrize(
    ("name", "role", "tensor"),
    [
        ("dit_predict2_fpsmod_tiny", "weights", "net.blocks.0.self_attn.q_norm.weight"),
        ("loss_predict2_t2i_tiny", "grads", "net.t_embedding_norm.weight"),
        ("lora_predict2_v2w_tiny", "weights", "net.blocks.1.cross_attn.v_proj.lora_B.default.weight"),
    ],
)
def test_one_changed_tensor_is_noticed(shared_dir, tmp_path, name, role, tensor):
    source = shared_dir / "golden" / "dit"
    case = next(c for c in json.loads((source / "manifest.json").read_text())["cases"] if c["name"] == name)
    case["files"].pop("weights_diffusers", None)
    for entry in case["files"].values():
        shutil.copyfile(source / entry["file"], tmp_path / entry["file"])
    entry = case["files"][role]
    changed = load_file(tmp_path / entry["file"])
    changed[tensor] = changed[tensor] + 0.1 * changed[tensor].abs().max() * torch.ones_like(changed[tensor])
    save_file(changed, tmp_path / entry["file"])
    del entry["sha256"], entry["bytes"]
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 1, "cases": [case]}))
    code, printed = run_captured(str(tmp_path), name)
    assert code == 1 and "FAIL" in printed, printed
