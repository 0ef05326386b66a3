"""The share held out is kept to, with something on either side."""

import pytest

from cosmos_nemo.errors import UserError
from data_prep.datasets.holdout import hold_out, keyed_number

NAMES = {f"clip{index}" for index in range(20)}


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 0), (0.01, 1), (0.25, 5), (0.99, 19)])
def test_the_share_is_kept_to_with_something_on_either_side(fraction, expected):
    assert len(hold_out(NAMES, fraction, seed=0)) == expected


def test_a_single_video_is_for_training():
    assert hold_out({"clip"}, 0.5, seed=0) == set()


def test_the_seed_decides_and_other_names_hardly_matter():
    chosen = hold_out(NAMES, 0.25, seed=0)
    assert chosen == hold_out(NAMES, 0.25, seed=0) != hold_out(NAMES, 0.25, seed=1)
    assert len(chosen - hold_out(NAMES | {"new"}, 0.25, seed=0)) <= 1


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_an_impossible_share_is_refused(fraction):
    with pytest.raises(UserError, match="must be at least 0 and below 1"):
        hold_out(NAMES, fraction, seed=0)


def test_numbers_depend_on_every_key():
    numbers = {keyed_number(seed, *keys) for seed in (0, 1) for keys in ((), ("a",), ("b",), ("a", "b"), ("ab",))}
    assert len(numbers) == 10 and all(0 <= number < 2**64 for number in numbers)
