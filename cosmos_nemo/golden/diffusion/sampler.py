"""Check the sampler: with an analytic denoiser, and with a network, guidance and frame replacement."""

from dataclasses import replace

from torch import Tensor

from cosmos_nemo.diffusion.denoising import GivenFrames
from cosmos_nemo.diffusion.predict2 import Predict2Objective
from cosmos_nemo.diffusion.sampler import INTEGRATORS, X0Fn, sigma_schedule
from cosmos_nemo.errors import UserError
from cosmos_nemo.golden.compare import Comparison, compare
from cosmos_nemo.golden.diffusion.build import build_model, conditions
from cosmos_nemo.golden.manifest import Case, Tensors
from cosmos_nemo.parallel.process import World

ANALYTIC = "x0 = mu + (x - mu) * s2 / (s2 + sigma^2)"
"""The one analytic denoiser that is understood: exact for Gaussian data of mean mu and variance s2."""


def check_sampler(case: Case, world: World) -> list[Comparison]:
    """Sample from the recorded first state; compare noise levels, every intermediate state and the result."""
    name = case.setting("sampler")
    if name not in Predict2Objective.samplers:
        raise UserError(f"sampler '{name}' is not known; Predict2 has {' and '.join(Predict2Objective.samplers)}")
    io = case.load()
    sigmas = sigma_schedule(
        case.setting("num_steps"),
        sigma_min=case.setting("sigma_min"),
        sigma_max=case.setting("sigma_max"),
        rho=case.setting("rho"),
    )
    states: dict[str, Tensor] = {}

    def record(step: int, x: Tensor, x0: Tensor) -> None:
        states[f"x_after_step_{step:02}"] = x
        states[f"x0_at_step_{step:02}"] = x0

    x0_fn = _network(case, world, io) if "weights" in case.files else _analytic(case, io, world)
    out = INTEGRATORS[name](x0_fn, io["in.x_sigma_max"].to(world.device), sigmas, record)
    computed = {"sigmas": sigmas, **states}
    comparisons = [compare(name, value, io[name], case.tolerance) for name, value in computed.items() if name in io]
    return [*comparisons, compare("out", out, io["out"], case.tolerance)]


def _analytic(case: Case, io: Tensors, world: World) -> X0Fn:
    """Return the analytic denoiser of the config."""
    if case.setting("denoiser") != ANALYTIC:
        raise UserError(f"denoiser '{case.setting('denoiser')}' is not known; only '{ANALYTIC}' is")
    mu, s2 = io["in.mu"].to(world.device), case.setting("s2")
    return lambda x, sigma: mu + (x - mu) * s2 / (s2 + sigma.float() ** 2)


def _network(case: Case, world: World, io: Tensors) -> X0Fn:
    """Return the guided denoiser of this project's network; both branches are shown the conditional frames."""
    model = build_model(case, world, weights=case.load("weights"))
    shown = conditions(io).to(world.device)
    objective = Predict2Objective(
        state_t=io["in.x_sigma_max"].shape[2], sigma_conditional=case.setting("sigma_conditional")
    )
    given = None
    if "in.gt_frames" in io and shown.condition_mask_B_1_T_H_W is not None:
        given = GivenFrames(
            x0_B_C_T_H_W=io["in.gt_frames"].to(world.device), mask_B_1_T_H_W=shown.condition_mask_B_1_T_H_W
        )
    negative = replace(shown, crossattn_emb_B_L_E=io["in.neg_crossattn_emb"].to(world.device))
    return objective.denoiser(
        shown.bind(model), uncond=negative.bind(model), guidance=case.setting("guidance"), given=given
    )
