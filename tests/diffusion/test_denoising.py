"""The pieces that objectives share, and the objective as run.json holds it."""

import json
from dataclasses import dataclass

import pytest
import torch

from cosmos_nemo.diffusion import OBJECTIVES, objective_from_json
from cosmos_nemo.diffusion.denoising import Draws, condition_mask, drop_text, guided
from cosmos_nemo.diffusion.predict2 import Predict2Objective
from cosmos_nemo.errors import UserError


def test_dropped_text_is_zero_and_kept_text_unchanged():
    text = torch.randn(2, 5, 8, dtype=torch.bfloat16)
    dropped = drop_text(text, torch.tensor([True, False]))
    assert torch.equal(dropped[0], text[0]) and not dropped[1].any() and dropped.dtype == text.dtype


def test_zero_guidance_is_the_conditional_prediction():
    cond, uncond = torch.randn(3), torch.randn(3)
    assert torch.equal(guided(cond, uncond, 0.0), cond)
    torch.testing.assert_close(guided(cond, uncond, 7.0), uncond + 8 * (cond - uncond))


def test_the_condition_mask_is_one_on_each_samples_first_frames():
    mask = condition_mask(torch.tensor([0, 2]), (3, 2, 2))
    assert mask.shape == (2, 1, 3, 2, 2)
    assert mask[:, 0, :, 0, 0].tolist() == [[0, 0, 0], [1, 1, 0]]


def test_draws_of_a_subclass_keep_their_class_when_they_move():
    @dataclass(frozen=True, kw_only=True)
    class More(Draws):
        extra_B: torch.Tensor

    draws = Predict2Objective(state_t=3).draw(seed=0, step=0, sample_id_B=[1], latent_shape=(2, 3, 2, 2))
    moved = More(**vars(draws), extra_B=torch.zeros(1)).to("meta")
    assert isinstance(moved, More) and moved.extra_B.is_meta and moved.sigma_B_1.is_meta


@pytest.mark.parametrize(
    "objective", [Predict2Objective(state_t=16, high_sigma_ratio=0.1), Predict2Objective.published("text2image")]
)
def test_an_objective_comes_back_from_json(objective):
    assert objective_from_json(json.loads(json.dumps(objective.to_json()))) == objective


def test_the_kinds_differ_and_each_names_its_samplers():
    assert len({made.kind for made in OBJECTIVES}) == len(OBJECTIVES)
    assert all(made.samplers for made in OBJECTIVES)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"state_t": 3}, "The objective None is unknown"),
        ({"kind": "predict9", "state_t": 3}, "The objective 'predict9' is unknown; this version has predict2"),
        ({"kind": "predict2", "state_t": 3, "colour": "red"}, "unknown field 'colour'"),
        ({"kind": "predict2"}, "The objective 'predict2' is incomplete: .*state_t"),
        ({"kind": "predict2", "state_t": 3, "sigma_data": 0.5}, "sigma_data=0.5"),
    ],
)
def test_a_section_that_makes_no_sense_is_refused(section, message):
    with pytest.raises(UserError, match=message):
        objective_from_json(section)


def test_an_unknown_sampler_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="The sampler 'heun' is unknown here; use 2ab or euler"):
        Predict2Objective(state_t=3).sampler_name("heun")
