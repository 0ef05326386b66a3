"""The tolerance rules."""

import math

import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.golden.compare import compare, compare_gradient, compare_names


def difference(values, reference, **tolerance):
    return compare("x", torch.tensor(values), torch.tensor(reference), tolerance)


def test_rule_is_elementwise_atol_plus_rtol_of_the_reference():
    assert difference([100.9], [100.0], atol=0.0, rtol=0.01).passed
    assert not difference([100.9, 0.1], [100.0, 0.0], atol=0.05, rtol=0.01).passed
    assert difference([100.9, 0.1], [100.0, 0.0], atol=0.2, rtol=0.01).passed
    assert difference([1.5], [1.0], atol=0.1).max_abs_diff == 0.5


def test_equal_values_pass_where_nothing_is_allowed():
    assert difference([0.0, 2.0], [0.0, 2.0], atol=0.0, rtol=0.0).passed


def test_nan_and_infinity_never_pass():
    for wrong in (math.nan, math.inf):
        assert not difference([1.0, wrong], [1.0, 1.0], atol=10.0).passed


def test_another_shape_fails_and_is_named():
    comparison = compare("x", torch.zeros(3, 1), torch.zeros(3), {"atol": 1.0})
    assert not comparison.passed and "(3, 1)" in comparison.note


def test_gradients_are_judged_by_their_largest_element():
    reference = torch.tensor([10.0, 0.0])
    assert compare_gradient("g", torch.tensor([10.0, 0.0009]), reference, {"grad_rtol_of_max": 1e-4}).passed
    assert not compare_gradient("g", torch.tensor([10.0, 0.0011]), reference, {"grad_rtol_of_max": 1e-4}).passed


def test_a_gradient_that_should_be_there_and_is_not_fails():
    here, gone = {"a": torch.zeros(1)}, {"a": torch.zeros(1), "b": torch.zeros(1)}
    assert compare_names("names", here, here) == []
    assert not compare_names("names", here, gone)[0].passed
    assert not compare_names("names", gone, here)[0].passed


def test_a_tolerance_without_numbers_is_an_error():
    with pytest.raises(UserError, match="neither"):
        difference([1.0], [1.0], logits=1e-3)
