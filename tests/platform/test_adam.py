from __future__ import annotations

import copy

import pytest
import torch

from cosmos_nemo.platform.adam import Adam


def _steps(optimizer: torch.optim.Optimizer, parameter: torch.Tensor, count: int) -> None:
    for step in range(count):
        grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
        parameter.grad = grad.to(parameter.dtype)
        optimizer.step()


@pytest.mark.parametrize("decoupled", [True, False])
def test_equals_torch_adam(decoupled: bool) -> None:
    options = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}
    mine, theirs = (torch.linspace(-1, 1, 37, dtype=torch.float64).requires_grad_() for _ in range(2))
    peer = (torch.optim.AdamW if decoupled else torch.optim.Adam)([theirs], **options)
    _steps(Adam([mine], adam_w_mode=decoupled, **options), mine, 20)
    _steps(peer, theirs, 20)
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("decoupled", [True, False])
def test_fused_and_separate_passes_agree(decoupled: bool) -> None:
    fused, separate = (torch.linspace(-1, 1, 37, dtype=torch.float64).requires_grad_() for _ in range(2))
    a = Adam([fused], lr=0.01, weight_decay=0.1, adam_w_mode=decoupled)
    b = Adam([separate], lr=0.01, weight_decay=0.1, adam_w_mode=decoupled)
    b._fused = b._foreach
    _steps(a, fused, 20)
    _steps(b, separate, 20)
    torch.testing.assert_close(fused, separate, rtol=1e-6, atol=1e-8)


def test_without_bias_correction_the_first_step_is_the_formula() -> None:
    p = torch.tensor([2.0], requires_grad=True)
    optimizer = Adam([p], lr=0.1, betas=(0.9, 0.99), eps=0.0, bias_correction=False, weight_decay=0.5)
    p.grad = torch.tensor([3.0])
    optimizer.step()
    # m = 0.1 g, v = 0.01 g^2, so m / sqrt(v) = 1; the decay takes 0.1 * 0.5 of 2.
    torch.testing.assert_close(p.detach(), torch.tensor([2.0 * 0.95 - 0.1]))


def test_step_is_counted_in_the_group_and_the_state_is_that_of_fused_adam() -> None:
    p, unused, empty = torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True), torch.ones(0)
    optimizer = Adam([{"params": [p, empty.requires_grad_()]}, {"params": [unused]}])
    _steps(optimizer, p, 4)
    assert optimizer.param_groups[0]["step"] == 4
    assert "step" not in optimizer.param_groups[1]
    assert set(optimizer.state[p]) == {"exp_avg", "exp_avg_sq"}
    assert empty not in optimizer.state


def test_resumes_from_its_state_dict_bit_for_bit() -> None:
    p = torch.linspace(-1, 1, 9).requires_grad_()
    optimizer = Adam([p], weight_decay=0.1)
    _steps(optimizer, p, 3)
    q = p.detach().clone().requires_grad_()
    other = Adam([q], weight_decay=0.1)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    _steps(optimizer, p, 3)
    _steps(other, q, 3)
    assert torch.equal(p, q)
