import pytest
import torch
import torch.nn.functional as F

from cosmos_nemo.tokenizers.cosmos.saving import CausalTimeConv, NormSwish


def gradients(output: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(9)).to(output)
    return torch.autograd.grad((output * weight).sum(), inputs)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_time_convolution_is_a_padded_conv3d(num_frames, dtype):
    torch.manual_seed(0)
    x = torch.randn(num_frames, 2, 3, 4, 5, dtype=dtype, requires_grad=True)  # T B H W C
    weight = torch.randn(7, 5, 3, dtype=dtype, requires_grad=True)
    bias = torch.randn(7, dtype=dtype, requires_grad=True)
    y = CausalTimeConv.apply(x, weight, bias)
    video = torch.cat([x[:1], x[:1], x]).permute(1, 4, 0, 2, 3)
    expected = F.conv3d(video, weight[..., None, None], bias).permute(2, 0, 3, 4, 1)
    torch.testing.assert_close(y, expected)
    for ours, theirs in zip(gradients(y, x, weight, bias), gradients(expected, x, weight, bias), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norm_and_swish_are_the_plain_ones(dtype):
    torch.manual_seed(0)
    x = torch.randn(4, 6, 5, 7).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, bias = (torch.randn(6).to(dtype).requires_grad_() for _ in range(2))
    y = NormSwish.apply(x, weight, bias, 1e-6)
    expected = F.silu(F.group_norm(x, 1, weight, bias, 1e-6))
    assert torch.equal(y, expected)
    for ours, theirs in zip(gradients(y, x, weight, bias), gradients(expected, x, weight, bias), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_frozen_weights_get_no_gradient():
    x = torch.randn(2, 6, 5, 7, requires_grad=True)
    weight, bias = torch.ones(6), torch.zeros(6)
    NormSwish.apply(x, weight, bias, 1e-6).sum().backward()
    assert x.grad is not None and weight.grad is None
    rows = torch.randn(3, 1, 2, 2, 4, requires_grad=True)
    kernel = torch.randn(4, 4, 3)
    CausalTimeConv.apply(rows, kernel, torch.zeros(4)).sum().backward()
    assert rows.grad is not None and kernel.grad is None
