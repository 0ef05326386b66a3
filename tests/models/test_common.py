"""Operations with hand-written gradients equal the formula differentiated by torch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cosmos_nemo.models.common.attention import core_attention
from cosmos_nemo.models.common.heads import normalised_heads
from cosmos_nemo.models.common.norm import RMSNorm, norm_modulate
from cosmos_nemo.models.common.rope import rope_angles


def plain_heads(mixed: Tensor, weights: tuple[Tensor, ...], angles: Tensor | None) -> list[Tensor]:
    """RMSNorm and rotation of the first parts, written as in a paper; angles [S, 1 or B, K/2]."""
    parts = list(mixed.unbind(-2))
    for index, weight in enumerate(weights):
        y = parts[index].float()
        y = y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight.float()
        if angles is not None:
            cos, sin = (f(torch.cat((angles, angles), -1))[:, :, None] for f in (torch.cos, torch.sin))
            first, second = y.chunk(2, -1)
            y = y * cos + torch.cat((-second, first), -1) * sin
        parts[index] = y.to(mixed.dtype)
    return parts


def assert_same_values_and_gradients(
    found: list[Tensor], wanted: list[Tensor], inputs: list[Tensor], atol: float
) -> None:
    torch.manual_seed(0)
    cotangents = [torch.randn_like(value) for value in wanted]
    for value, reference in zip(found, wanted, strict=True):
        torch.testing.assert_close(value, reference, atol=atol, rtol=atol)
    ours = torch.autograd.grad(found, inputs, cotangents)
    for gradient, reference in zip(ours, torch.autograd.grad(wanted, inputs, cotangents), strict=True):
        torch.testing.assert_close(gradient, reference, atol=atol * reference.abs().max().item(), rtol=0)


DTYPES = [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)]


@pytest.mark.parametrize(("dtype", "atol"), DTYPES)
@pytest.mark.parametrize("table_batch", [None, 1, 2])
@pytest.mark.parametrize(("parts", "normalised"), [(3, 2), (2, 1), (1, 1)])
def test_normalised_heads_equal_the_formula(
    parts: int, normalised: int, table_batch: int | None, dtype: torch.dtype, atol: float
) -> None:
    torch.manual_seed(1)
    S, B, N, K = 5, 2, 3, 12
    mixed = torch.randn(S, B, N, parts, K).to(dtype).requires_grad_()
    weights = tuple((1 + torch.rand(K)).to(dtype).requires_grad_() for _ in range(normalised))
    angles = None if table_batch is None else torch.randn(S, table_batch, K // 2)
    tables = (None, None) if angles is None else (angles.cos(), angles.sin())
    found = list(normalised_heads(mixed, weights, 1e-6, *tables))
    assert_same_values_and_gradients(found, plain_heads(mixed, weights, angles), [mixed, *weights], atol)


@pytest.mark.parametrize(("dtype", "atol"), DTYPES)
@pytest.mark.parametrize("rows", [(4, 1), (1, 1), (4, 6)])
def test_norm_modulate_equals_the_formula(rows: tuple[int, int], dtype: torch.dtype, atol: float) -> None:
    torch.manual_seed(2)
    x = (3 * torch.randn(4, 6, 2, 32) + 1).to(dtype).requires_grad_()
    shift, scale = (torch.randn(*rows, 2, 32).to(dtype).requires_grad_() for _ in range(2))
    wanted = F.layer_norm(x.float(), (32,), eps=1e-6) * (1 + scale.float()) + shift.float()
    found = norm_modulate(x, shift, scale, 1e-6)
    assert_same_values_and_gradients([found], [wanted.to(dtype)], [x, shift, scale], atol)


def test_rms_norm_has_float32_statistics_and_the_input_dtype() -> None:
    x = (100 * torch.randn(3, 64)).bfloat16()
    norm = RMSNorm(64, eps=1e-6, dtype=torch.bfloat16)
    assert norm(x).dtype == torch.bfloat16
    torch.testing.assert_close(norm(x), F.rms_norm(x.float(), (64,), eps=1e-6).bfloat16())


def test_core_attention_is_softmax_attention() -> None:
    q, k, v = torch.randn(5, 2, 3, 8), torch.randn(7, 2, 3, 8), torch.randn(7, 2, 3, 8)
    weights = torch.einsum("sbnk,lbnk->bnsl", q, k).div(8**0.5).softmax(-1)
    torch.testing.assert_close(core_attention(q, k, v), torch.einsum("bnsl,lbnk->sbnk", weights, v))


def test_frame_rate_scales_temporal_angles_per_sample() -> None:
    ratios, grid = (1.0, 1.0, 1.0), (3, 2, 2)
    angles = rope_angles(grid, 24, ratios, fps=torch.tensor([24.0, 12.0]))
    torch.testing.assert_close(angles[:, 0], rope_angles(grid, 24, ratios))
    torch.testing.assert_close(angles[:, 1, :4], 2 * angles[:, 0, :4])  # d_t = 24 - 2 * 8, so 4 temporal angles
    assert torch.equal(angles[:, 1, 4:12], angles[:, 0, 4:12])
