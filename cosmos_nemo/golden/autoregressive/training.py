"""Check the loss, every gradient, and optimizer steps as training takes them."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.golden.autoregressive.build import build_model
from cosmos_nemo.golden.compare import Comparison, compare, compare_names, not_comparable
from cosmos_nemo.golden.manifest import Case, Tensors
from cosmos_nemo.numerics.schedule import warmup_cosine
from cosmos_nemo.parallel.process import World

if TYPE_CHECKING:
    from cosmos_nemo.models.autoregressive.loss import NextTokenLoss, NextTokenObjective
    from cosmos_nemo.models.autoregressive.model import AutoregressiveTransformer


def check_training(
    model: "AutoregressiveTransformer", case: Case, io: Tensors, weights: Tensors, world: World
) -> list[Comparison]:
    """Compare labels, the parts of the loss, the gradients, and the recorded optimizer steps; what the file has."""
    if "loss_total" not in io:
        return []
    from megatron.core.distributed import finalize_model_grads

    from cosmos_nemo.checkpoints.convert import published_gradients

    ddp = _with_gradient_buffers(model)
    ddp.train()
    ddp.zero_grad_buffer()
    tokens = io["tokens"].to(world.device)
    result = loss_of(model, case, io, ddp(tokens, **_inputs(case, io, world)))
    torch.autograd.backward(result.total)
    finalize_model_grads([ddp])
    tolerance = case.allowed("loss")
    parts = {"loss_ce": result.cross_entropy, "loss_z": result.z_loss, "loss_total": result.total}
    comparisons = [_check_labels(model, case, io)] if "labels_with_ignore" in io else []
    comparisons += [compare(name, value, io[name], tolerance) for name, value in parts.items() if name in io]
    golden = {name.removeprefix("grad."): value for name, value in io.items() if name.startswith("grad.")}
    ours = published_gradients(ddp)
    comparisons += compare_names("names of gradients", ours, golden)
    allowed = case.allowed("gradients")
    comparisons += [compare(f"grad.{name}", ours[name], golden[name], allowed) for name in golden if name in ours]
    return comparisons + (_check_trace(case, io, weights, world) if "trace.batches" in io else [])


def loss_of(model: "AutoregressiveTransformer", case: Case, io: Tensors, logits: Tensor) -> "NextTokenLoss":
    """Return the training loss of the case's tokens."""
    return _loss(model, case, io["tokens"].to(logits.device), logits)


def _loss(model: "AutoregressiveTransformer", case: Case, tokens: Tensor, logits: Tensor) -> "NextTokenLoss":
    from cosmos_nemo.models.autoregressive.loss import next_token_loss

    objective = _objective(case)
    return next_token_loss(
        logits,
        _labels(model, case, tokens),
        objective=objective,
        token_range=model.token_range(tokens.shape[1]),
        tp_group=model.groups.tp,
    )


def _objective(case: Case) -> "NextTokenObjective":
    from cosmos_nemo.models.autoregressive.loss import NextTokenObjective

    _, H, W = case.setting("latent")
    given = case.setting("ignore_first_num_tokens") + 1
    if given % (H * W):
        raise UserError(f"ignore_first_num_tokens={given - 1} does not end with a latent frame of {H} x {W} tokens")
    return NextTokenObjective(num_condition_latents_t=given // (H * W), z_loss_coeff=case.setting("z_loss_coeff"))


def _labels(model: "AutoregressiveTransformer", case: Case, tokens: Tensor) -> Tensor:
    from cosmos_nemo.models.autoregressive.loss import next_token_labels

    return next_token_labels(
        tokens, latent_shape=tuple(case.setting("latent")), config=model.config, objective=_objective(case)
    )


def _check_labels(model: "AutoregressiveTransformer", case: Case, io: Tensors) -> Comparison:
    from cosmos_nemo.models.autoregressive.loss import IGNORED

    labels = _labels(model, case, io["tokens"])[:, :-1]
    golden = io["labels_with_ignore"]
    ignored = case.extra.get("ignore_index", IGNORED)
    return compare("labels_with_ignore", labels.where(labels != IGNORED, ignored), golden, {"atol": 0.0})


def _inputs(case: Case, io: Tensors, world: World) -> dict[str, Any]:
    from cosmos_nemo.golden.autoregressive.network import inputs_of

    return inputs_of(case, io, world)


def _with_gradient_buffers(model: "AutoregressiveTransformer") -> Any:
    from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig

    return DistributedDataParallel(model.config, DistributedDataParallelConfig(), model)


def _check_trace(case: Case, io: Tensors, weights: Tensors, world: World) -> list[Comparison]:
    """Take the recorded steps with Megatron's optimizer: global clipping, warm-up cosine, decay of every tensor."""
    from megatron.core.distributed import finalize_model_grads
    from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer

    from cosmos_nemo.checkpoints.convert import published_state_dict

    settings = case.extra.get("optimizer")
    if not isinstance(settings, dict) or settings.get("name") != "AdamW":
        raise UserError("the trace needs 'optimizer' with name AdamW in the manifest")
    model = build_model(case, world, weights=weights)
    ddp = _with_gradient_buffers(model)
    ddp.train()
    config = OptimizerConfig(
        optimizer="adam",
        lr=settings["lr"],
        adam_beta1=settings["betas"][0],
        adam_beta2=settings["betas"][1],
        adam_eps=settings["eps"],
        weight_decay=settings["weight_decay"],
        clip_grad=settings["grad_clip"],
    )
    optimizer = get_megatron_optimizer(config, [ddp], no_weight_decay_cond=lambda name, parameter: False)
    found: dict[str, list[Tensor]] = {"trace.loss": [], "trace.lr": [], "trace.grad_norm_before_clip": []}
    for step, tokens in enumerate(io["trace.batches"].to(world.device)):
        lr = warmup_cosine(
            step,
            warm_up_steps=settings["warmup_iters"],
            decay_steps=settings["lr_decay_iters"],
            lr=settings["lr"],
            min_lr=settings["min_lr"],
        )
        for group in optimizer.param_groups:
            group["lr"] = lr
        ddp.zero_grad_buffer()
        optimizer.zero_grad()
        loss = _loss(model, case, tokens, ddp(tokens, **_inputs(case, io, world))).total
        torch.autograd.backward(loss)
        finalize_model_grads([ddp])
        _, grad_norm, _ = optimizer.step()
        for name, value in zip(found, (loss.detach(), lr, grad_norm), strict=True):
            found[name].append(torch.as_tensor(value, dtype=torch.float64))
    final = published_state_dict(model)
    allowed = case.allowed("activations")
    comparisons = [
        compare(name, torch.stack(values), io[name], {"atol": 1e-12} if name == "trace.lr" else allowed)
        for name, values in found.items()
    ]
    return comparisons + [
        _compare_final(name, final[name.removeprefix("trace.final.")], io, weights, allowed)
        for name in io
        if name.startswith("trace.final.")
    ]


def _compare_final(name: str, found: Tensor, io: Tensors, weights: Tensors, allowed: dict[str, float]) -> Comparison:
    """Compare a weight after the last step, unless the file has recorded the one from before the first.

    With a learning rate above 0 no weight stays as it was (weight decay alone changes it), so such a value was recorded
    from another network than the one that took the steps; those steps still show in the recorded losses.
    """
    if io["trace.lr"].max() > 0 and torch.equal(io[name], weights[name.removeprefix("trace.final.")]):
        return not_comparable(name, "trace.final.* holds weights from before the first step")
    return compare(name, found, io[name], allowed)
