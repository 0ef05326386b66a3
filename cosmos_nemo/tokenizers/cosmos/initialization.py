"""Weights of a fresh tokenizer from which a few hundred steps lead somewhere.

torch's own start makes the first outputs noise in wavelet bands that are nearly empty in videos, and every norm
removes the brightness of a frame. Here a fresh network hands the mean colours of each block of pixels on to the latent
and back, plus something small and random, so that training starts from a blurred copy of the video. Published weights
overwrite all of it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from cosmos_nemo.tokenizers.cosmos.layers import Downsample, ResBlock, SpaceAttention, TimeAttention, Upsample
from cosmos_nemo.tokenizers.cosmos.network import CosmosTokenizerNetwork, Decoder, Encoder

COLOURS = 3
"""The patcher's first channels: the mean red, green and blue of a patch."""
SMALL = 0.1
"""Size of what is random outside the residual branches, and at their ends, relative to a variance-preserving start."""
CONSTANT = 2.0
"""Larger than any colour, so that it decides by how much the last norm divides."""
SHIFT, SLOPE = 3.0, 1.088
"""Where swish is nearly linear, and its slope there."""


@torch.no_grad()
def initialize(network: CosmosTokenizerNetwork, *, seed: int) -> None:
    """Set every weight of a fresh network.

    Args:
        network: as `build_network` makes it.
        seed: of what is random; torch's global generator is left alone.
    """
    generator = torch.Generator().manual_seed(seed)
    branches = _branches(network)
    for conv in network.modules():
        if isinstance(conv, nn.Conv3d):
            gain = branches.get(conv, SMALL)
            conv.weight.normal_(std=gain * conv.weight[0].numel() ** -0.5, generator=generator)
            nn.init.zeros_(conv.bias)
            if conv not in branches:
                _hand_on(conv)
    for part in (network.encoder, network.decoder):
        _keep_brightness(part)


def _branches(network: nn.Module) -> dict[nn.Module, float]:
    """The convolutions that something is handed on beside, and the size of their weights; branches end small."""
    gains: dict[nn.Module, float] = {}
    for module in network.modules():
        if isinstance(module, ResBlock):
            inside = [*module.conv1, module.conv2[0]]
            last = [module.conv2[1]]
        elif isinstance(module, SpaceAttention | TimeAttention):
            inside = [module.q, module.k, module.v]
            last = [module.proj_out]
        elif isinstance(module, Downsample | Upsample):
            inside = []
            last = [conv for name, conv in module.named_children() if name != "conv3"]
        else:
            continue
        gains |= {conv.conv3d: 1.0 for conv in inside} | {conv.conv3d: SMALL for conv in last}
    return gains


def _hand_on(conv: nn.Conv3d) -> None:
    """Add the identity over channels, at the present frame and the pixel itself."""
    outputs, inputs, time, height, width = conv.weight.shape
    conv.weight[:, :, time - 1, height // 2, width // 2] += torch.eye(outputs, inputs, device=conv.weight.device)


def _keep_brightness(part: Encoder | Decoder) -> None:
    """Make the last norm divide by a constant, and the swish after it nearly linear, for all channels but a few.

    These few start as constants of both signs: they sum to zero and are so large that the rest hardly changes the
    norm's variance. The convolution after the swish undoes the division and the shift.
    """
    first, norm, last = part.conv_in[1].conv3d, part.norm_out.norm, part.conv_out[0].conv3d
    width = norm.num_channels
    end = min(first.out_channels, width)  # wider channels are dropped on the way
    count = end // 4 // 2 * 2
    signs = torch.tensor([1.0, -1.0]).repeat(count // 2).to(first.bias)
    first.bias[end - count : end] = CONSTANT * signs
    deviation = CONSTANT * (count / width) ** 0.5
    norm.bias[: end - count] = SHIFT
    last.weight.mul_(deviation / SLOPE)
    at_rest = norm.bias.clone()
    at_rest[end - count : end] = CONSTANT * signs / deviation
    last.bias.sub_(last.weight.sum((2, 3, 4)) @ F.silu(at_rest))
    if isinstance(part, Decoder):
        # The other wavelet bands of a blurred picture are empty.
        outputs = part.conv_out[1].conv3d
        outputs.weight[COLOURS:].mul_(SMALL)
        outputs.bias[COLOURS:].zero_()
