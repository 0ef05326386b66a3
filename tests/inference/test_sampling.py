from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from cosmos_nemo.checkpoints.convert import load_published_into
from cosmos_nemo.checkpoints.shapes import published_architecture
from cosmos_nemo.diffusion.predict2 import Predict2Objective
from cosmos_nemo.diffusion.sampler import unit_noise
from cosmos_nemo.inference.sampling import sample_latents
from cosmos_nemo.models.dit.conditions import Conditions
from cosmos_nemo.parallel.process import model_parallel_world
from tests.checkpoints.networks import TINY, model_of, random_published

SHAPE = (1, 16, 3, 6, 8)
OBJECTIVE = Predict2Objective(state_t=3)


@pytest.fixture(scope="module")
def model():
    with model_parallel_world():
        model = model_of(TINY)
        load_published_into(model, random_published(TINY))
        yield model


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(2)
    gt_frames = torch.randn(SHAPE, generator=generator)
    mask = torch.zeros(1, 1, *SHAPE[2:])
    mask[:, :, :1] = 1
    text, uncond = (torch.randn(1, 5, 40, generator=generator) for _ in range(2))
    return Conditions(crossattn_emb_B_L_E=text, condition_mask_B_1_T_H_W=mask), gt_frames, uncond


def sample(model, inputs, **changes):
    conditions, given, uncond = inputs
    settings = {"given_1_C_T_H_W": given, "uncond_1_L_E": uncond, "guidance": 7.0, "num_steps": 4, **changes}
    noise = unit_noise(SHAPE, seed=settings.pop("seed", 3))
    return sample_latents(model, OBJECTIVE, conditions, noise_1_C_T_H_W=noise, **settings)


@pytest.mark.parametrize("sampler", OBJECTIVE.samplers)
@pytest.mark.parametrize("guidance", [0.0, 7.0])
def test_conditional_frames_come_out_exactly_as_given(model, inputs, guidance, sampler):
    _, given, _ = inputs
    out = sample(model, inputs, guidance=guidance, sampler=sampler)
    assert out.dtype == torch.float32 and torch.isfinite(out).all()
    assert torch.equal(out[:, :, :1], given[:, :, :1])
    assert not torch.equal(out[:, :, 1:], given[:, :, 1:])


def test_masked_latents_do_not_matter(model, inputs):
    conditions, given, uncond = inputs
    other = given.clone()
    other[:, :, 1:] = 9
    outs = [sample(model, (conditions, frames, uncond)) for frames in (given, other)]
    assert torch.equal(*outs)


def test_guidance_towards_the_same_text_equals_one_pass(model, inputs):
    one = sample(model, inputs, uncond_1_L_E=None)
    two = sample(model, inputs, uncond_1_L_E=inputs[0].crossattn_emb_B_L_E)
    assert torch.equal(one, two)


def test_text_guidance_sampler_and_seed_change_the_result(model, inputs):
    conditions, given, uncond = inputs
    base = sample(model, inputs)
    assert torch.equal(base, sample(model, inputs)), "the same seed, the same result"
    assert not torch.equal(base, sample(model, inputs, seed=4))
    assert not torch.equal(base, sample(model, inputs, guidance=0.0))
    assert not torch.equal(base, sample(model, inputs, sampler="euler"))
    assert not torch.equal(base, sample(model, (replace(conditions, crossattn_emb_B_L_E=uncond), given, uncond)))


def test_progress_counts_every_step(model, inputs):
    seen = []
    sample(model, inputs, on_step=seen.append)
    assert seen == [1, 2, 3, 4]


def test_latents_are_scaled_to_the_objective_and_back(model, inputs):
    """Objectives may work on latents of another standard deviation than the tokenizer's."""
    conditions, given, _ = inputs
    seen = {}

    class Halved:
        sigma_data = 0.5

        def sample(self, network, noise, *, given, **settings):
            seen["x0"] = given.x0_B_C_T_H_W
            return given.x0_B_C_T_H_W

    out = sample_latents(
        model,
        Halved(),
        conditions,
        noise_1_C_T_H_W=unit_noise(SHAPE, seed=0),
        uncond_1_L_E=None,
        guidance=0.0,
        num_steps=1,
        given_1_C_T_H_W=given,
    )
    assert torch.equal(seen["x0"], given / 2) and torch.equal(out, given)


def test_the_golden_sampler_run_is_reproduced(model, shared_dir):
    """The published sampler on a published-format network, from the golden noise to its result."""
    folder = shared_dir / "golden" / "dit"
    io = load_file(folder / "sampler_predict2_v2w_net.io.safetensors")
    state = load_file(folder / "sampler_predict2_v2w_net.weights.safetensors")
    ratios = {"rope_t_extrapolation_ratio": 1.0, "rope_h_extrapolation_ratio": 3.0, "rope_w_extrapolation_ratio": 3.0}
    network = model_of({"family": "predict2", **published_architecture(state).fields, **ratios})
    load_published_into(network, state)
    out = sample_latents(
        network,
        OBJECTIVE,
        Conditions(
            crossattn_emb_B_L_E=io["in.crossattn_emb"], condition_mask_B_1_T_H_W=io["in.condition_video_input_mask"]
        ),
        noise_1_C_T_H_W=io["in.x_sigma_max"] / 80,
        uncond_1_L_E=io["in.neg_crossattn_emb"],
        guidance=7.0,
        num_steps=6,
        given_1_C_T_H_W=io["in.gt_frames"],
    )
    torch.testing.assert_close(out, io["out"], atol=2e-3, rtol=1e-3)
