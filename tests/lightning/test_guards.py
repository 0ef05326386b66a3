"""What stops a run that is wrong."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.lightning import guards


def network(*values: torch.Tensor) -> Any:
    return torch.nn.ParameterList([torch.nn.Parameter(value) for value in values])


def test_fingerprint_is_the_sum_of_the_running_sums_of_every_seventh_element(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(40, 33, generator=torch.Generator().manual_seed(0))
    expected = values.double().flatten()[::7].cumsum(0).sum()
    for chunk in (1 << 20, 10, 7):  # one chunk, several, a last one that is not full
        monkeypatch.setattr(guards, "CHUNK", chunk)
        torch.testing.assert_close(guards.fingerprint(network(values))[0], expected, rtol=1e-12, atol=0)


def test_fingerprint_tells_a_changed_and_a_moved_element() -> None:
    values = torch.randn(64, generator=torch.Generator().manual_seed(0))
    changed, moved = values.clone(), values.clone()
    changed[7] += 1e-6
    moved[[0, 7]] = moved[[7, 0]]
    prints = [guards.fingerprint(network(v)) for v in (values, values.clone(), changed, moved)]
    assert torch.equal(prints[0], prints[1])
    assert not torch.equal(prints[0], prints[2]) and not torch.equal(prints[0], prints[3])


def test_fingerprint_looks_at_what_is_trained_only() -> None:
    module = network(torch.ones(3), torch.ones(4))
    module[0].requires_grad_(False)
    assert guards.fingerprint(module).shape == (1,)


def test_fingerprint_never_holds_a_parameter_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    double = torch.Tensor.double
    monkeypatch.setattr(torch.Tensor, "double", lambda self: (sizes.append(self.numel()), double(self))[1])
    monkeypatch.setattr(guards, "CHUNK", 100)
    guards.fingerprint(network(torch.ones(5000)))
    assert max(sizes) == 100 and sum(sizes) == -(-5000 // 7)


@pytest.mark.parametrize("norm", [float("nan"), float("inf")])
def test_gradient_that_is_not_finite_stops_the_run(monkeypatch: pytest.MonkeyPatch, norm: float) -> None:
    monkeypatch.setattr(guards, "from_last_stage", lambda outputs: {"loss": float(outputs["loss"])})
    trainer = SimpleNamespace(callback_metrics={"grad_norm": torch.tensor(norm)}, global_step=7)
    with pytest.raises(UserError, match=r"the gradient of step 7 is not finite \(loss 0\.5\)"):
        guards.FiniteGradient().on_train_batch_end(trainer, None, {"loss": torch.tensor(0.5)}, None, 0)


def test_finite_gradient_goes_on() -> None:
    trainer = SimpleNamespace(callback_metrics={"grad_norm": torch.tensor(3.0)}, global_step=7)
    guards.FiniteGradient().on_train_batch_end(trainer, None, {"loss": torch.tensor(0.5)}, None, 0)
