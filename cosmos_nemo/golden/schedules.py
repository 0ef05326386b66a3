"""Check what every step of training follows: the learning rate, and the moving average of the weights."""

import re

import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.golden.compare import Comparison, compare
from cosmos_nemo.golden.manifest import Case, Tensors
from cosmos_nemo.numerics.average import PowerEMA, power_ema_beta, power_ema_exponent
from cosmos_nemo.numerics.schedule import lambdalinear

_BETA = re.compile(r"rate(?P<rate>[0-9.e-]+)\.beta(_shift(?P<shift>\d+))?")
_EXPONENT = re.compile(r"rate(?P<rate>[0-9.e-]+)\.exponent")


def check_lr_schedule(case: Case) -> list[Comparison]:
    """Evaluate each schedule of the config at the given scheduler steps."""
    io = case.load()
    comparisons = []
    for name, schedule in case.config.items():
        steps = io[f"{name}.steps"].tolist()
        actual = torch.tensor([lambdalinear(step, **schedule) for step in steps], dtype=torch.float64)
        comparisons.append(compare(f"{name}.multiplier", actual, io[f"{name}.multiplier"], case.tolerance))
    return comparisons


def check_ema(case: Case) -> list[Comparison]:
    """Check exponent and beta of every rate in the file, and the recorded trajectory."""
    io = case.load()
    comparisons = []
    for name, expected in io.items():
        if match := _EXPONENT.fullmatch(name):
            actual = torch.tensor([power_ema_exponent(float(match["rate"]))], dtype=torch.float64)
        elif match := _BETA.fullmatch(name):
            rate, shift = float(match["rate"]), int(match["shift"] or 0)
            betas = [power_ema_beta(i, rate=rate, iteration_shift=shift) for i in io["iterations"].tolist()]
            actual = torch.tensor(betas, dtype=torch.float64)
        elif name.startswith("rate"):
            raise UserError(f"{io.file}: '{name}' is not a known EMA quantity")
        else:
            continue
        comparisons.append(compare(name, actual.reshape(expected.shape), expected, case.tolerance))
    return comparisons + _check_ema_run(case, io)


def _check_ema_run(case: Case, io: Tensors) -> list[Comparison]:
    """Follow the recorded weights with the first rate of the config, each step from the recorded average before it.

    The file does not hold the average that the first recorded step started from, so that step is checked only if
    its beta is 0 (then the average is the weight).
    """
    rate, shift = case.setting("rates")[0], case.setting("iteration_shift")
    iterations = io["run.iteration_passed_to_beta"].tolist()
    weights, averages = io["run.weight_after_each_step"], io["run.ema_after_each_step"]
    first = 0 if power_ema_beta(iterations[0], rate=rate, iteration_shift=shift) == 0.0 else 1
    comparisons = []
    for i in range(first, len(iterations)):
        before = averages[i - 1] if i else io["run.weight_initial"]
        ema = PowerEMA({"weight": before}, rate=rate, iteration_shift=shift)
        ema.update({"weight": weights[i]}, iterations[i])
        comparisons.append(compare(f"run.ema step {i}", ema.averages["weight"], averages[i], case.tolerance))
    return comparisons
