"""The optimizer settings of the training tests."""

from __future__ import annotations

from megatron.core.optimizer import OptimizerConfig


def adamw(lr: float) -> OptimizerConfig:
    """AdamW with the distributed optimizer, as the recipes have it."""
    return OptimizerConfig(
        optimizer="adam",
        adam_beta1=0.9,
        adam_beta2=0.99,
        adam_eps=1e-8,
        use_distributed_optimizer=True,
        lr=lr,
        weight_decay=0.1,
        clip_grad=1.0,
    )
