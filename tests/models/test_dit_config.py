"""Sizes are the published ones, and contradictions are named before anything is built."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cosmos_nemo.errors import UserError
from cosmos_nemo.models.dit.config import PREDICT2
from cosmos_nemo.models.dit.flops import forward_flops
from cosmos_nemo.models.dit.model import DiT
from tests.models.dit_cases import batch, one_process_parallel_state, tiny_config

PUBLISHED_PARAMETERS = {
    "text2image_600m": 597_536_000,
    "text2image_2b": 1_956_405_248,
    "text2image_14b": 14_265_265_152,
    "video2world_2b": 1_956_413_440,
    "video2world_14b": 14_265_285_632,
}


@pytest.mark.parametrize(("name", "wanted"), PUBLISHED_PARAMETERS.items())
def test_a_published_size_has_the_published_number_of_parameters(name: str, wanted: int) -> None:
    one_process_parallel_state()
    with torch.device("meta"):
        model = DiT(PREDICT2[name](perform_initialization=False))
    assert sum(parameter.numel() for parameter in model.parameters()) == wanted


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"tensor_model_parallel_size": 3},
            "tensor_model_parallel_size=3 does not divide num_attention_heads (4)",
        ),
        (
            {"tensor_model_parallel_size": 4, "adaln_lora_dim": 30},
            "does not divide adaln_lora_dim (30); use 1 or 2",
        ),
        (
            {"context_parallel_size": 3},
            "context_parallel_size=3 does not divide num_attention_heads of a tensor-parallel rank (4).*all_gather",
        ),
        (
            {"tensor_model_parallel_size": 2, "context_parallel_size": 4},
            "heads of a tensor-parallel rank (2); use 1 or 2",
        ),
        ({"pipeline_model_parallel_size": 2}, "pipeline_model_parallel_size=2: the DiT has no pipeline parallelism"),
        ({"sequence_parallel": True}, "sequence_parallel=True needs tensor_model_parallel_size > 1"),
        ({"cp_comm_type": "p2p"}, "cp_comm_type='p2p' is unknown; use 'a2a' or 'all_gather'"),
        ({"hidden_size": 130}, "hidden_size=130 over num_attention_heads=4"),
        ({"patch_temporal": 2}, "patch_temporal=2 is not supported"),
    ],
)
def test_a_contradiction_is_one_line_that_names_the_way_out(settings: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words.replace("(", r"\(").replace(")", r"\)")) as error:
        tiny_config(**settings)
    assert "\n" not in str(error.value)


def test_any_number_of_heads_takes_any_context_parallel_size_with_all_gather() -> None:
    assert tiny_config(context_parallel_size=3, cp_comm_type="all_gather").context_parallel_size == 3


def test_a_parallel_size_set_after_construction_is_checked_when_the_network_is_built() -> None:
    config = tiny_config()
    config.context_parallel_size = 8
    with pytest.raises(UserError, match="context_parallel_size=8"):
        DiT(config)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x_B_C_T_H_W": torch.zeros(2, 16, 3, 9, 6)}, "H and W must be multiples of 2"),
        ({"x_B_C_T_H_W": torch.zeros(2, 15, 3, 10, 6)}, "this network takes"),
        ({"x_B_C_T_H_W": torch.zeros(2, 16, 3, 10, 600)}, "none may exceed"),
        ({"timesteps_B_T": torch.zeros(2, 2)}, "one per sample"),
        ({"crossattn_emb_B_L_E": torch.zeros(2, 7, 24)}, "24 wide"),
    ],
)
def test_an_input_of_the_wrong_size_is_named(change: dict[str, torch.Tensor], words: str) -> None:
    one_process_parallel_state()
    with pytest.raises(UserError, match=words):
        DiT(tiny_config())(**batch() | change)


def test_flops_are_those_that_torch_counts() -> None:
    one_process_parallel_state()
    config = tiny_config(hidden_size=256)
    inputs = batch(frames=2, size=(32, 32))
    # Only the plain implementation of attention is made of products that the counter sees on a CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        DiT(config)(**inputs)
    tokens, text = 2 * 16 * 16, inputs["crossattn_emb_B_L_E"].shape[1]
    assert forward_flops(config, tokens, text, 2) == pytest.approx(counter.get_total_flops(), rel=0.02)
