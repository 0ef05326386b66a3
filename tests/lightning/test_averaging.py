"""The moving average that a module has."""

from __future__ import annotations

import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.lightning.averaging import Averaging


class Wrapped(torch.nn.Module):
    """A network in a wrapper, as data parallelism has it."""

    def __init__(self) -> None:
        super().__init__()
        self.module = torch.nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("decay", "rate", "words"),
    [
        (0.9, 0.1, "model.ema_decay and model.ema_rate are both set"),
        (1.0, None, "model.ema_decay=1.0; use a value between 0 and 1"),
        (None, 0.5, "EMA rate=0.5; use a value in"),
    ],
)
def test_averages_that_make_no_sense_are_refused(decay: float | None, rate: float | None, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Averaging(decay, rate)


def test_without_decay_and_rate_there_is_none() -> None:
    averaging, network = Averaging(None, None), torch.nn.Linear(2, 2)
    assert not averaging and averaging.to_json() is None and averaging.of(network) is None
    averaging.update(network, 0)
    assert averaging.shards(network, {}, "") == {}


def test_average_of_what_is_trained_under_the_networks_own_names() -> None:
    network = Wrapped()
    network.module.bias.requires_grad_(False)
    averaging = Averaging(0.75, None)
    average = averaging.of(network)
    assert average is not None and list(average.averages) == ["weight"]
    start = network.module.weight.detach().clone()
    with torch.no_grad():
        network.module.weight += 1
    averaging.update(network, 0)
    torch.testing.assert_close(average.averages["weight"], start + 0.25)
    assert averaging.of(network) is average and averaging.to_json() == {"decay": 0.75, "rate": None}


def test_loaded_averages_are_taken_out_of_the_state() -> None:
    network, averaging = torch.nn.Linear(2, 2, bias=False), Averaging(0.75, None)
    state = {"ema.weight": torch.full((2, 2), 3.0), "module.weight": torch.zeros(2, 2)}
    averaging.take_from(network, state)
    average = averaging.of(network)
    assert average is not None and torch.equal(average.averages["weight"], torch.full((2, 2), 3.0))
    assert list(state) == ["module.weight"]
