"""A network cut over two processes computes what one process computes."""

from __future__ import annotations

import pytest
import torch

from tests.distributed import run_ranks
from tests.models.dit_ranks import ADAPTED, LAYOUTS, Outcome
from tests.models.parallel import largest_difference

CASES = [
    *(f"{layout} odd_tokens" for layout in LAYOUTS),
    *(
        f"{layout} {shape}"
        for layout in ("tp2_sp", "cp2_a2a", "cp2_all_gather")
        for shape in ("whole_frames", "one_frame_each")
    ),
    *(f"{layout} adapters" for layout in ADAPTED),
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Outcome]]:
    """All layouts, from one launch: starting processes costs more than the checks."""
    return run_ranks("tests.models.dit_ranks:compare_layouts", 2, str(tmp_path_factory.mktemp("checkpoint")))


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one_in_loss_and_every_gradient(outcomes: list[dict[str, Outcome]], case: str) -> None:
    for outcome in outcomes:
        found, wanted = outcome[case], outcome[f"serial {case.split()[1]}"]
        assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-6)
        assert largest_difference(found["gradients"], wanted["gradients"]) < (1e-5, "")


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one_after_an_optimizer_step(outcomes: list[dict[str, Outcome]], case: str) -> None:
    for outcome in outcomes:
        found, wanted = outcome[case], outcome[f"serial {case.split()[1]}"]
        assert largest_difference(found["parameters"], wanted["parameters"]) < (1e-5, "")


@pytest.mark.parametrize("what", ["checkpoint", "checkpoint of adapters"])
def test_a_checkpoint_saved_at_tensor_parallel_2_loads_at_1(outcomes: list[dict[str, Outcome]], what: str) -> None:
    for outcome in outcomes:
        saved, loaded = outcome[what]["saved"], outcome[what]["loaded"]
        assert saved.keys() == loaded.keys()
        assert all(torch.equal(saved[name], loaded[name]) for name in saved)


def test_a_fresh_network_is_the_same_at_any_tensor_parallel_size(outcomes: list[dict[str, Outcome]]) -> None:
    serial, cut = outcomes[0]["fresh"]["serial"], outcomes[0]["fresh"]["tp2"]
    assert all(torch.equal(serial[name], cut[name]) for name in serial)
    for name, value in serial.items():
        if name.endswith("adaln.up"):
            assert torch.count_nonzero(value) == 0, name
        elif value.ndim == 1:
            assert torch.equal(value, torch.ones_like(value)), name
        else:
            assert value.std().item() == pytest.approx(0.9866 * value.shape[-1] ** -0.5, rel=0.1), name


def test_fresh_adapters_are_the_same_at_any_tensor_parallel_size(outcomes: list[dict[str, Outcome]]) -> None:
    serial, cut = outcomes[0]["fresh adapters"]["serial"], outcomes[0]["fresh adapters"]["tp2"]
    assert len(serial) == 2 * 10 and serial.keys() == cut.keys()
    assert all(torch.equal(serial[name], cut[name]) for name in serial)


@pytest.mark.parametrize("granularity", ["full", "selective"])
def test_recomputation_keeps_the_gradients_of_a_layer_behind_frozen_ones(
    outcomes: list[dict[str, Outcome]], granularity: str
) -> None:
    kept, recomputed = outcomes[0]["frozen"][None], outcomes[0]["frozen"][granularity]
    assert len(kept) == 4
    assert all(torch.equal(kept[name], recomputed[name]) for name in kept)


def test_every_parameter_gets_a_gradient(outcomes: list[dict[str, Outcome]]) -> None:
    for case in ("odd_tokens", "adapters"):
        for name, gradient in outcomes[0][f"serial {case}"]["gradients"].items():
            assert torch.count_nonzero(gradient) > gradient.numel() / 2, name
