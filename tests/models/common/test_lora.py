"""Settings of adapters."""

from __future__ import annotations

import pytest

from cosmos_nemo.errors import UserError
from cosmos_nemo.models.common.lora import LoRA

PARTS = [
    *(f"{attention}.{part}" for attention in ("self_attn", "cross_attn") for part in ("q", "k", "v", "proj")),
    *("mlp.fc1.gate", "mlp.fc1.up", "mlp.fc2"),
]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("self_attn.q", {"self_attn.q"}),
        ("q", {"self_attn.q", "cross_attn.q"}),
        ("cross_attn", {f"cross_attn.{part}" for part in ("q", "k", "v", "proj")}),
        ("mlp", {"mlp.fc1.gate", "mlp.fc1.up", "mlp.fc2"}),
        ("fc1", {"mlp.fc1.gate", "mlp.fc1.up"}),
        ("mlp.fc1", {"mlp.fc1.gate", "mlp.fc1.up"}),
        ("fc1.up", {"mlp.fc1.up"}),
        ("attn", set()),
        ("fc", set()),
    ],
)
def test_a_target_means_every_part_whose_words_it_is(target: str, expected: set[str]) -> None:
    lora = LoRA(targets=target)
    assert {part for part in PARTS if lora.adapts(part, 0)} == expected


def test_the_default_means_everything() -> None:
    assert all(LoRA().adapts(part, 35) for part in PARTS)


def test_blocks_are_counted_from_the_first() -> None:
    assert [LoRA(blocks=2).adapts("mlp.fc2", block) for block in range(4)] == [True, True, False, False]


def test_a_target_that_means_nothing_is_refused_with_what_is_legal() -> None:
    LoRA(targets=("v", "mlp")).check_targets(PARTS)
    with pytest.raises(UserError, match=r"targets: 'q_proj' names nothing .*; use self_attn.q, .*, mlp.fc2, or words"):
        LoRA(targets=("q", "q_proj")).check_targets(PARTS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "needs rank >= 1"),
        ({"alpha": 0.0}, "needs rank >= 1, alpha > 0"),
        ({"targets": ()}, "and targets"),
        ({"blocks": 0}, "model.lora.blocks=0; use 1 or more"),
        ({"scale": "rank"}, "model.lora.scale='rank'; use one of alpha/rank, direct"),
        ({"init": "zeros"}, "model.lora.init='zeros'; use one of fan_in, kaiming_uniform, gaussian"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        LoRA(**settings)


def test_the_factor_is_divided_by_the_rank_unless_it_is_direct() -> None:
    assert (LoRA(rank=4, alpha=8.0).factor, LoRA(rank=4, alpha=0.5, scale="direct").factor) == (2.0, 0.5)
