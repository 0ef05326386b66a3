"""Networks and clips that the tests of this room share."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cosmos_nemo.tokenizers.cosmos.config import CosmosTokenizerConfig, TinyDV8x16x16Config
from cosmos_nemo.tokenizers.cosmos.network import build_network


@dataclass(kw_only=True)
class TinyCV8x8x8Config(CosmosTokenizerConfig):
    """CV8x8x8 in everything but width."""

    channels: int = 16
    channels_mult: tuple[int, ...] = (1, 2, 2)
    num_res_blocks: int = 1


def tiny_config(*, discrete: bool = False, **fields: object) -> CosmosTokenizerConfig:
    config = TinyDV8x16x16Config if discrete else TinyCV8x8x8Config
    return config(**{"channels": 8, "num_res_blocks": 1, **fields})


def random_network(config: CosmosTokenizerConfig, *, seed: int = 0) -> nn.Module:
    """A network whose every weight matters: also norms and biases are random."""
    network = build_network(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
            if name.endswith("norm.weight"):
                parameter.add_(1)
    return network


def clip(num_frames: int, height: int = 32, width: int = 48, *, batch: int = 1, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, num_frames, height, width, generator=generator) * 2 - 1
