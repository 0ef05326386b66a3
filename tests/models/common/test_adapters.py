"""Adapters change nothing until they are trained, and what was trained can be merged into the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cosmos_nemo.errors import UserError
from cosmos_nemo.models.autoregressive.model import AutoregressiveTransformer
from cosmos_nemo.models.common.adapters import adapted_layers, add_adapters, merge_adapters, without_adapters
from cosmos_nemo.models.common.linear import Column, Row, store_by_inputs
from cosmos_nemo.models.common.lora import LoRA
from cosmos_nemo.models.dit.model import DiT
from tests.models.adapted import adapt
from tests.models.ar_cases import ar_config, ar_inputs, ar_randomise, ar_text_config
from tests.models.dit_cases import batch, one_process_parallel_state, randomise, tiny_config


def dit() -> tuple[nn.Module, dict[str, Any]]:
    network = DiT(tiny_config())
    randomise(network)
    return network, batch()


def autoregressive() -> tuple[nn.Module, dict[str, Any]]:
    network = AutoregressiveTransformer(ar_text_config())
    ar_randomise(network)
    return network, ar_inputs(network.config)


NETWORKS = {"dit": (dit, 10), "autoregressive": (autoregressive, 11)}
"""Maker, and linear maps of a block: q, k, v, proj of both attentions; fc1 (one map, or gate and up); fc2."""

Case = tuple[Any, dict[str, Any], int]


@pytest.fixture(params=NETWORKS)
def case(request: pytest.FixtureRequest) -> Case:
    """A network with random weights, its inputs, and the number of linear maps in its two blocks."""
    one_process_parallel_state()
    make, per_block = NETWORKS[request.param]
    return *make(), 2 * per_block


def ours(network: nn.Module) -> list[nn.Module]:
    return [layer for layer in network.modules() if isinstance(layer, Column | Row)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fresh_adapters_change_no_bit(case: Case, dtype: torch.dtype) -> None:
    network, inputs, maps = case
    network.to(dtype)
    before = network(**inputs)
    assert add_adapters(network, LoRA(rank=2)) == maps
    assert torch.equal(network(**inputs), before)
    assert all(torch.count_nonzero(a[name].lora_A) for _, _, a in adapted_layers(network) for name in a.names())


def test_a_layer_adds_scaled_products_part_by_part(case: Case) -> None:
    network, _, _ = case
    adapt(network, LoRA(rank=3, alpha=6.0, targets=("q", "v", "proj", "fc1")))
    kinds = set()
    for path, layer, adapters in adapted_layers(network):
        x = torch.randn(5, 2, layer.weight.shape[1])
        adapted, (layer.adapters, adapters) = layer(x)[0], (None, adapters)
        plain = layer(x)[0]
        wanted = layer.parts.split(plain.flatten(0, 1).t())
        for i, name in enumerate(layer.parts.names):
            if name in adapters.names():
                down, up = adapters[name].lora_A, adapters[name].lora_B
                wanted[i] = wanted[i] + 2.0 * up @ (down @ x.flatten(0, 1).t())
            else:
                assert name.endswith(".k")
        wanted_S_B_D = layer.parts.join(wanted).t().view_as(adapted)
        torch.testing.assert_close(adapted, wanted_S_B_D, atol=1e-4, rtol=1e-4)
        kinds.add(path.rpartition(".")[2])
    assert kinds == {"linear_qkv", "linear_q", "linear_kv", "linear_proj", "linear_fc1"}


def test_merged_adapters_give_the_same_network_under_the_old_names(case: Case) -> None:
    network, inputs, maps = case
    names = {name for name, _ in network.named_parameters()}
    before = network(**inputs)
    adapt(network)
    adapted = network(**inputs)
    assert not torch.allclose(adapted, before, atol=0.1)
    assert merge_adapters(network) == maps
    torch.testing.assert_close(network(**inputs), adapted, atol=5e-5, rtol=1e-4)
    assert {name for name, _ in network.named_parameters()} == names and not list(adapted_layers(network))


def test_layers_stay_ours_and_keep_their_short_way_through_adapting_and_merging(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, inputs, _ = case
    layers = ours(network)
    assert len(layers) > 2 * 6
    adapt(network)
    with_gradient = network(**inputs)

    def refuse(*args: Any, **options: Any) -> Any:
        raise AssertionError("Megatron's long way where no gradient is needed")

    for base in (Column.__mro__[1], Row.__mro__[1]):
        monkeypatch.setattr(base, "forward", refuse)
    with torch.no_grad():
        torch.testing.assert_close(network(**inputs), with_gradient, atol=1e-5, rtol=1e-5)
        merge_adapters(network)
        assert ours(network) == layers
        torch.testing.assert_close(network(**inputs), with_gradient, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("merged", [True, False])
def test_weights_can_be_stored_by_inputs_with_adapters_and_after_merging(case: Case, merged: bool) -> None:
    network, inputs, _ = case
    adapt(network)
    if merged:
        merge_adapters(network)
    before = network(**inputs)
    store_by_inputs(network)
    assert all(layer.weight.t().is_contiguous() for layer in ours(network))
    torch.testing.assert_close(network(**inputs), before, atol=1e-5, rtol=1e-5)


def test_every_adapter_and_nothing_else_gets_a_gradient(case: Case) -> None:
    network, inputs, maps = case
    adapt(network)
    network(**inputs).square().mean().backward()
    with_gradient = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert with_gradient == {name for name, _ in network.named_parameters() if ".lora_" in name}
    assert len(with_gradient) == 2 * maps


def test_gradients_are_those_of_the_merged_weights_by_the_chain_rule(case: Case) -> None:
    network, inputs, _ = case
    adapt(network)
    network(**inputs).square().mean().backward()
    live = {path: adapters for path, _, adapters in adapted_layers(network)}
    merge_adapters(network)
    network.requires_grad_(True)
    network(**inputs).square().mean().backward()
    layers = dict(network.named_modules())
    for path, adapters in live.items():
        layer = layers[path]
        for name, gradient in zip(layer.parts.names, layer.parts.split(layer.weight.grad), strict=True):
            down, up = adapters[name].lora_A, adapters[name].lora_B
            for found, wanted in ((down.grad, 2.0 * up.mT @ gradient), (up.grad, 2.0 * gradient @ down.mT)):
                torch.testing.assert_close(found, wanted, atol=1e-4 * wanted.abs().max().item(), rtol=0)


def test_adapters_can_be_left_out_for_the_time(case: Case) -> None:
    network, inputs, _ = case
    before = network.requires_grad_(False)(**inputs)
    adapt(network)
    adapted, names = network(**inputs), [name for name, _ in network.named_parameters()]
    with without_adapters(network):
        assert torch.equal(network(**inputs), before)
        assert not any("lora_" in name for name, _ in network.named_parameters())
    assert torch.equal(network(**inputs), adapted)
    assert [name for name, _ in network.named_parameters()] == names


def test_only_the_first_blocks_are_adapted(case: Case) -> None:
    network, _, maps = case
    assert add_adapters(network, LoRA(blocks=1)) == maps // 2
    assert all(".0." in path for path, _, _ in adapted_layers(network))


@pytest.mark.parametrize(
    ("init", "std"),
    [
        ("fan_in", lambda inputs: inputs**-0.5),
        ("kaiming_uniform", lambda n: (3 * n) ** -0.5),
        ("gaussian", lambda _: 0.25),
    ],
)
def test_fresh_values_have_the_spread_of_their_kind(case: Case, init: str, std: Callable[[int], float]) -> None:
    network, _, _ = case
    add_adapters(network, LoRA(rank=4, init=init))
    for _, layer, adapters in adapted_layers(network):
        downs = torch.cat([adapters[name].lora_A for name in adapters.names()])
        assert downs.std().item() == pytest.approx(std(layer.weight.shape[1]), rel=0.25)
        assert init != "kaiming_uniform" or downs.abs().max() <= layer.weight.shape[1] ** -0.5


def downs(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters() if name.endswith("lora_A")}


def test_fresh_values_follow_the_seed_of_the_adapters_or_else_of_the_run(case: Case) -> None:
    network, _, _ = case
    drawn = []
    for own, run in ((None, 1), (None, 2), (1, 2)):
        add_adapters(network, LoRA(rank=2, seed=own), seed=run)
        drawn.append(downs(network))
    first, other, own = drawn
    assert all(torch.equal(first[name], own[name]) and not torch.equal(first[name], other[name]) for name in first)
    values = [value.flatten()[0].item() for value in first.values()]
    assert len(set(values)) == len(values)  # no two parts are given the same matrix


def test_targets_that_name_nothing_are_refused() -> None:
    one_process_parallel_state()
    network = AutoregressiveTransformer(ar_config())
    with pytest.raises(UserError, match=r"'cross_attn' names nothing .* use self_attn.q, self_attn.k, .*mlp.fc1.gate"):
        add_adapters(network, LoRA(targets=("q", "cross_attn")))
    with pytest.raises(UserError, match="'word_embeddings' names nothing"):
        add_adapters(network, LoRA(targets=("word_embeddings",)))
    assert not list(adapted_layers(network))
