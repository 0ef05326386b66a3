"""Parts of a layer's rows."""

from __future__ import annotations

import pytest
import torch

from cosmos_nemo.models.common.parts import Parts, short_name

GROUPED = Parts(("self_attn.q", "self_attn.k", "self_attn.v"), rows=(4, 2, 2))
HALVES = Parts(("mlp.fc1.gate", "mlp.fc1.up"))
ONE = Parts(("mlp.fc2",))


@pytest.mark.parametrize(("parts", "rows"), [(GROUPED, 24), (GROUPED, 8), (HALVES, 10), (ONE, 7)])
def test_join_is_the_inverse_of_split(parts: Parts, rows: int) -> None:
    layer = torch.arange(rows * 3).view(rows, 3)
    pieces = parts.split(layer)
    assert tuple(piece.shape[0] for piece in pieces) == parts.counts(rows)
    assert torch.equal(parts.join(pieces), layer)


def test_a_group_holds_rows_of_every_part_in_turn() -> None:
    q, k, v = (piece.tolist() for piece in GROUPED.split(torch.arange(16)))
    assert (q, k, v) == ([0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 12, 13], [6, 7, 14, 15])


def test_parts_without_rows_are_equal_shares_one_after_another() -> None:
    assert [piece.tolist() for piece in HALVES.split(torch.arange(6))] == [[0, 1, 2], [3, 4, 5]]


def test_the_last_word_of_a_name_tells_parts_apart() -> None:
    assert [short_name(name) for name in HALVES.names + ONE.names] == ["gate", "up", "fc2"]
