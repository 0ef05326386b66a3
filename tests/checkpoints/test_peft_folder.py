"""Adapters in PEFT's layout: read by PEFT, and read from PEFT."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cosmos_nemo.checkpoints.adapters import Matrices, settings_of
from cosmos_nemo.checkpoints.peft_folder import is_adapter_file, read_adapter_file, write_adapter_folder
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.rows import Naming
from cosmos_nemo.models.common.lora import LoRA
from tests.checkpoints.networks import AR_TEXT_SPACED, TINY, architecture_of
from tests.checkpoints.test_adapters import random_matrices, same

CASES = {
    "predict2": (TINY, LoRA(rank=3, alpha=6.0), Naming.ORIGINAL),
    "diffusers": (TINY, LoRA(rank=3, alpha=6.0, targets=("self_attn.q", "mlp")), Naming.DIFFUSERS),
    "autoregressive": (
        AR_TEXT_SPACED,
        LoRA(rank=2, alpha=0.5, scale="direct", targets=("q", "fc1.up")),
        Naming.ORIGINAL,
    ),
    "first blocks": (TINY, LoRA(rank=3, alpha=3.0, targets=("v",), blocks=1), Naming.ORIGINAL),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Any:
    return CASES[request.param]


def written(case: Any, folder: Path) -> Matrices:
    """Random adapters of a case, in a folder."""
    fields, lora, naming = case
    architecture, matrices = architecture_of(fields), Matrices()
    maps = architecture.adapted(lora, naming)
    for item, weight in zip(maps, (m := random_matrices(fields, lora)).down, strict=True):
        matrices.down[item.weight], matrices.up[item.weight] = m.down[weight], m.up[weight]
    folder.mkdir()
    assert write_adapter_folder(folder, matrices, maps, lora, architecture, base="a run") == 2 * len(maps)
    return matrices


def plain_network(fields: dict[str, Any], naming: Naming) -> nn.Module:
    """Linear layers under the published names, as a stranger's network would have them."""
    network = nn.Module()
    for name, shape in architecture_of(fields).published_shapes(naming).items():
        path, owner = name.removesuffix(".weight").split("."), network
        for word in path[:-1]:
            owner = owner._modules.setdefault(word, nn.Module())
        if len(shape) == 2:
            owner.add_module(path[-1], nn.Linear(shape[1], shape[0], bias=False))
    return network


def test_peft_takes_the_folder_as_it_is_and_adds_the_same(case: Any, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    matrices = written(case, tmp_path / "adapters")
    fields, lora, naming = case
    network = plain_network(fields, naming)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = peft.PeftModel.from_pretrained(network, tmp_path / "adapters")
    layers = {name: m for name, m in model.base_model.model.named_modules() if hasattr(m, "lora_A")}
    assert {f"{name}.weight" for name in layers} == matrices.down.keys()
    for name, layer in layers.items():
        x = torch.randn(4, layer.in_features)
        down, up = matrices.down[f"{name}.weight"], matrices.up[f"{name}.weight"]
        wanted = x @ layer.base_layer.weight.T + lora.factor * (x @ down.T) @ up.T
        torch.testing.assert_close(layer(x), wanted, atol=1e-4, rtol=1e-4)


def test_what_is_written_is_read_bit_for_bit_with_its_settings(case: Any, tmp_path: Path) -> None:
    matrices = written(case, tmp_path / "adapters")
    fields, lora, naming = case
    for path in (tmp_path / "adapters", tmp_path / "adapters/adapter_model.safetensors"):
        assert is_adapter_file(path)
        found = read_adapter_file(path)
        assert same(found.matrices, matrices)
        assert found.architecture == architecture_of(fields)
        again = settings_of(
            found.matrices, architecture_of(fields).adapted(naming=naming), alpha=found.alpha, source=""
        )
        assert (again.rank, again.factor) == (lora.rank, pytest.approx(lora.factor))
        assert architecture_of(fields).adapted(again) == architecture_of(fields).adapted(lora)


@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_what_peft_saves_is_read(tmp_path: Path, rank_stabilised: bool) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "mlp.layer2"], init_lora_weights=False, use_rslora=rank_stabilised
    )
    model = peft.get_peft_model(plain_network(TINY, Naming.ORIGINAL), config)
    model.save_pretrained(tmp_path / "adapters")
    found = read_adapter_file(tmp_path / "adapters")
    layer = model.base_model.model.blocks._modules["1"].cross_attn.q_proj
    weight = "blocks.1.cross_attn.q_proj.weight"
    assert torch.equal(found.matrices.down[weight], layer.lora_A["default"].weight)
    assert torch.equal(found.matrices.up[weight], layer.lora_B["default"].weight)
    assert found.architecture is None
    lora = settings_of(found.matrices, architecture_of(TINY).adapted(), alpha=found.alpha, source="")
    assert lora.factor == pytest.approx(layer.scaling["default"])
    assert {item.part for item in architecture_of(TINY).adapted(lora)} == {"self_attn.q", "cross_attn.q", "mlp.fc2"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "adapters with use_dora=True are not read; merge them with PEFT first"),
        ({"rank_pattern": {"q_proj": 2}}, "adapters with rank_pattern={'q_proj': 2} are not read"),
        ({"peft_type": "LOHA"}, "does not describe LoRA adapters"),
    ],
)
def test_adapters_of_another_kind_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    written(CASES["predict2"], tmp_path / "adapters")
    config = tmp_path / "adapters/adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(UserError, match=message):
        read_adapter_file(tmp_path / "adapters")


def test_a_file_without_its_config_says_no_alpha(tmp_path: Path) -> None:
    written(CASES["predict2"], tmp_path / "adapters")
    (tmp_path / "adapters/adapter_config.json").unlink()
    assert read_adapter_file(tmp_path / "adapters").alpha is None


def test_other_folders_are_no_adapters(tmp_path: Path) -> None:
    assert not is_adapter_file(tmp_path) and not is_adapter_file(tmp_path / "model.pt")
    with pytest.raises(UserError, match="holds no adapters"):
        read_adapter_file(tmp_path)
