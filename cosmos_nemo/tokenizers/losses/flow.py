"""RAFT, the optical flow network of the flow loss, from torchvision where that is installed."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.losses.terms import FlowNet

SMALLEST = 128
"""Pixels; RAFT halves its features seven times in all."""


def load_raft(
    path: str | os.PathLike[str], *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> FlowNet:
    """Load torchvision's RAFT-large.

    Args:
        path: its weights, such as `raft_large_C_T_SKHT_V2-ff5fadd5.pth`.
        device: where to put it.
        dtype: of the weights.

    Raises:
        UserError: torchvision does not import, or the file is not RAFT-large.
    """
    try:
        from torchvision.models.optical_flow import raft_large
    except (ImportError, RuntimeError) as error:  # a torchvision of another build raises RuntimeError
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the flow loss needs torchvision of the same build as torch, which does not import here ({reason}); "
            "install it, or set model.loss.flow.values=[0]"
        ) from error
    file = Path(path).expanduser()
    network = raft_large(weights=None, progress=False)
    try:
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises runtime, unpickling, zip and OS errors
        raise UserError(f"{file} does not hold the weights of RAFT-large: {str(error).splitlines()[0]}") from error
    network = network.to(device, dtype).eval().requires_grad_(False)

    def flow(frames_N_3_H_W: Tensor, next_N_3_H_W: Tensor) -> Tensor:
        height, width = frames_N_3_H_W.shape[2:]
        if min(height, width) < SMALLEST or height % 8 or width % 8:
            raise UserError(
                f"the flow loss cannot look at {height}x{width} (crops are halved before): crops must be multiples of "
                f"16 of at least {2 * SMALLEST} pixels; enlarge them, or set model.loss.flow.values=[0]"
            )
        last: Tensor = network(frames_N_3_H_W.to(dtype), next_N_3_H_W.to(dtype))[-1]
        return last.to(frames_N_3_H_W.dtype)

    return flow
