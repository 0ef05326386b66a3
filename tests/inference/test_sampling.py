import pytest
import torch
from safetensors.torch import load_file

from cosmos_nemo.checkpoints.convert import load_published_into
from cosmos_nemo.checkpoints.shapes import infer_config
from cosmos_nemo.diffusion.sampler import initial_noise
from cosmos_nemo.inference.sampling import sample_latents
from cosmos_nemo.parallel.process import model_parallel_world
from tests.checkpoints.networks import TINY, model_of, random_published

SHAPE = (1, 16, 3, 6, 8)


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
    return {"gt_frames_1_C_T_H_W": gt_frames, "condition_mask_1_1_T_H_W": mask, "text_1_L_E": text}, uncond


def sample(model, inputs, **changes):
    noise = initial_noise(SHAPE, seed=changes.pop("seed", 3))
    return sample_latents(model, **{**inputs, "noise_1_C_T_H_W": noise, "num_steps": 4, **changes})


@pytest.mark.parametrize("guidance", [0.0, 7.0])
def test_conditional_frames_come_out_exactly_as_given(model, inputs, guidance):
    given, uncond = inputs
    out = sample(model, given, uncond_1_L_E=uncond, guidance=guidance)
    assert out.dtype == torch.float32 and torch.isfinite(out).all()
    assert torch.equal(out[:, :, :1], given["gt_frames_1_C_T_H_W"][:, :, :1])
    assert not torch.equal(out[:, :, 1:], given["gt_frames_1_C_T_H_W"][:, :, 1:])


def test_masked_latents_do_not_matter(model, inputs):
    given, uncond = inputs
    other = given["gt_frames_1_C_T_H_W"].clone()
    other[:, :, 1:] = 9
    outs = [
        sample(model, {**given, "gt_frames_1_C_T_H_W": frames}, uncond_1_L_E=uncond, guidance=7.0)
        for frames in (given["gt_frames_1_C_T_H_W"], other)
    ]
    assert torch.equal(*outs)


def test_guidance_towards_the_same_text_equals_one_pass(model, inputs):
    given, _ = inputs
    one = sample(model, given, uncond_1_L_E=None, guidance=7.0)
    two = sample(model, given, uncond_1_L_E=given["text_1_L_E"], guidance=7.0)
    assert torch.equal(one, two)


def test_text_guidance_and_seed_change_the_result(model, inputs):
    given, uncond = inputs
    base = sample(model, given, uncond_1_L_E=uncond, guidance=7.0)
    assert torch.equal(base, sample(model, given, uncond_1_L_E=uncond, guidance=7.0)), "the same seed, the same result"
    assert not torch.equal(base, sample(model, given, uncond_1_L_E=uncond, guidance=7.0, seed=4))
    assert not torch.equal(base, sample(model, given, uncond_1_L_E=uncond, guidance=0.0))
    assert not torch.equal(base, sample(model, {**given, "text_1_L_E": uncond}, uncond_1_L_E=uncond, guidance=7.0))


def test_progress_counts_every_noise_level(model, inputs):
    seen = []
    sample(model, inputs[0], uncond_1_L_E=None, guidance=7.0, on_step=seen.append)
    assert seen == [1, 2, 3, 4, 5]


def test_the_golden_sampler_run_is_reproduced(model, shared_dir):
    """The published sampler on a published-format network, from the golden noise to its result."""
    folder = shared_dir / "golden" / "dit"
    io = load_file(folder / "sampler_predict2_v2w_net.io.safetensors")
    state = load_file(folder / "sampler_predict2_v2w_net.weights.safetensors")
    ratios = {"rope_t_extrapolation_ratio": 1.0, "rope_h_extrapolation_ratio": 3.0, "rope_w_extrapolation_ratio": 3.0}
    network = model_of({**infer_config(state), **ratios})
    load_published_into(network, state)
    out = sample_latents(
        network,
        noise_1_C_T_H_W=io["in.x_sigma_max"],
        text_1_L_E=io["in.crossattn_emb"],
        uncond_1_L_E=io["in.neg_crossattn_emb"],
        guidance=7.0,
        num_steps=6,
        gt_frames_1_C_T_H_W=io["in.gt_frames"],
        condition_mask_1_1_T_H_W=io["in.condition_video_input_mask"],
    )
    torch.testing.assert_close(out, io["out"], atol=2e-3, rtol=1e-3)
