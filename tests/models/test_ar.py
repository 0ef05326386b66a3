from __future__ import annotations

import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.models.autoregressive.cache import KVCache
from cosmos_nemo.models.autoregressive.config import AUTOREGRESSIVE
from cosmos_nemo.models.autoregressive.model import AutoregressiveTransformer
from tests.models.ar_cases import LATENT_SHAPE, ar_config, ar_inputs, ar_text_config
from tests.models.dit_cases import one_process_parallel_state


@pytest.fixture(autouse=True)
def parallel_state():
    one_process_parallel_state()


@pytest.mark.parametrize("make_config", [ar_config, ar_text_config])
@pytest.mark.parametrize("pieces", [[60, 0], [1, 1], [20, 7, 1, 1]])
def test_with_cache_equals_without(make_config, pieces):
    config = make_config()
    model = AutoregressiveTransformer(config).eval()
    inputs = ar_inputs(config)
    tokens = inputs.pop("tokens_B_S")
    cache, outputs, start = KVCache(tokens.shape[1]), [], 0
    with torch.no_grad():
        for size in [*(p for p in pieces if p), *[1] * 4]:
            piece = tokens[:, start : start + size]
            if piece.shape[1]:
                outputs.append(model(piece, cache=cache, **inputs))
            start += size
        whole = model(tokens, **inputs)
    cached = torch.cat(outputs)
    torch.testing.assert_close(cached, whole[: len(cached)], atol=2e-6, rtol=1e-5)


def test_a_token_does_not_see_what_comes_after_it():
    config = ar_config()
    model = AutoregressiveTransformer(config)
    inputs = ar_inputs(config)
    before = model(**inputs)
    inputs["tokens_B_S"] = inputs["tokens_B_S"].clone()
    inputs["tokens_B_S"][:, 30:] = 5
    after = model(**inputs)
    torch.testing.assert_close(before[:30], after[:30], atol=1e-6, rtol=0)
    assert not torch.allclose(before[30:], after[30:], atol=1e-3)


def test_only_the_last_logits_are_made_on_request():
    model = AutoregressiveTransformer(ar_config())
    inputs = ar_inputs(model.config)
    torch.testing.assert_close(model(**inputs, last_only=True), model(**inputs)[-1:], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_a_size_has_the_parameters_of_the_published_shapes(name):
    config = AUTOREGRESSIVE[name](perform_initialization=False)
    with torch.device("meta"):
        model = AutoregressiveTransformer(config)
    count = sum(parameter.numel() for parameter in model.parameters())
    D, K, F = config.hidden_size, config.head_dim, config.ffn_hidden_size
    heads = config.num_attention_heads + config.num_query_groups
    layer = 2 * D * heads * K + 3 * D * F + 2 * D + 2 * K
    if config.crossattn_emb_channels:
        layer += 2 * D * config.num_attention_heads * K + 2 * 1024 * config.num_query_groups * K + D + 2 * K
    ends = (config.input_vocab_size + config.vocab_size) * D + D
    assert count == config.num_layers * layer + ends


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tensor_model_parallel_size": 3}, r"does not divide num_attention_heads \(8\).*use 1, 2 or 4"),
        (
            {"tensor_model_parallel_size": 8},
            r"does not divide num_query_groups \(4\); use 1, 2 or 4",
        ),
        (
            {"tensor_model_parallel_size": 2, "context_parallel_size": 4},
            r"num_query_groups of a tensor-parallel rank \(2\)",
        ),
        ({"pipeline_model_parallel_size": 3}, r"does not divide num_layers \(2\); use 1 or 2"),
        ({"sequence_parallel": True}, "needs tensor_model_parallel_size > 1"),
        ({"kv_channels": 5}, "not an even head size"),
        ({"num_query_groups": 3}, "does not divide num_attention_heads=8"),
        ({"cp_comm_type": "p2p"}, "is unknown"),
    ],
)
def test_contradictions_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        ar_config(**settings)


def test_inputs_that_do_not_fit_are_named():
    model = AutoregressiveTransformer(ar_config())
    tokens = torch.zeros(1, 61, dtype=torch.int64)
    with pytest.raises(UserError, match="61 tokens are more than a video of latent shape"):
        model(tokens, latent_shape=LATENT_SHAPE)
    with pytest.raises(UserError, match="does not take a text embedding"):
        model(tokens[:, :9], latent_shape=LATENT_SHAPE, context_B_L_E=torch.zeros(1, 2, 20))
    with pytest.raises(UserError, match="do not fit a cache"):
        model(tokens[:, :9], latent_shape=LATENT_SHAPE, cache=KVCache(8))
    reader = AutoregressiveTransformer(ar_text_config())
    with pytest.raises(UserError, match="needs a text embedding"):
        reader(tokens, latent_shape=LATENT_SHAPE)
    with pytest.raises(UserError, match="7 wide, this network takes crossattn_emb_channels=20"):
        reader(tokens, latent_shape=LATENT_SHAPE, context_B_L_E=torch.zeros(1, 2, 7))
