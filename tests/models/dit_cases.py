"""Small networks and batches that several DiT tests share. All values are keyed, so every process makes the same."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from cosmos_nemo.models.dit.config import DiTConfig, Predict2Video2WorldTinyConfig
from cosmos_nemo.models.dit.model import DiT
from cosmos_nemo.numerics.keyed import generator


def one_process_parallel_state() -> None:
    """Gives Megatron a world of one; may be called again."""
    from megatron.core import parallel_state

    if not torch.distributed.is_initialized():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    if not parallel_state.model_parallel_is_initialized():
        parallel_state.initialize_model_parallel()


def tiny_config(**settings: object) -> DiTConfig:
    """Two blocks, so that a test is short; a text width that is no multiple of anything."""
    return Predict2Video2WorldTinyConfig(**{"num_layers": 2, "crossattn_emb_channels": 40, **settings})


def randomise(model: DiT, seed: int = 1) -> None:
    """Gives every parameter (zeros and norms too) random values that do not depend on how it is cut."""
    from megatron.core import parallel_state

    rank = parallel_state.get_tensor_model_parallel_rank()
    size = parallel_state.get_tensor_model_parallel_world_size()
    for name, parameter in model.named_parameters():
        dim = parameter.partition_dim if getattr(parameter, "tensor_model_parallel", False) else None
        shape = list(parameter.shape)
        if dim is not None:
            shape[dim] *= size
        full = torch.randn(shape, generator=generator(seed, name)) * (
            0.5 if len(shape) == 1 else 1.5 * shape[-1] ** -0.5
        )
        full = full + (len(shape) == 1)
        parameter.data.copy_(full if dim is None else full.chunk(size, dim)[rank])


def batch(
    *, batch_size: int = 2, frames: int = 3, size: tuple[int, int] = (10, 6), text_width: int = 40
) -> dict[str, Tensor]:
    """Arguments of `DiT.forward` with per-frame timesteps; 3 x 10 x 6 latents make 45 tokens, an odd number."""
    shape = (batch_size, 16, frames, *size)
    gen = generator(2, *shape)
    condition_mask = torch.zeros(batch_size, 1, frames, *size)
    condition_mask[:, :, 0] = 1
    return {
        "x_B_C_T_H_W": torch.randn(shape, generator=gen),
        "timesteps_B_T": torch.rand(batch_size, frames, generator=gen),
        "crossattn_emb_B_L_E": torch.randn(batch_size, 7, text_width, generator=gen),
        "condition_mask_B_1_T_H_W": condition_mask,
        "padding_mask_B_1_H_W": (torch.rand(batch_size, 1, 40, 24, generator=gen) > 0.7).float(),
    }


def mean_square_loss(out: Tensor) -> Tensor:
    """Mean over samples of the distance to a fixed target, the same for every sample."""
    target = torch.randn(out.shape[1:], generator=generator(3, *out.shape[1:]))
    return (out.float() - target).square().mean()
