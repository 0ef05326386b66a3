"""Runs whose adapters were one for all that a layer computes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cosmos_nemo.checkpoints.commands import verify
from cosmos_nemo.checkpoints.convert import published_state_dict
from cosmos_nemo.checkpoints.fused_adapters import is_fused, settings
from cosmos_nemo.checkpoints.megatron import load_training_checkpoint, run_architecture
from cosmos_nemo.errors import UserError
from cosmos_nemo.runs.layout import find_checkpoint
from tests.models.dit_cases import one_process_parallel_state

OLD = Path(__file__).parent.parent / "data_files/fused_adapters"
LORA = json.loads((OLD / "run/run.json").read_text())["lora"]


def test_an_old_run_is_read_as_the_version_that_wrote_it_read_it() -> None:
    one_process_parallel_state()
    info = find_checkpoint(OLD / "run")
    network = run_architecture(info).empty_network(dtype=torch.float32)
    load_training_checkpoint(network, info)
    found, wanted = published_state_dict(network), load_file(OLD / "merged.safetensors")
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=1e-6)


def test_old_settings_become_those_of_today() -> None:
    assert is_fused(LORA)
    lora = settings(LORA, has_text=True)
    assert (lora.rank, lora.alpha, lora.factor) == (2, 6.0, 3.0)
    everything = ["self_attn.q", "self_attn.k", "self_attn.v", "cross_attn.q", "cross_attn.k", "cross_attn.v"]
    assert list(lora.targets) == [*everything, "proj", "fc1", "fc2"]


def test_layers_that_a_network_without_text_does_not_have_are_left_out() -> None:
    assert not any("cross_attn" in target for target in settings(LORA, has_text=False).targets)


def test_an_old_run_is_verified(tmp_path: Path) -> None:
    assert verify(OLD / "run").startswith("OK")
    run = tmp_path / "run"
    shutil.copytree(OLD / "run", run)
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**content, "lora": {**LORA, "rank": 3}}))
    with pytest.raises(UserError, match=r"linear_qkv.lora_B \(\[48, 2\] in the checkpoint, \[48, 3\] in the model"):
        verify(run)
