"""Adapters change nothing until they are trained, and what was trained can be merged into the weights."""

from __future__ import annotations

import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.models.autoregressive.model import AutoregressiveTransformer
from cosmos_nemo.models.common.lora import LoRA, adapted_layers, add_lora, merge_adapters
from tests.models.ar_cases import ar_adapt, ar_inputs, ar_randomise, ar_text_config
from tests.models.dit_cases import one_process_parallel_state


@pytest.fixture
def network() -> AutoregressiveTransformer:
    one_process_parallel_state()
    model = AutoregressiveTransformer(ar_text_config())
    ar_randomise(model)
    return model


def test_fresh_adapters_change_nothing(network: AutoregressiveTransformer) -> None:
    inputs = ar_inputs(network.config)
    before = network(**inputs)
    # Two layers of: qkv, proj; q, kv, proj of the cross-attention; fc1, fc2.
    assert add_lora(network, LoRA(rank=2)) == 2 * 7
    assert torch.equal(network(**inputs), before)


def test_merged_adapters_give_the_same_network_under_the_old_names(network: AutoregressiveTransformer) -> None:
    inputs, names = ar_inputs(network.config), {name for name, _ in network.named_parameters()}
    before = network(**inputs)
    ar_adapt(network)
    adapted = network(**inputs)
    assert not torch.allclose(adapted, before, atol=0.1)
    assert merge_adapters(network) == 14
    torch.testing.assert_close(network(**inputs), adapted, atol=2e-5, rtol=1e-4)
    assert {name for name, _ in network.named_parameters()} == names and not list(adapted_layers(network))


def test_every_adapter_and_nothing_else_gets_a_gradient(network: AutoregressiveTransformer) -> None:
    ar_adapt(network)
    network(**ar_inputs(network.config)).square().mean().backward()
    with_gradient = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert with_gradient == {name for name, _ in network.named_parameters() if "lora_" in name}


def test_settings_that_adapt_nothing_are_refused(network: AutoregressiveTransformer) -> None:
    with pytest.raises(UserError, match="no layer of the network is named q_proj"):
        add_lora(network, LoRA(targets=("q_proj",)))
    with pytest.raises(UserError, match="needs rank >= 1"):
        LoRA(rank=0)
    with pytest.raises(UserError, match="is no tensor-parallel linear layer"):
        add_lora(network, LoRA(targets=("word_embeddings",)))
