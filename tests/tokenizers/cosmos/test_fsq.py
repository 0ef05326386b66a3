import math

import pytest
import torch

from cosmos_nemo.tokenizers.cosmos.fsq import FiniteScalarQuantizer

LEVELS = (8, 8, 8, 5, 5, 5)


def test_every_code_is_reached_and_its_token_leads_back_to_it():
    quantizer = FiniteScalarQuantizer(LEVELS)
    indices = torch.arange(math.prod(LEVELS), dtype=torch.int32).view(1, 40, 40, 40)
    codes = quantizer.codes(indices)
    # Invert the bound: the middle of each step, safely inside.
    half = (torch.tensor(LEVELS) - 1) * (1 + 1e-3) / 2
    offset = torch.tensor([0.5 if level % 2 == 0 else 0.0 for level in LEVELS])
    steps = codes.movedim(1, -1) * (torch.tensor(LEVELS) // 2)
    z = (torch.atanh((steps + offset) / half) - torch.atanh(offset / half)).movedim(-1, 1)
    quantized = quantizer(z)
    assert torch.equal(quantized.indices_B_T_H_W, indices)
    assert torch.equal(quantized.codes_B_D_T_H_W, codes)
    assert torch.equal(codes.to(torch.bfloat16).float(), codes)


def test_the_gradient_is_that_of_the_bound():
    quantizer = FiniteScalarQuantizer(LEVELS)
    z = torch.randn(1, 6, 2, 3, 3, requires_grad=True)
    weight = torch.randn(1, 6, 2, 3, 3)
    (quantizer(z).codes_B_D_T_H_W * weight).sum().backward()
    other = z.detach().clone().requires_grad_()
    bounded = quantizer.bound(other.movedim(1, -1)) / (torch.tensor(LEVELS) // 2)
    (bounded.movedim(-1, 1) * weight).sum().backward()
    torch.testing.assert_close(z.grad, other.grad)
    assert (z.grad != 0).all()


@pytest.mark.parametrize("levels", [(3,), (4, 3, 5)])
def test_other_levels(levels):
    quantizer = FiniteScalarQuantizer(levels)
    indices = quantizer(10 * torch.randn(1, len(levels), 4, 8, 8)).indices_B_T_H_W
    assert indices.dtype == torch.int32
    assert indices.min() >= 0
    assert indices.max() < math.prod(levels)


def test_bfloat16_input_is_bounded_in_float32():
    quantizer = FiniteScalarQuantizer(LEVELS)
    z = torch.randn(1, 6, 4, 8, 8).to(torch.bfloat16)
    assert torch.equal(quantizer(z).indices_B_T_H_W, quantizer(z.float()).indices_B_T_H_W)
    assert quantizer(z).codes_B_D_T_H_W.dtype == torch.bfloat16
