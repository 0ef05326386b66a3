"""The Predict2 objective against the published code's numbers and its closed forms."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from cosmos_nemo.diffusion import predict2
from cosmos_nemo.diffusion.denoising import Draws, GivenFrames, add_noise, condition_mask
from cosmos_nemo.diffusion.predict2 import Predict2Objective
from cosmos_nemo.errors import UserError

VIDEO = Predict2Objective(state_t=24)
IMAGE = Predict2Objective.published("text2image")
SHAPE = (16, 4, 6, 8)


def draws_of(golden: dict[str, torch.Tensor]) -> Draws:
    x0 = golden["in.x0"]
    mask = golden.get("in.condition_video_input_mask", torch.zeros_like(x0[:, :1]))
    return Draws(
        sigma_B_1=golden["in.sigma_B_1"],
        epsilon_B_C_T_H_W=golden["in.epsilon"],
        condition_mask_B_1_T_H_W=mask,
        keep_text_B=torch.ones(len(x0), dtype=torch.bool),
    )


def batch_draws(sample_ids: list[int], step: int = 3, objective: Predict2Objective = VIDEO) -> Draws:
    return objective.draw(seed=1, step=step, sample_id_B=sample_ids, latent_shape=SHAPE)


@pytest.mark.parametrize("case", ["loss_predict2_v2w_tiny", "loss_predict2_t2i_tiny"])
def test_objective_reproduces_the_published_float32_arithmetic(shared_dir, case):
    golden = load_file(shared_dir / "golden" / "dit" / f"{case}.io.safetensors")
    draws, x0 = draws_of(golden), golden["in.x0"]
    x, timesteps = VIDEO.network_input(x0, draws)
    result = VIDEO.loss(x0, golden["net_out"], draws)
    error = predict2.weighted_squared_error(x0, result.x0_pred_B_C_T_H_W, draws.sigma_B_1)
    exact = {"rtol": 0.0, "atol": 0.0}
    torch.testing.assert_close(add_noise(x0, draws), golden["xt"], **exact)
    torch.testing.assert_close(x, golden["net_in.x_B_C_T_H_W"], **exact)
    torch.testing.assert_close(timesteps, golden["net_in.timesteps_B_T"], **exact)
    torch.testing.assert_close(result.x0_pred_B_C_T_H_W, golden["x0_pred"], **exact)
    torch.testing.assert_close(error, golden["edm_loss_per_element"], **exact)
    torch.testing.assert_close(result.loss_per_sample_B, golden["loss_per_sample"], rtol=1e-6, atol=0)
    torch.testing.assert_close(result.loss, golden["loss"], rtol=1e-6, atol=0)


@pytest.mark.parametrize("sigma", [0.01, 0.2, 5.0, 900.0, 1e5])
def test_loss_equals_its_velocity_form_at_every_noise_level(sigma):
    draws = dataclasses.replace(batch_draws([1, 2]), sigma_B_1=torch.full((2, 1), sigma, dtype=torch.float64))
    x0 = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    net_out = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    velocity_error = net_out - (draws.epsilon_B_C_T_H_W - x0)
    expected = 10 * ((1 - draws.condition_mask_B_1_T_H_W) * velocity_error**2).double().mean()
    loss = VIDEO.loss(x0, net_out, draws).loss
    torch.testing.assert_close(loss.double(), expected, rtol=2e-6, atol=0)
    assert loss.dtype == torch.float32


def test_sigma_reproduces_published_noise_levels(shared_dir):
    golden = load_file(shared_dir / "golden" / "dit" / "sigma_sampling_predict2.io.safetensors")
    uniforms = [golden[f"in.{name}"] for name in ("u_gauss", "u_mask", "u_log")]
    plain = dataclasses.replace(VIDEO, high_sigma_ratio=0.0)
    for objective, name in [(VIDEO, "high_sigma_5pct"), (plain, "no_high_sigma"), (IMAGE, "text2image")]:
        sigma_B = objective.sigma_from_uniforms(*uniforms)
        torch.testing.assert_close(sigma_B, golden[f"sigma.{name}"][:, 0].double(), rtol=1e-6, atol=0)


def test_draws_of_a_sample_do_not_depend_on_its_batch():
    together, alone = batch_draws([11, 12, 13]), batch_draws([12])
    for field in dataclasses.fields(Draws):
        assert torch.equal(getattr(together, field.name)[1:2], getattr(alone, field.name))


def test_draws_differ_between_samples_and_steps():
    here, later = batch_draws([11, 12]), batch_draws([11, 12], step=4)
    assert not torch.equal(here.epsilon_B_C_T_H_W[0], here.epsilon_B_C_T_H_W[1])
    assert not torch.equal(here.epsilon_B_C_T_H_W, later.epsilon_B_C_T_H_W)
    assert not torch.equal(here.sigma_B_1, later.sigma_B_1)


def test_draw_statistics_match_the_objective():
    draws = VIDEO.draw(seed=0, step=0, sample_id_B=range(4000), latent_shape=(1, 4, 1, 1))
    ordinary = draws.sigma_B_1[draws.sigma_B_1 < 200]
    num_conditional = draws.condition_mask_B_1_T_H_W[:, 0, :, 0, 0].sum(1)
    assert (draws.sigma_B_1 >= 200).float().mean().item() == pytest.approx(0.05, abs=0.015)
    assert ordinary.log().mean().item() == pytest.approx(0.5 * torch.tensor(24.0).log().item(), abs=0.06)
    assert ordinary.log().std().item() == pytest.approx(1.0, abs=0.05)
    assert set(num_conditional.tolist()) == {1.0, 2.0}
    assert num_conditional.mean().item() == pytest.approx(1.5, abs=0.04)
    assert draws.keep_text_B.float().mean().item() == pytest.approx(0.8, abs=0.03)


def test_an_image_has_no_conditional_frames():
    draws = VIDEO.draw(seed=0, step=0, sample_id_B=[1, 2], latent_shape=(16, 1, 4, 4))
    assert not draws.condition_mask_B_1_T_H_W.any()


def test_conditional_frames_are_clean_and_add_no_loss_or_gradient():
    draws = batch_draws([1, 2, 3])
    x0 = torch.randn(3, *SHAPE)
    x, timesteps = VIDEO.network_input(x0, draws)
    mask = draws.condition_mask_B_1_T_H_W.bool().expand_as(x0)
    assert torch.equal(x[mask], x0[mask])
    assert timesteps[draws.condition_mask_B_1_T_H_W[:, 0, :, 0, 0].bool()].unique().tolist() == [
        pytest.approx(1e-4 / (1 + 1e-4))
    ]
    net_out = torch.randn(3, *SHAPE, requires_grad=True)
    VIDEO.loss(x0, net_out, draws).loss.backward()
    assert not net_out.grad[mask].any()
    assert net_out.grad[~mask].all()


def test_denoise_returns_given_frames_unchanged_and_shows_them_to_the_network():
    x, gt_frames = torch.randn(2, *SHAPE) * 80, torch.randn(2, *SHAPE)
    mask = condition_mask(torch.tensor([1, 2]), SHAPE[1:])
    seen = {}

    def network(x_in: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        seen.update(x=x_in, timesteps=timesteps)
        return torch.zeros_like(x_in)

    x0 = VIDEO.denoise(network, x, 80.0, GivenFrames(x0_B_C_T_H_W=gt_frames, mask_B_1_T_H_W=mask))
    chosen = mask.bool().expand_as(x)
    assert torch.equal(x0[chosen], gt_frames[chosen])
    assert torch.equal(seen["x"][chosen], gt_frames[chosen])
    torch.testing.assert_close(x0[~chosen], x[~chosen] / 81)
    assert seen["timesteps"].shape == (2, SHAPE[1])


@pytest.mark.parametrize(
    "wrong",
    [
        {"state_t": 0},
        {"state_t": 4, "sigma_data": 0.5},
        {"state_t": 4, "min_num_conditional_frames": 3},
        {"state_t": 4, "text_dropout": 1.5},
        {"state_t": 4, "high_sigma_min": 1e6},
    ],
)
def test_contradictory_objectives_are_rejected(wrong):
    with pytest.raises(UserError):
        Predict2Objective(**wrong)
