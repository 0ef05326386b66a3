"""Sampling keeps what it should, and generation does not depend on cache or batch."""

from __future__ import annotations

import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.models.autoregressive.model import AutoregressiveTransformer
from cosmos_nemo.models.autoregressive.sampling import continue_tokens, greedy, top_p_pick, top_p_probabilities
from cosmos_nemo.models.common.linear import store_by_inputs
from tests.models.ar_cases import ar_config, ar_inputs, ar_randomise, ar_text_config
from tests.models.dit_cases import one_process_parallel_state


def test_top_p_keeps_the_fewest_tokens_that_pass_it() -> None:
    p = torch.tensor([[0.1, 0.5, 0.15, 0.25]])
    kept = top_p_probabilities(p.log(), temperature=1.0, top_p=0.7)
    torch.testing.assert_close(kept, torch.tensor([[0.0, 2 / 3, 0.0, 1 / 3]]))
    torch.testing.assert_close(top_p_probabilities(p.log(), temperature=1.0, top_p=1.0), p)
    assert top_p_probabilities(p.log(), temperature=1.0, top_p=1e-6)[0].tolist() == [0, 1, 0, 0]


def test_draws_follow_the_probabilities() -> None:
    p = torch.tensor([0.5, 0.3, 0.2]).expand(3000, 3)
    pick = top_p_pick(temperature=1.0, top_p=1.0, seed=3, sample_ids=list(range(3000)))
    counts = pick(p.log(), 0).bincount(minlength=3) / 3000
    torch.testing.assert_close(counts, p[0], atol=0.03, rtol=0)


def test_draws_among_many_tokens_follow_the_probabilities_too() -> None:
    """More tokens than are looked at first: the few likely ones are found there, many equal ones are not."""
    for spread, top_p in ((3.0, 0.8), (0.0, 0.8), (3.0, 1.0)):
        logits = torch.randn(5000, generator=torch.Generator().manual_seed(0)) * spread
        pick = top_p_pick(temperature=1.0, top_p=top_p, seed=3, sample_ids=list(range(400)))
        drawn = pick(logits.expand(400, -1), 0)
        p = top_p_probabilities(logits[None], temperature=1.0, top_p=top_p)[0]
        assert (p[drawn] > 0).all() and drawn.unique().numel() > 3
        likely = p > p.max() / 2
        assert abs(likely[drawn].float().mean() - p[likely].sum()) < 0.08


def test_temperature_zero_is_greedy_and_numbers_out_of_range_are_refused() -> None:
    assert top_p_pick(temperature=0, top_p=0.8, seed=0, sample_ids=[0]) is greedy
    for numbers in ({"temperature": -1.0, "top_p": 0.8}, {"temperature": 1.0, "top_p": 0.0}):
        with pytest.raises(UserError, match="must"):
            top_p_pick(seed=0, sample_ids=[0], **numbers)


@pytest.mark.parametrize("make_config", [ar_config, ar_text_config])
def test_sampled_tokens_depend_on_neither_cache_nor_batch(make_config) -> None:
    one_process_parallel_state()
    network = AutoregressiveTransformer(make_config()).eval()
    ar_randomise(network)
    inputs = ar_inputs(network.config)
    prompt = inputs.pop("tokens_B_S")[:, :21]

    def run(rows: list[int], use_cache: bool) -> torch.Tensor:
        mine = {name: value if name == "latent_shape" else value[rows] for name, value in inputs.items()}
        pick = top_p_pick(temperature=1.0, top_p=0.9, seed=5, sample_ids=rows)
        return continue_tokens(network, prompt[rows], num_tokens=40, pick=pick, use_cache=use_cache, **mine)

    together = run([0, 1], True)
    assert together.shape == (2, 40) and torch.equal(together[:, :21], prompt)
    assert torch.equal(together, run([0, 1], False))
    assert torch.equal(together[1:], run([1], True))


def test_the_order_in_which_weights_are_stored_changes_no_token() -> None:
    one_process_parallel_state()
    network = AutoregressiveTransformer(ar_config()).eval().requires_grad_(False)
    ar_randomise(network)
    inputs = ar_inputs(network.config)
    prompt = inputs.pop("tokens_B_S")[:, :21]
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    tokens = continue_tokens(network, prompt, num_tokens=40, **inputs)
    store_by_inputs(network)
    assert network.output_layer.weight.t().is_contiguous()
    assert torch.equal(continue_tokens(network, prompt, num_tokens=40, **inputs), tokens)
    assert all(torch.equal(weight, before[name]) for name, weight in network.named_parameters())
