"""The tokenizer cases of the shared golden vectors, and cases of other sizes made here."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from tests.golden.test_shared_vectors import run_captured
from tests.tokenizers.cosmos.clips import clip, random_network, tiny_config

TOLERANCE = {"activations": 2e-5, "loss": 2e-6, "gradients": 1e-6, "integers": 0}


def test_every_tokenizer_case_passes(shared_dir):
    code, printed = run_captured(str(shared_dir / "golden" / "ar_tok"), "tok_")
    assert code == 0, printed
    assert "FAIL" not in printed and "9 PASS" in printed


@pytest.mark.parametrize(
    ("name", "role", "tensor"),
    [
        ("tok_cv888_attn", "weights", "decoder.up.0.block.0.norm1.norm.bias"),
        ("tok_dv488_p2", "io", "v0.indices"),
        ("tok_cv488_v01", "io", "gradnorm.encoder.mid.attn_1.0.v.conv3d.weight"),
        ("tok_haar", "io", "p4.patched"),
        ("tok_fsq", "io", "codes"),
        ("tok_losses", "io", "total.iter0.grad_recon"),
    ],
)
def test_one_changed_tensor_is_noticed(shared_dir, tmp_path, name, role, tensor):
    source = shared_dir / "golden" / "ar_tok"
    case = next(c for c in json.loads((source / "manifest.json").read_text())["cases"] if c["name"] == name)
    for entry in case["files"].values():
        shutil.copyfile(source / entry["file"], tmp_path / entry["file"])
    entry = case["files"][role]
    changed = load_file(tmp_path / entry["file"])
    assert tensor in changed
    value = changed[tensor]
    changed[tensor] = value + (0.1 * value.abs().max() if value.is_floating_point() else 1)
    save_file(changed, tmp_path / entry["file"])
    del entry["bytes"]
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 2, "cases": [case]}))
    code, printed = run_captured(str(tmp_path), name)
    assert code == 1 and "FAIL" in printed, printed


def own_case(folder, *, discrete, **fields):
    """A case of another size, with everything that such a case can hold."""
    config = tiny_config(discrete=discrete, **fields)
    network = random_network(config)
    video = clip(1 + 2 * config.temporal_compression, 32, 64, batch=2)
    out = network(video)
    (out.video_B_3_T_H_W - video).abs().mean().backward()
    io = {"v0.video": video, "v0.reconstruction": out.video_B_3_T_H_W.detach().contiguous()}
    io["v0.codes" if discrete else "v0.latent"] = out.latent_B_C_T_H_W.detach().contiguous()
    if discrete:
        io["v0.indices"] = out.indices_B_T_H_W
    io["grad.quant_conv.conv3d.weight"] = network.quant_conv.conv3d.weight.grad
    save_file(io, folder / "own.io.safetensors")
    save_file(network.state_dict(), folder / "own.weights.safetensors")
    upstream = {**config.sizes(), "resolution": 1024, "attn_resolutions": [32], "name": "CV"}
    if discrete:
        upstream["quantizer"] = "FSQ"
    files = {role: {"file": f"own.{role}.safetensors"} for role in ("io", "weights")}
    return {"name": "own", "kind": "tokenizer", "family": "tokenizer", "config": upstream, "files": files}


@pytest.mark.parametrize(
    ("discrete", "fields"),
    [
        (False, {"channels": 12, "num_res_blocks": 2, "patch_size": 2, "channels_mult": (1, 2, 2, 2)}),
        (True, {"levels": (4, 3, 5), "z_channels": 10}),
    ],
)
def test_other_sizes_and_seeds_pass(tmp_path, discrete, fields):
    case = own_case(tmp_path, discrete=discrete, **fields)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 2, "cases": [{**case, "tolerance": TOLERANCE}]}))
    code, printed = run_captured(str(tmp_path), "own")
    assert code == 0, printed


def test_what_is_not_built_is_said(tmp_path):
    case = {**own_case(tmp_path, discrete=False), "tolerance": TOLERANCE}
    case["config"]["formulation"] = "VAE"
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 2, "cases": [case]}))
    code, printed = run_captured(str(tmp_path), "own")
    assert code == 1 and "formulation='VAE' is not built" in printed
