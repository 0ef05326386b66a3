"""The process groups a network is cut over."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from megatron.core import parallel_state
from megatron.core.transformer.transformer_config import TransformerConfig
from torch.distributed import ProcessGroup


@dataclass(frozen=True, kw_only=True)
class Groups:
    """The process groups of one network, and the device its weights are made on."""

    tp: ProcessGroup | None
    """Tensor parallel."""
    sp: ProcessGroup | None
    """The tensor-parallel group if tokens are cut over it (sequence parallel), else None."""
    cp: ProcessGroup | None
    """Context parallel."""
    pipeline_rank: int
    """Which pipeline stage this is, from 0."""
    device: torch.device | None
    """Where weights are made; None is torch's default device (so a `torch.device("meta")` block is honoured)."""

    @staticmethod
    def of(config: TransformerConfig) -> Groups:
        """The groups that Megatron's parallel state holds."""
        tp = parallel_state.get_tensor_model_parallel_group()
        return Groups(
            tp=tp,
            sp=tp if config.sequence_parallel and tp.size() > 1 else None,
            cp=parallel_state.get_context_parallel_group(),
            pipeline_rank=parallel_state.get_pipeline_model_parallel_rank(),
            device=None if config.use_cpu_initialization else torch.device("cuda", torch.cuda.current_device()),
        )
