"""Power EMA."""

import pytest
import torch
from safetensors.torch import load_file

from cosmos_nemo.errors import UserError
from cosmos_nemo.numerics.average import PowerEMA, power_ema_beta, power_ema_exponent


@pytest.mark.parametrize("rate", [0.28, 0.1, 0.05, 0.025, 1e-3])
def test_exponent_is_the_largest_root_of_the_cubic(rate):
    c, g = rate**-2, power_ema_exponent(rate)
    assert ((g + 7) * g + 16 - c) * g + 12 - c == pytest.approx(0.0, abs=1e-9 * c**1.5)
    assert ((g + 8) * (g + 1) + 16 - c) * (g + 1) + 12 - c > 0
    assert g > 0


def test_exponent_and_trajectory_match_the_published_code(shared_dir):
    golden = load_file(shared_dir / "golden" / "dit" / "ema_power.io.safetensors")
    weights, averages = golden["run.weight_after_each_step"], golden["run.ema_after_each_step"]
    iterations = golden["run.iteration_passed_to_beta"].tolist()
    assert power_ema_exponent(0.1) == pytest.approx(golden["rate0.1.exponent"].item(), rel=1e-12)
    # The file does not hold the average that the first recorded step started from.
    ema = PowerEMA({"w": averages[0]}, rate=0.1)
    for weight, average, iteration in zip(weights[1:], averages[1:], iterations[1:], strict=True):
        ema.update({"w": weight}, iteration)
        torch.testing.assert_close(ema.averages["w"], average, rtol=1e-6, atol=1e-6)


def test_first_update_copies_the_weights():
    assert power_ema_beta(0, rate=0.1) == 0.0
    weight = torch.randn(3)
    ema = PowerEMA({"w": torch.zeros(3)}, rate=0.1)
    ema.update({"w": weight}, 0)
    assert torch.equal(ema.averages["w"], weight)


def test_average_of_bf16_weights_is_float32():
    ema = PowerEMA({"w": torch.ones(2, dtype=torch.bfloat16)})
    ema.update({"w": torch.full((2,), 1.0078125, dtype=torch.bfloat16)}, 1000)
    assert ema.averages["w"].dtype == torch.float32
    assert 1.0 < ema.averages["w"][0].item() < 1.0002  # a bf16 average would not have moved


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_impossible_rates_are_rejected(rate):
    with pytest.raises(UserError, match="rate"):
        power_ema_exponent(rate)
