"""Checks the sampler: with an analytic denoiser, and with a network, guidance and frame replacement."""

from torch import Tensor

from cosmos_nemo.diffusion.predict2 import Predict2Objective, denoise
from cosmos_nemo.diffusion.sampler import X0Fn, guided, sample_2ab, sigma_schedule
from cosmos_nemo.errors import UserError
from cosmos_nemo.golden.compare import Comparison, compare
from cosmos_nemo.golden.manifest import Case, Tensors
from cosmos_nemo.golden.network import build_model, to_device
from cosmos_nemo.golden.runtime import Runtime

ANALYTIC = "x0 = mu + (x - mu) * s2 / (s2 + sigma^2)"
"""The one analytic denoiser that is understood: exact for Gaussian data of mean mu and variance s2."""


def check_sampler(case: Case, runtime: Runtime) -> list[Comparison]:
    """Sample from the recorded first state; compare noise levels, every intermediate state and the result."""
    if case.setting("sampler") != "2ab":
        raise UserError(f"sampler '{case.setting('sampler')}' is not known; Predict2's is '2ab'")
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

    x0_fn = _network(case, runtime, io) if "weights" in case.files else _analytic(case, io, runtime)
    out = sample_2ab(x0_fn, io["in.x_sigma_max"].to(runtime.device), sigmas, on_step=record)
    computed = {"sigmas": sigmas, **states}
    comparisons = [compare(name, value, io[name], case.tolerance) for name, value in computed.items() if name in io]
    return [*comparisons, compare("out", out, io["out"], case.tolerance)]


def _analytic(case: Case, io: Tensors, runtime: Runtime) -> X0Fn:
    """Return the analytic denoiser of the config."""
    if case.setting("denoiser") != ANALYTIC:
        raise UserError(f"denoiser '{case.setting('denoiser')}' is not known; only '{ANALYTIC}' is")
    mu, s2 = io["in.mu"].to(runtime.device), case.setting("s2")
    return lambda x, sigma: mu + (x - mu) * s2 / (s2 + sigma.float() ** 2)


def _network(case: Case, runtime: Runtime, io: Tensors) -> X0Fn:
    """Return the guided denoiser of this project's network; both branches are shown the conditional frames."""
    model = build_model(case, runtime, weights=case.load("weights"))
    given = to_device(
        {name: io.get(f"in.{name}") for name in ("gt_frames", "condition_video_input_mask", "padding_mask", "fps")},
        runtime,
    )
    objective = Predict2Objective(
        state_t=io["in.x_sigma_max"].shape[2], sigma_conditional=case.setting("sigma_conditional")
    )

    def branch(x: Tensor, sigma: Tensor, text: Tensor) -> Tensor:
        def network(x_in: Tensor, timesteps_B_T: Tensor) -> Tensor:
            out: Tensor = model(
                x_in,
                timesteps_B_T,
                text,
                condition_mask_B_1_T_H_W=given["condition_video_input_mask"],
                padding_mask_B_1_H_W=given["padding_mask"],
                fps_B=given["fps"],
            )
            return out

        return denoise(objective, network, x, sigma, given["gt_frames"], given["condition_video_input_mask"])

    texts = [io[name].to(runtime.device) for name in ("in.crossattn_emb", "in.neg_crossattn_emb")]

    def x0_fn(x: Tensor, sigma: Tensor) -> Tensor:
        cond, uncond = (branch(x, sigma, text) for text in texts)
        return guided(cond, uncond, case.setting("guidance"))

    return x0_fn
