"""Merging adapters."""

import pytest
import torch

from cosmos_nemo.checkpoints.lora import merge_lora
from cosmos_nemo.errors import UserError


def adapted(rank: int = 2) -> dict[str, torch.Tensor]:
    return {
        "net.blocks.0.mlp.layer1.base_layer.weight": torch.randn(6, 4),
        "net.blocks.0.mlp.layer1.lora_A.default.weight": torch.randn(rank, 4),
        "net.blocks.0.mlp.layer1.lora_B.default.weight": torch.randn(6, rank),
        "net.final_layer.linear.weight": torch.randn(3, 6),
    }


def test_merged_linear_acts_like_base_plus_scaled_adapter():
    state, x = adapted(), torch.randn(5, 4)
    merged = merge_lora(state, alpha=8)
    base, down, up, other = state.values()
    assert set(merged) == {"net.blocks.0.mlp.layer1.weight", "net.final_layer.linear.weight"}
    expected = x @ base.T + 4.0 * (x @ down.T) @ up.T
    torch.testing.assert_close(x @ merged["net.blocks.0.mlp.layer1.weight"].T, expected)
    assert merged["net.final_layer.linear.weight"] is other


def test_alpha_zero_gives_the_base_weights_bit_for_bit():
    state = adapted()
    merged = merge_lora(state, alpha=0.0)
    assert torch.equal(merged["net.blocks.0.mlp.layer1.weight"], state["net.blocks.0.mlp.layer1.base_layer.weight"])


def test_merging_keeps_the_weights_dtype():
    state = {name: tensor.bfloat16() for name, tensor in adapted().items()}
    assert merge_lora(state, alpha=1)["net.blocks.0.mlp.layer1.weight"].dtype == torch.bfloat16


def test_incomplete_or_absent_adapters_are_errors():
    state = adapted()
    with pytest.raises(UserError, match="no adapters"):
        merge_lora({"net.final_layer.linear.weight": torch.randn(3, 6)}, alpha=1)
    del state["net.blocks.0.mlp.layer1.lora_B.default.weight"]
    with pytest.raises(UserError, match=r"layer1.*lora_B"):
        merge_lora(state, alpha=1)


def test_shapes_that_do_not_fit_are_named():
    state = adapted() | {"net.blocks.0.mlp.layer1.lora_B.default.weight": torch.randn(6, 3)}
    with pytest.raises(UserError, match=r"layer1.*lora_B \(6, 3\)"):
        merge_lora(state, alpha=1)
