"""Tokens and heads change places between ranks without loss, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cosmos_nemo.parallel.collectives import gather_tokens, sum_gradient
from cosmos_nemo.parallel.context import TokenRange, heads_to_sequence, pad_tokens, sequence_to_heads, split_range
from tests.distributed import run_ranks


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    """Results of both ranks, from one launch."""
    return run_ranks("tests.parallel.ranks:run_all", 2)


def test_sum_gradient_is_the_identity_forward_and_a_sum_backward(ranks: list[dict[str, Any]]) -> None:
    for result in ranks:
        for name in ("sum_gradient", "sum_gradient_of_a_view"):
            value, gradient = result[name]
            assert torch.equal(value, result["input"] if name == "sum_gradient" else result["input"].transpose(0, 2))
            assert torch.equal(gradient, torch.full_like(gradient, 3.0))


def test_sum_forward_is_a_sum_forward_and_the_identity_backward(ranks: list[dict[str, Any]]) -> None:
    total = ranks[0]["input"] + ranks[1]["input"]
    for rank, result in enumerate(ranks):
        value, gradient = result["sum_forward"]
        assert torch.equal(value, total)
        assert torch.equal(gradient, torch.full_like(gradient, rank + 1.0))


def test_gathered_tokens_are_in_rank_order(ranks: list[dict[str, Any]]) -> None:
    whole = torch.cat([result["input"] for result in ranks])
    for result in ranks:
        for name, gradient_value in (("gather_tokens", 1.0), ("gather_tokens_for_split_use", 3.0)):
            value, gradient = result[name]
            assert torch.equal(value, whole)
            assert torch.equal(gradient, torch.full_like(gradient, gradient_value))


def test_sequence_to_heads_gives_all_tokens_of_a_share_of_the_heads(ranks: list[dict[str, Any]]) -> None:
    whole = torch.cat([result["input"] for result in ranks])
    for rank, result in enumerate(ranks):
        value, gradient = result["sequence_to_heads"]
        assert torch.equal(value, whole[:, :, 2 * rank : 2 * rank + 2])
        # Heads 0, 1 went to rank 0, whose gradient is 1; heads 2, 3 to rank 1, whose gradient is 2.
        assert torch.equal(gradient, torch.tensor([1.0, 1.0, 2.0, 2.0]).expand_as(gradient))


def test_sequence_to_heads_and_back_is_the_identity(ranks: list[dict[str, Any]]) -> None:
    for rank, result in enumerate(ranks):
        value, gradient = result["round_trip"]
        assert torch.equal(value, result["input"])
        assert torch.equal(gradient, torch.full_like(gradient, rank + 1.0))


def test_an_odd_number_of_tokens_is_padded_at_its_end(ranks: list[dict[str, Any]]) -> None:
    assert ranks[0]["range"] == TokenRange(num_tokens=5, start=0, length=3)
    assert ranks[1]["range"] == TokenRange(num_tokens=5, start=3, length=3)
    x = torch.arange(1.0, 6.0)
    assert ranks[0]["range"].take(x).tolist() == [1, 2, 3]
    assert ranks[1]["range"].take(x).tolist() == [4, 5, 0]


def test_a_range_that_lies_wholly_in_the_padding_is_zeros() -> None:
    assert TokenRange(num_tokens=5, start=6, length=2).take(torch.ones(5)).tolist() == [0, 0]


def test_without_a_group_everything_is_the_identity() -> None:
    x = torch.randn(3, 2, 4)
    for operation in (gather_tokens, sum_gradient, sequence_to_heads, heads_to_sequence):
        assert operation(x, None) is x
    assert split_range(5, None, None).take(x[:, 0, 0]) is not None
    assert pad_tokens(x, 3) is x
