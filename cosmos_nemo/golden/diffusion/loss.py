"""Check the training loss and every gradient."""

import torch
from torch import Tensor

from cosmos_nemo.diffusion.denoising import Draws, add_noise
from cosmos_nemo.diffusion.predict2 import Predict2Objective, loss_weight, weighted_squared_error
from cosmos_nemo.errors import UserError
from cosmos_nemo.golden.compare import Comparison, compare, compare_gradient, compare_names
from cosmos_nemo.golden.diffusion.build import build_model, conditions
from cosmos_nemo.golden.manifest import Case, Tensors
from cosmos_nemo.parallel.process import World


def check_loss(case: Case, world: World) -> list[Comparison]:
    """Compute the loss from the given draws through this project's network, and its gradients.

    The gradients are those that training sees: summed by Megatron over the ranks that hold parts of them.
    """
    from megatron.core.distributed import (
        DistributedDataParallel,
        DistributedDataParallelConfig,
        finalize_model_grads,
    )

    from cosmos_nemo.checkpoints.convert import published_gradients

    network = build_model(case, world, weights=case.load("weights"))
    model = DistributedDataParallel(network.config, DistributedDataParallelConfig(), network)
    io = case.load()
    objective = objective_of(case, io)
    draws = draws_of(io).to(world.device)
    x0 = io["in.x0"].to(world.device)

    x, timesteps = objective.network_input(x0, draws)
    net_out = conditions(io).to(world.device).bind(model)(x, timesteps)
    result = objective.loss(x0, net_out, draws, network)
    torch.autograd.backward(result.loss)
    finalize_model_grads([model])

    computed = {
        "xt": add_noise(x0, draws),
        "net_in.x_B_C_T_H_W": x,
        "net_in.timesteps_B_T": timesteps,
        "net_out": net_out,
        "x0_pred": result.x0_pred_B_C_T_H_W,
        "loss_per_sample": result.loss_per_sample_B,
        **_derived(objective, x0, result.x0_pred_B_C_T_H_W, draws),
    }
    comparisons = [compare(name, value, io[name], case.tolerance) for name, value in computed.items() if name in io]
    comparisons.append(compare("loss", result.loss, io["loss"], case.tolerance))
    gradients = case.load("grads")
    ours = published_gradients(model)
    comparisons += compare_names("names of gradients", ours, gradients)
    return comparisons + [
        compare_gradient(f"grad {name}", ours[name], gradients[name], case.tolerance)
        for name in gradients
        if name in ours
    ]


def objective_of(case: Case, io: Tensors) -> Predict2Objective:
    """Return the objective a loss case was made with; its random draws are given, so only these numbers matter.

    Raises:
        UserError: a reduction other than the mean.
    """
    if case.config.get("loss_reduce", "mean") != "mean":
        raise UserError(f"loss_reduce='{case.config['loss_reduce']}' is not built; the recipes use 'mean'")
    return Predict2Objective(
        state_t=io["in.x0"].shape[2],
        sigma_data=case.setting("sigma_data"),
        sigma_conditional=case.setting("sigma_conditional"),
        loss_scale=case.setting("loss_scale"),
    )


def draws_of(io: Tensors) -> Draws:
    """Return the recorded random draws; a file without a condition mask (Text2Image) has no conditional frames."""
    x0 = io["in.x0"]
    mask = io.get("in.condition_video_input_mask", torch.zeros_like(x0[:, :1]))
    return Draws(
        sigma_B_1=io["in.sigma_B_1"],
        epsilon_B_C_T_H_W=io["in.epsilon"],
        condition_mask_B_1_T_H_W=mask,
        keep_text_B=torch.ones(len(x0), dtype=torch.bool),
    )


def _derived(objective: Predict2Objective, x0: Tensor, x0_pred: Tensor, draws: Draws) -> dict[str, Tensor]:
    """Return the finer quantities that a golden file may also record."""
    sigma_B_1 = draws.sigma_B_1
    error = weighted_squared_error(x0, x0_pred, sigma_B_1)
    xt = add_noise(x0, draws)
    return {
        "weights_per_sigma_B_1": loss_weight(sigma_B_1),
        "mse_per_element": (x0 - x0_pred) ** 2,
        "eps_pred": (xt - x0_pred) / sigma_B_1[:, :, None, None, None],
        "edm_loss_per_element": error,
        "edm_loss_per_frame_B_T": error.mean(dim=(1, 3, 4)),
        "loss_if_reduce_is_sum": objective.loss_scale * error.sum(dim=1).mean(),
    }
