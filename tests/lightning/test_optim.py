from __future__ import annotations

from typing import Any

import pytest

from cosmos_nemo.errors import UserError

pytestmark = pytest.mark.nemo


def _check(max_steps: int, lr: float = 1e-3, **schedule: Any) -> str:
    from cosmos_nemo.lightning.optim import LambdaLinear, UniformDecayOptimizer, check_schedule
    from tests.lightning.optimizer import adamw

    return check_schedule(UniformDecayOptimizer(adamw(lr=lr), LambdaLinear(**schedule)), max_steps)


def test_learning_rate_is_told_at_start_peak_and_end() -> None:
    assert _check(100, warm_up_steps=[10], f_start=[0.0], f_max=[0.5], f_min=[0.0]) == (
        "0 at the first step, 0.0005 at its peak, 5.56e-06 at the last"
    )
    assert _check(1000, f_max=[0.6], f_min=[0.0], lr=2**-14.5).startswith("2.59e-05 at the first step, 2.59e-05")


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("optim.config.lr=0.0: nothing would be learned", {"max_steps": 10, "lr": 0.0}),
        ("does not end within trainer.max_steps=1000", {"max_steps": 1000, "warm_up_steps": [2000]}),
        ("ends before trainer.max_steps=20", {"max_steps": 20, "cycle_lengths": [10]}),
        ("is 0 throughout", {"max_steps": 20, "f_max": [0.0], "f_min": [0.0]}),
    ],
)
def test_schedules_that_would_waste_a_run_are_refused(message: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=message):
        _check(**arguments)


@pytest.mark.parametrize(
    ("message", "max_steps", "schedule"),
    [
        ("warm_up_steps=5000 does not end within trainer.max_steps=1000", 1000, {"warm_up_steps": 5000}),
        ("decay_steps=5 ends within warm_up_steps=10", 20, {"warm_up_steps": 10, "decay_steps": 5}),
    ],
)
def test_cosine_that_would_waste_a_run_is_refused(message: str, max_steps: int, schedule: dict[str, Any]) -> None:
    from cosmos_nemo.lightning.optim import UniformDecayOptimizer, WarmupCosine, check_schedule
    from tests.lightning.optimizer import adamw

    with pytest.raises(UserError, match=message):
        check_schedule(UniformDecayOptimizer(adamw(lr=1e-3), WarmupCosine(**schedule)), max_steps)


def test_cosine_is_told_at_start_peak_and_end() -> None:
    from cosmos_nemo.lightning.optim import UniformDecayOptimizer, WarmupCosine, check_schedule
    from tests.lightning.optimizer import adamw

    words = check_schedule(UniformDecayOptimizer(adamw(lr=1e-3), WarmupCosine(10, None, 0.1)), 100)
    assert words == "0 at the first step, 0.001 at its peak, 0.0001 at the last"


def test_weight_decay_acts_on_every_tensor() -> None:
    import torch

    from cosmos_nemo.lightning.optim import UniformDecayOptimizer
    from tests.lightning.optimizer import adamw

    optimizer = UniformDecayOptimizer(adamw(lr=1.0))
    assert optimizer.no_weight_decay_cond("norm.weight", torch.nn.Parameter(torch.ones(3))) is False
    config = optimizer.config
    assert (config.adam_beta1, config.adam_beta2, config.adam_eps, config.clip_grad) == (0.9, 0.99, 1e-8, 1.0)
