"""Names of adapters, and that the name tables and the layers mean the same by a part."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cosmos_nemo.families.adapter_names import INJECTED, PEFT, adapted_maps
from cosmos_nemo.families.rows import Naming, split
from cosmos_nemo.models.common.adapters import adapted_layers, add_adapters
from cosmos_nemo.models.common.lora import LoRA
from tests.checkpoints.networks import AR, AR_TEXT_SPACED, TINY, architecture_of, model_of
from tests.models.dit_cases import one_process_parallel_state

NETWORKS = {"predict2": TINY, "autoregressive": AR, "autoregressive with text": AR_TEXT_SPACED}


@pytest.fixture(params=NETWORKS)
def fields(request: pytest.FixtureRequest) -> dict[str, Any]:
    one_process_parallel_state()
    return NETWORKS[request.param]


def maps(fields: dict[str, Any], lora: LoRA, naming: Naming = Naming.ORIGINAL) -> list[Any]:
    network = architecture_of(fields)
    return list(adapted_maps(network.rows, network.family.names.sizes(fields), lora, naming))


def test_the_table_and_the_layers_agree_on_the_parts_and_where_they_lie(fields: dict[str, Any]) -> None:
    network, layers = architecture_of(fields), dict(model_of(fields).named_modules())
    sizes, seen = network.family.names.sizes(fields), set()
    for row in network.rows:
        layer = layers.get(row.ours.removesuffix(".weight"))
        parts = getattr(layer, "parts", None)
        assert row.parts == (parts.names if parts else ()), row.ours
        if parts:
            weight = torch.arange(layer.weight.numel()).view_as(layer.weight)
            wanted = split(row.layout, weight, published=row.published_shapes(sizes), head_width=sizes["K"])
            assert all(torch.equal(a, b) for a, b in zip(parts.split(weight), wanted, strict=True)), row.ours
            seen.add(row.ours)
    assert seen == {f"{path}.weight" for path, layer in layers.items() if getattr(layer, "parts", None)}


@pytest.mark.parametrize("lora", [LoRA(rank=3), LoRA(rank=3, targets=("q", "self_attn.v", "fc2"), blocks=1)])
def test_derived_names_and_shapes_are_those_of_the_network(fields: dict[str, Any], lora: LoRA) -> None:
    network = model_of(fields)
    add_adapters(network, lora)
    ours = {name: tuple(p.shape) for name, p in network.named_parameters() if ".adapters." in name}
    derived = {name: shape for item in maps(fields, lora) for name, shape in item.our_shapes(3).items()}
    assert derived == ours and len(ours) == 2 * sum(len(a.names()) for _, _, a in adapted_layers(network))


def test_published_names_are_upstreams() -> None:
    names = {
        name for item in maps(TINY, LoRA(rank=4)) for name in item.published_shapes(4, INJECTED) if "blocks.1." in name
    }
    attention = [f"{a}.{m}" for a in ("self_attn", "cross_attn") for m in ("q_proj", "k_proj", "v_proj", "output_proj")]
    modules = [f"blocks.1.{name}" for name in (*attention, "mlp.layer1", "mlp.layer2")]
    assert names == {f"{module}.lora_{m}.default.weight" for module in modules for m in "AB"}


def test_published_names_follow_the_vocabulary_of_the_file() -> None:
    lora = LoRA(rank=2, targets=("cross_attn.k",), blocks=1)
    (item,) = maps(TINY, lora, Naming.DIFFUSERS)
    assert item.published_shapes(2, PEFT) == {
        "transformer_blocks.0.attn2.to_k.lora_A.weight": (2, 40),
        "transformer_blocks.0.attn2.to_k.lora_B.weight": (96, 2),
    }
