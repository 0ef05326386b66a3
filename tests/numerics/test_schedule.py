"""The lambdalinear schedule."""

import pytest
from safetensors.torch import load_file

from cosmos_nemo.errors import UserError
from cosmos_nemo.numerics.schedule import lambdalinear, warmup_cosine

TWO_CYCLES = {
    "warm_up_steps": [10, 20],
    "cycle_lengths": [100, 200],
    "f_start": [0.1, 0.2],
    "f_max": [1.0, 0.5],
    "f_min": [0.2, 0.05],
}


def test_two_cycles_match_the_published_code(shared_dir):
    golden = load_file(shared_dir / "golden" / "dit" / "lr_lambdalinear.io.safetensors")
    steps = golden["two_cycles.steps"].tolist()
    expected = golden["two_cycles.multiplier"].tolist()
    assert [lambdalinear(step, **TWO_CYCLES) for step in steps] == pytest.approx(expected, rel=1e-12)


def test_warm_up_peaks_and_a_boundary_step_belongs_to_the_earlier_cycle():
    values = {step: lambdalinear(step, **TWO_CYCLES) for step in (0, 10, 100, 101, 300)}
    assert values[0] == 0.1 and values[10] == 1.0
    assert values[100] == pytest.approx(0.2)
    assert values[101] == pytest.approx(0.2 + 0.3 / 20)
    assert values[300] == pytest.approx(0.05)


def test_without_warm_up_it_starts_at_the_peak():
    one = {"warm_up_steps": [0], "cycle_lengths": [1000], "f_start": [1e-6], "f_max": [0.6], "f_min": [0.0]}
    assert lambdalinear(0, **one) == 0.6
    assert lambdalinear(500, **one) == pytest.approx(0.3)


def test_a_step_past_the_last_cycle_is_an_error_that_names_the_end():
    with pytest.raises(UserError, match=r"301.*300"):
        lambdalinear(301, **TWO_CYCLES)


def test_unequal_lists_are_rejected():
    with pytest.raises(UserError, match="lengths"):
        lambdalinear(0, **(TWO_CYCLES | {"f_min": [0.0]}))


def test_warmup_cosine_rises_to_the_peak_and_falls_to_the_end() -> None:
    rates = [warmup_cosine(step, warm_up_steps=4, decay_steps=12, lr=1.0, min_lr=0.1) for step in range(15)]
    assert rates[:5] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert rates[8] == pytest.approx(0.55)
    assert rates[12:] == [pytest.approx(0.1)] * 3
    assert rates[4:13] == sorted(rates[4:13], reverse=True)


def test_warmup_cosine_without_warm_up_starts_at_the_peak() -> None:
    assert warmup_cosine(0, warm_up_steps=0, decay_steps=3, lr=0.2, min_lr=0.0) == 0.2
    with pytest.raises(UserError, match="make it shorter"):
        warmup_cosine(0, warm_up_steps=3, decay_steps=3, lr=0.2, min_lr=0.0)
