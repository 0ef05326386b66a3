"""Adapters under published names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cosmos_nemo.checkpoints.adapters import (
    Matrices,
    adapters_of,
    load_adapters,
    settings_of,
    take_adapters,
)
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.adapter_names import INJECTED, PEFT
from cosmos_nemo.models.common.adapters import add_adapters
from cosmos_nemo.models.common.lora import LoRA
from tests.checkpoints.networks import AR, AR_TEXT_SPACED, TINY, architecture_of, model_of
from tests.distributed import run_ranks
from tests.models.dit_cases import one_process_parallel_state

NETWORKS = {"predict2": TINY, "autoregressive": AR, "autoregressive with text": AR_TEXT_SPACED}
SETTINGS = {
    "everything": LoRA(rank=3, alpha=6.0),
    "some": LoRA(rank=3, alpha=6.0, targets=("q", "self_attn.v", "fc2"), blocks=2),
}


@pytest.fixture(autouse=True)
def world() -> None:
    one_process_parallel_state()


@pytest.fixture(params=NETWORKS)
def fields(request: pytest.FixtureRequest) -> dict[str, Any]:
    return NETWORKS[request.param]


def random_matrices(fields: dict[str, Any], lora: LoRA) -> Matrices:
    """What a file could hold for a network."""
    gen, matrices = torch.Generator().manual_seed(1), Matrices()
    for item in architecture_of(fields).adapted(lora):
        outputs, inputs = item.shape
        matrices.down[item.weight] = torch.randn(lora.rank, inputs, generator=gen)
        matrices.up[item.weight] = torch.randn(outputs, lora.rank, generator=gen)
    return matrices


def same(a: Matrices, b: Matrices) -> bool:
    pairs = ((a.down, b.down), (a.up, b.up))
    return all(x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x) for x, y in pairs)


@pytest.mark.parametrize("settings", SETTINGS)
def test_what_is_loaded_comes_out_bit_for_bit(fields: dict[str, Any], settings: str) -> None:
    lora, network = SETTINGS[settings], model_of(fields)
    matrices = random_matrices(fields, lora)
    add_adapters(network, lora)
    load_adapters(network, matrices, architecture_of(fields).adapted(lora), source="a file")
    assert matrices.down and same(adapters_of(network, architecture_of(fields).adapted(lora)), matrices)


@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_are_read_off_the_places_and_sizes(fields: dict[str, Any], settings: str) -> None:
    lora = SETTINGS[settings]
    found = settings_of(random_matrices(fields, lora), architecture_of(fields).adapted(), alpha=6.0, source="a file")
    assert (found.rank, found.alpha, found.scale) == (3, 6.0, "alpha/rank")
    wanted = lora.blocks if lora.blocks is None or lora.blocks < fields["num_layers"] else None
    assert found.blocks == wanted
    assert architecture_of(fields).adapted(found) == architecture_of(fields).adapted(lora)


@pytest.mark.parametrize("pattern", [INJECTED, PEFT])
def test_a_state_dict_is_taken_apart_and_put_together(fields: dict[str, Any], pattern: Any) -> None:
    matrices = random_matrices(fields, SETTINGS["some"])
    weights = {pattern.names_of(weight)[0]: torch.ones(1) for weight in matrices.down}
    state = {"other.weight": torch.zeros(1), **weights, **matrices.named(pattern)}
    rest, taken = take_adapters(state, pattern, source="a file")
    assert same(taken, matrices)
    assert rest.keys() == {"other.weight", *matrices.down} and rest["other.weight"] is state["other.weight"]


def first(matrices: Matrices) -> str:
    return next(iter(matrices.down))


def test_a_lone_matrix_is_named() -> None:
    state = random_matrices(TINY, SETTINGS["some"]).named(INJECTED)
    del state["blocks.0.self_attn.v_proj.lora_B.default.weight"]
    with pytest.raises(
        UserError, match=r"a file: of the two matrices of blocks.0.self_attn.v_proj.weight one is missing"
    ):
        take_adapters(state, INJECTED, source="a file")


def refused(change: Any) -> str:
    matrices = random_matrices(TINY, SETTINGS["everything"])
    change(matrices)
    with pytest.raises(UserError) as error:
        settings_of(matrices, architecture_of(TINY).adapted(), alpha=1.0, source="a file")
    return str(error.value)


def test_adapters_that_no_settings_describe_are_refused() -> None:
    def rank(matrices: Matrices) -> None:
        matrices.down[first(matrices)] = torch.zeros(5, 96)

    def hole(matrices: Matrices) -> None:
        for half in (matrices.down, matrices.up):
            del half["blocks.0.mlp.layer1.weight"]

    def foreign(matrices: Matrices) -> None:
        for half in (matrices.down, matrices.up):
            half["blocks.0.adaln_modulation_mlp.1.weight"] = torch.zeros(3, 3)

    assert refused(rank) == "The adapters have ranks 3, 5; only adapters of one rank are read."
    assert "has no adapters of blocks.0.mlp.layer1.weight, though it has those of other blocks" in refused(hole)
    assert "this one has no blocks.0.adaln_modulation_mlp.1.weight that can be adapted" in refused(foreign)
    assert refused(lambda matrices: (matrices.down.clear(), matrices.up.clear())) == "a file holds no adapters."


def test_adapters_of_another_network_are_refused_and_nothing_is_copied() -> None:
    lora = LoRA(rank=3, targets=("self_attn",))
    network = model_of(TINY)
    add_adapters(network, lora)
    maps = architecture_of(TINY).adapted(lora)
    before = adapters_of(network, maps)
    before = Matrices(
        down={k: v.clone() for k, v in before.down.items()}, up={k: v.clone() for k, v in before.up.items()}
    )
    wrong = random_matrices(TINY, lora)
    wrong.up[first(wrong)] = torch.zeros(7, 3)
    wrong.down["blocks.1.mlp.layer1.weight"], wrong.up["blocks.1.mlp.layer1.weight"] = (
        torch.zeros(3, 96),
        torch.zeros(384, 3),
    )
    with pytest.raises(
        UserError, match=r"of a file are not those of the network \(0 missing, 2 unexpected, 1 of another"
    ) as e:
        load_adapters(network, wrong, maps, source="a file")
    assert "unexpected: blocks.1.mlp.layer1.lora_A.weight" in str(e.value)
    assert same(adapters_of(network, maps), before)
    with pytest.raises(UserError, match=r"lora_A.weight \(\[2, 96\] in the checkpoint, \[3, 96\] in the model\)"):
        load_adapters(network, random_matrices(TINY, LoRA(rank=2, targets=("self_attn",))), maps, source="a file")


def test_two_ranks_load_their_slices_and_put_them_together_again() -> None:
    cases: list[tuple[dict[str, Any], LoRA, dict[str, Tensor], dict[str, Tensor]]] = []
    for fields in NETWORKS.values():
        matrices = random_matrices(fields, SETTINGS["everything"])
        cases.append((fields, SETTINGS["everything"], matrices.down, matrices.up))
    for results in run_ranks("tests.checkpoints.ranks:adapters_round_trip", 2, cases):
        assert results == [True] * len(cases)
