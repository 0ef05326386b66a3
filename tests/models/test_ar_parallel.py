"""An autoregressive network cut over two processes computes what one process computes."""

from __future__ import annotations

import pytest
import torch

from tests.distributed import run_ranks
from tests.models.ar_ranks import CLIP, FAMILIES, LAYOUTS, Outcome, is_run
from tests.models.parallel import largest_difference

CASES = [f"{layout} {family}" for family in FAMILIES for layout in LAYOUTS if is_run(layout, family)]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Outcome]]:
    """All layouts, from one launch: starting processes costs more than the checks."""
    return run_ranks("tests.models.ar_ranks:compare_layouts", 2, str(tmp_path_factory.mktemp("checkpoint")))


def of_stage(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a pipeline stage should hold of the whole network's tensors."""
    return {name: wanted[name] for name in found}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("what", ["gradients", "parameters"])
def test_two_processes_equal_one(outcomes: list[dict[str, Outcome]], case: str, what: str) -> None:
    wanted = outcomes[0][f"serial {case.split()[1]}"]
    assert wanted["grad_norm"] > 2 * CLIP
    for outcome in outcomes:
        found = outcome[case]
        assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-6)
        assert found["grad_norm"] == pytest.approx(wanted["grad_norm"], rel=1e-5)
        assert largest_difference(found[what], of_stage(found[what], wanted[what])) < (2e-5, "")
    seen = {name for outcome in outcomes for name in outcome[case][what]}
    assert seen == set(wanted[what])


@pytest.mark.parametrize("case", ["tp2_sp video", "pp2 text", "tp2 lora"])
def test_a_checkpoint_of_a_cut_network_loads_whole(outcomes: list[dict[str, Outcome]], case: str) -> None:
    for outcome in outcomes:
        wanted, loaded = outcome["checkpoint"][case]["wanted"], outcome["checkpoint"][case]["loaded"]
        assert wanted.keys() == loaded.keys()
        assert all(torch.equal(wanted[name], loaded[name]) for name in wanted)


def test_a_fresh_network_is_the_same_however_it_is_cut(outcomes: list[dict[str, Outcome]]) -> None:
    serial = outcomes[0]["fresh"]["serial"]
    stages = outcomes[0]["fresh"]["pp2"] | outcomes[1]["fresh"]["pp2"]
    assert serial.keys() == stages.keys()
    assert all(torch.equal(serial[name], stages[name]) for name in serial)
    cut = outcomes[0]["fresh"]["tp2"]
    assert all(torch.equal(serial[name], cut[name]) for name in serial)


def test_the_cache_gives_the_same_logits_when_heads_are_cut(outcomes: list[dict[str, Outcome]]) -> None:
    for outcome in outcomes:
        cached, whole, serial = (outcome["cached tp2"][name] for name in ("cached", "whole", "serial"))
        torch.testing.assert_close(cached, whole, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(whole, serial, atol=1e-5, rtol=1e-5)


def test_every_parameter_gets_a_gradient(outcomes: list[dict[str, Outcome]]) -> None:
    for family in FAMILIES:
        for name, gradient in outcomes[0][f"serial {family}"]["gradients"].items():
            assert torch.count_nonzero(gradient) > gradient.numel() / 3, name
