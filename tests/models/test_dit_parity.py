"""The network computes what independent implementations of it compute."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.diffusers_peer import build_peer, peer_forward
from cosmos_nemo.checkpoints.convert import load_published_into, published_gradients
from cosmos_nemo.checkpoints.published import read_published
from cosmos_nemo.models.common.rope import rope_angles
from cosmos_nemo.models.dit.config import Predict2Config
from cosmos_nemo.models.dit.model import DiT
from tests.models.dit_cases import batch, mean_square_loss, one_process_parallel_state, randomise, tiny_config


@pytest.fixture(autouse=True)
def _world_of_one() -> None:
    one_process_parallel_state()


def model(**settings: object) -> DiT:
    built = DiT(tiny_config(**settings))
    randomise(built)
    return built


SETTINGS = {
    "video2world": {},
    "text2image": {"video_condition": False},
    "extrapolated_rope": {
        "num_attention_heads": 2,
        "rope_t_extrapolation_ratio": 5 / 6,
        "rope_h_extrapolation_ratio": 2.0,
        "rope_w_extrapolation_ratio": 3.0,
    },
}


@pytest.mark.parametrize("per_frame", [True, False])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_output_and_gradients_equal_those_of_diffusers(settings: dict[str, object], per_frame: bool) -> None:
    ours = model(**settings)
    inputs = batch()
    if not ours.config.video_condition:
        del inputs["condition_mask_B_1_T_H_W"]
    if not per_frame:
        inputs["timesteps_B_T"] = inputs["timesteps_B_T"][:, 0]
    peer = build_peer(ours)
    found, wanted = ours(**inputs), peer_forward(peer, inputs)
    assert (found - wanted).abs().max() < 2e-5 * wanted.abs().max()
    mean_square_loss(found).backward()
    mean_square_loss(wanted).backward()
    gradients = published_gradients(ours, naming="diffusers")
    for name, parameter in peer.named_parameters():
        assert (gradients[name] - parameter.grad).abs().max() < 5e-5 * parameter.grad.abs().max(), name


def test_bfloat16_output_is_as_close_to_float32_as_that_of_diffusers() -> None:
    exact = model()
    inputs = {name: value.bfloat16().float() for name, value in batch().items()}
    with torch.no_grad():
        wanted = exact(**inputs)
        rounded = model(params_dtype=torch.bfloat16, bf16=True)
        ours = (rounded(**inputs).float() - wanted).square().mean().sqrt()
        peer = (peer_forward(build_peer(rounded), inputs).float() - wanted).square().mean().sqrt()
    assert rounded(**inputs).dtype == torch.bfloat16
    assert ours < 1.1 * peer


def test_rotary_angles_of_published_settings_equal_the_golden_ones(shared_dir: Path) -> None:
    folder = shared_dir / "golden" / "dit"
    cases = json.loads((folder / "manifest.json").read_text())["cases"]
    for case in (case for case in cases if case["kind"] == "rope"):
        tables = load_file(folder / case["files"]["io"]["file"])
        for name, table in case["config"]["tables"].items():
            angles = rope_angles(
                tuple(case["config"]["grid_T_H_W"]),
                table["head_dim"],
                tuple(table["extrapolation_ratio_t_h_w"]),
                fps=table["fps"] if table["fps_modulation"] else None,
                base_fps=table["base_fps"],
            )
            torch.testing.assert_close(angles, tables[name], **case["tolerance"])


@pytest.mark.parametrize("case", ["v2w_tiny", "v2w_14blike_tiny", "t2i_tiny", "fpsmod_tiny"])
def test_output_equals_the_golden_one(shared_dir: Path, case: str) -> None:
    folder = shared_dir / "golden" / "dit"
    manifest = json.loads((folder / "manifest.json").read_text())
    found = next(c for c in manifest["cases"] if c["name"] == f"dit_predict2_{case}")
    network, io = found["config"], load_file(folder / found["files"]["io"]["file"])
    built = DiT(
        Predict2Config(
            num_layers=network["num_blocks"],
            hidden_size=network["model_channels"],
            num_attention_heads=network["num_heads"],
            crossattn_emb_channels=network["crossattn_emb_channels"],
            adaln_lora_dim=network["adaln_lora_dim"],
            video_condition="LVG" in network["net_class"],
            rope_t_extrapolation_ratio=network["rope_t_extrapolation_ratio"],
            rope_h_extrapolation_ratio=network["rope_h_extrapolation_ratio"],
            rope_w_extrapolation_ratio=network["rope_w_extrapolation_ratio"],
            rope_enable_fps_modulation=network["rope_enable_fps_modulation"],
        )
    )
    load_published_into(built, read_published(folder / found["files"]["weights"]["file"]))
    with torch.no_grad():
        out = built(
            io["in.x_B_C_T_H_W"],
            io["in.timesteps"],
            io["in.crossattn_emb"],
            io.get("in.condition_video_input_mask"),
            io["in.padding_mask"],
            io.get("in.fps"),
        )
    torch.testing.assert_close(out, io["out"], **found["tolerance"])
