"""Compare a computed tensor with its golden value."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cosmos_nemo.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How far one quantity is from its golden value."""

    quantity: str
    max_abs_diff: float
    tolerance: str
    """The rule in words, for the table."""
    excess: float
    """Largest difference in units of what is allowed there; a quantity passes at <= 1. Infinite for NaN."""
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether every element is within the tolerance."""
        return self.excess <= 1.0


def compare(quantity: str, actual: Tensor, expected: Tensor, tolerance: Mapping[str, float]) -> Comparison:
    """Check |actual - expected| <= atol + rtol |expected| for every element.

    Args:
        quantity: name for the table.
        actual: what was computed; any float dtype and device.
        expected: the golden value, of the same shape.
        tolerance: `atol` and `rtol` (0 where absent).

    Raises:
        UserError: the tolerance gives neither `atol` nor `rtol`.
    """
    if not {"atol", "rtol"} & set(tolerance):
        raise UserError(f"tolerance {dict(tolerance)} has neither atol nor rtol")
    atol, rtol = tolerance.get("atol", 0.0), tolerance.get("rtol", 0.0)
    allowed = atol + rtol * expected.double().abs()
    return _compare(quantity, actual, expected, allowed, f"{atol:.0e} + {rtol:.0e} |ref|")


def compare_gradient(quantity: str, actual: Tensor, expected: Tensor, tolerance: Mapping[str, float]) -> Comparison:
    """Check |actual - expected| <= grad_rtol_of_max * max |expected| for every element of a gradient.

    A gradient's small elements are sums of large cancelling terms, so their error scales with the tensor's largest.

    Args:
        quantity: name for the table.
        actual: the computed gradient.
        expected: the golden gradient, of the same shape.
        tolerance: `grad_rtol_of_max`.

    Raises:
        UserError: the tolerance does not give `grad_rtol_of_max`.
    """
    if "grad_rtol_of_max" not in tolerance:
        raise UserError(f"tolerance {dict(tolerance)} has no grad_rtol_of_max")
    relative = tolerance["grad_rtol_of_max"]
    allowed = (relative * expected.double().abs().max()).expand(expected.shape)
    return _compare(quantity, actual, expected, allowed, f"{relative:.0e} max|ref|")


def compare_to_scale(quantity: str, actual: Tensor, expected: Tensor, *, atol: float, relative: float) -> Comparison:
    """Check |actual - expected| <= atol + relative * max |expected| for every element.

    Args:
        quantity: name for the table.
        actual: what was computed.
        expected: the golden value, of the same shape.
        atol: allowed at values around 0.
        relative: allowed in units of the tensor's largest value.
    """
    allowed = (atol + relative * expected.double().abs().max()).expand(expected.shape)
    return _compare(quantity, actual, expected, allowed, f"{atol:.0e} + {relative:.0e} max|ref|")


KINKED_SHARE = 1 / 500
"""Share of a kinked gradient's elements that may differ by more than the tolerance."""
KINKED_NORM = 0.01
"""Largest relative difference of the whole, |actual - expected| / |expected|."""


def compare_kinked(quantity: str, actual: Tensor, expected: Tensor, *, atol: float) -> Comparison:
    """Check the gradient of a function that is not smooth: |x|, ReLU, the largest of four.

    Where such a function bends, rounding decides between two derivatives, so a few elements of two correct gradients
    differ. All but `KINKED_SHARE` must be within `atol`, and the whole within `KINKED_NORM` of its length.
    """
    rule = f"{atol:.0e} for all but {KINKED_SHARE:.1%}, {KINKED_NORM:.0%} of the whole"
    if actual.shape != expected.shape:
        return failed(quantity, f"shape {tuple(actual.shape)}, golden {tuple(expected.shape)}")
    difference = (actual.detach().cpu().double() - expected.double()).abs()
    beyond = (~(difference <= atol)).double().mean().item()
    whole = (difference.norm() / expected.double().norm()).nan_to_num(nan=math.inf).item()
    return Comparison(
        quantity=quantity,
        max_abs_diff=difference.max().item(),
        tolerance=rule,
        excess=max(beyond / KINKED_SHARE, whole / KINKED_NORM),
    )


def exactly(quantity: str, *, equal: bool, note: str) -> Comparison:
    """Return the outcome of a check that has no numbers.

    Args:
        quantity: name for the table.
        equal: whether it passed.
        note: what is wrong otherwise.
    """
    if not equal:
        return failed(quantity, note)
    return Comparison(quantity=quantity, max_abs_diff=0.0, tolerance="exact", excess=0.0)


def compare_names(quantity: str, actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[Comparison]:
    """Return one failed comparison if the two sets of names differ, else nothing."""
    missing, unexpected = sorted(set(expected) - set(actual)), sorted(set(actual) - set(expected))
    if not missing and not unexpected:
        return []
    return [failed(quantity, f"not computed: {missing}; not in the golden file: {unexpected}")]


def failed(quantity: str, note: str) -> Comparison:
    """Return a failed comparison of something that has no difference to show."""
    return Comparison(quantity=quantity, max_abs_diff=math.inf, tolerance="-", excess=math.inf, note=note)


def not_comparable(quantity: str, why: str) -> Comparison:
    """Return a comparison that holds nothing against the case, for a golden value that cannot be what its name says."""
    return Comparison(quantity=quantity, max_abs_diff=0.0, tolerance="-", excess=0.0, note=f"not compared: {why}")


def _compare(quantity: str, actual: Tensor, expected: Tensor, allowed: Tensor, rule: str) -> Comparison:
    if actual.shape != expected.shape:
        return failed(quantity, f"shape {tuple(actual.shape)}, golden {tuple(expected.shape)}")
    if not expected.numel():
        return failed(quantity, "the golden tensor is empty")
    difference = (actual.detach().cpu().double() - expected.double()).abs()
    # 0 / 0 (equal, nothing allowed) is no excess; a NaN anywhere must not pass.
    excess = torch.where(difference == 0, 0.0, difference / allowed).nan_to_num(nan=math.inf)
    return Comparison(
        quantity=quantity,
        max_abs_diff=difference.max().item(),
        tolerance=rule,
        excess=excess.max().item(),
    )
