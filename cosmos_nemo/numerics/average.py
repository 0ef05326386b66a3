"""Moving averages of weights: with a constant beta, or Predict2's power function.

Source: Karras et al. 2023, arXiv:2312.02696, section 3.1 and appendix C.2; nvidia-cosmos/cosmos-predict2,
imaginaire/utils/ema.py.
"""

import functools
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from cosmos_nemo.errors import UserError


def power_ema_exponent(rate: float) -> float:
    """Return the exponent g of a power EMA whose averaging profile has relative width `rate`.

    g is the largest real root of x^3 + 7 x^2 + (16 - s^-2) x + (12 - s^-2) = 0 with s = rate; 6.937 for 0.1.

    Args:
        rate: relative width s, 0 < s < 0.288 (above it the exponent would be negative).

    Returns: g > 0.

    Raises:
        UserError: the rate is out of range.
    """
    if not 0.0 < rate < 12**-0.5:
        raise UserError(f"EMA rate={rate}; use a value in (0, 0.288), upstream's is 0.1.")
    c: float = rate**-2
    x = 1.0 + math.sqrt(c)  # right of the largest root: the cubic is positive, increasing and convex from here on
    for _ in range(100):  # Newton from the right of a convex function falls monotonically onto the root
        step = (((x + 7) * x + 16 - c) * x + 12 - c) / ((3 * x + 14) * x + 16 - c)
        x -= step
        if abs(step) <= 1e-15 * x:
            break
    return x


def power_ema_beta(iteration: int, *, rate: float, iteration_shift: int = 0) -> float:
    """Return how much of the old average survives an update.

    beta = (1 - 1/(n + 1))^(g + 1) with n = iteration + iteration_shift; 0 (a plain copy) while n < 1.

    Args:
        iteration: the training step, counted from 0, whose optimizer step was just made.
        rate: relative width of the average.
        iteration_shift: added to the iteration, to continue an earlier run's average.

    Returns: beta in [0, 1).
    """
    n = iteration + iteration_shift
    if n < 1:
        return 0.0
    return float((1 - 1 / (n + 1)) ** (power_ema_exponent(rate) + 1))


class WeightAverage:
    """A float32 moving average of named tensors, e.g. of one rank's shards of a model's parameters."""

    def __init__(self, weights: Mapping[str, Tensor], beta: Callable[[int], float]) -> None:
        """Start from a float32 copy of `weights`.

        Args:
            weights: the tensors by name.
            beta: how much of the old average survives the update of a 0-based step.
        """
        self.beta = beta
        self.averages = {name: weight.detach().float().clone() for name, weight in weights.items()}

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor], iteration: int) -> None:
        """Set average <- beta average + (1 - beta) weight for every tensor.

        Args:
            weights: current weights under the names given at the start.
            iteration: the 0-based step just made.
        """
        beta = self.beta(iteration)
        for name, average in self.averages.items():
            average.lerp_(weights[name].to(average), 1 - beta)


class PowerEMA(WeightAverage):
    """The average whose beta is `power_ema_beta`."""

    def __init__(self, weights: Mapping[str, Tensor], *, rate: float = 0.1, iteration_shift: int = 0) -> None:
        """Start from a float32 copy of `weights`."""
        super().__init__(weights, functools.partial(power_ema_beta, rate=rate, iteration_shift=iteration_shift))
