"""Networks with adapters that several tests share."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from cosmos_nemo.models.common.adapters import adapted_layers, add_adapters
from cosmos_nemo.models.common.lora import LoRA
from cosmos_nemo.numerics.keyed import generator


@torch.no_grad()
def adapt(network: Any, lora: LoRA | None = None, *, std: float = 0.3) -> None:
    """Freezes the network and adds adapters whose B, too, is random, whatever the way the network is cut."""
    network.requires_grad_(False)
    add_adapters(network, lora or LoRA(rank=3, alpha=6.0), seed=5)
    for path, layer, adapters in adapted_layers(network):
        group = layer.tp_group
        for name in adapters.names():
            up = adapters[name].lora_B
            cut = getattr(up, "tensor_model_parallel", False)
            full = std * torch.randn(up.shape[0] * (group.size() if cut else 1), up.shape[1], generator=key(path, name))
            up.copy_(full.chunk(group.size())[group.rank()] if cut else full)


def key(path: str, part: str) -> torch.Generator:
    return generator(6, path, part)


def trained(network: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that require a gradient, by name."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
