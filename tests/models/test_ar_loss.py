"""Cross entropy over a vocabulary, a few positions at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cosmos_nemo.models.autoregressive import loss
from cosmos_nemo.models.autoregressive.loss import IGNORED, vocab_parallel_cross_entropy


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_torch_cross_entropy_and_leaves_the_logits_alone(monkeypatch, dtype) -> None:
    monkeypatch.setitem(loss._ROWS_AT_ONCE, "cpu", 3)  # 10 rows: whole parts and a rest
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(5, 2, 11, generator=generator).to(dtype)
    labels = torch.randint(11, (5, 2), generator=generator)
    labels[2, 1] = IGNORED
    ours, plain = (values.clone().requires_grad_() for _ in range(2))

    ce, lse = vocab_parallel_cross_entropy(ours, labels, None)
    rows = plain.float().flatten(0, 1)
    expected = F.cross_entropy(rows, labels.flatten(), ignore_index=IGNORED, reduction="none").view(5, 2)
    torch.testing.assert_close(ce, expected)
    torch.testing.assert_close(lse, plain.float().logsumexp(-1))

    (ce.sum() + lse.square().sum()).backward()
    (expected.sum() + plain.float().logsumexp(-1).square().sum()).backward()
    torch.testing.assert_close(ours.grad, plain.grad)
    assert torch.equal(ours.detach(), values)
