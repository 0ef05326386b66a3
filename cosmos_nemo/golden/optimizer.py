"""Check this project's Adam with the lambdalinear schedule and Megatron's global-norm clip."""

import torch
from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.golden.compare import Comparison, compare
from cosmos_nemo.golden.manifest import Case
from cosmos_nemo.numerics.schedule import lambdalinear
from cosmos_nemo.platform.adam import Adam


def check_optimizer(case: Case) -> list[Comparison]:
    """Take the recorded steps from the recorded gradients; compare learning rate, gradient norm and parameters."""
    io = case.load()
    names = sorted(name.removeprefix("in.") for name in io if name.startswith("in.p"))
    steps = sorted({int(name.split(".")[1].removeprefix("step")) for name in io if name.startswith("in.step")})
    if not names or not steps:
        raise UserError(f"{io.file} has no parameters 'in.pN' or no gradients 'in.stepI.gN'")
    parameters = {name: torch.nn.Parameter(io[f"in.{name}"].clone()) for name in names}
    # One group: the published recipes decay every tensor, norms included.
    optimizer = Adam(
        list(parameters.values()),
        lr=case.setting("lr"),
        betas=tuple(case.setting("betas")),
        eps=case.setting("eps"),
        weight_decay=case.setting("weight_decay"),
    )
    comparisons = []
    for step in steps:
        gradients = {name: io[f"in.step{step}.g{name[1:]}"].clone() for name in names}
        norm = clip_gradients(list(gradients.values()), case.setting("clip_norm"))
        for name, parameter in parameters.items():
            parameter.grad = gradients[name]
        learning_rate = case.setting("lr") * lambdalinear(step, **case.setting("scheduler"))
        optimizer.param_groups[0]["lr"] = learning_rate
        optimizer.step()
        actual = {"lr": torch.tensor(learning_rate, dtype=torch.float64), "grad_norm": norm, **parameters}
        comparisons += [
            compare(f"step{step}.{name}", value, io[f"step{step}.{name}"], case.tolerance)
            for name, value in actual.items()
        ]
    return comparisons


def clip_gradients(gradients: list[Tensor], max_norm: float) -> Tensor:
    """Scale gradients in place by max_norm / (norm + 1e-6) where that is below 1; non-finite elements become 0.

    Args:
        gradients: all gradients, float32.
        max_norm: largest global 2-norm.

    Returns:
        The global norm before clipping, a scalar.
    Source: megatron.core.optimizer.clip_grads; cosmos-predict2, callbacks/grad_clip.py.
    """
    for gradient in gradients:
        gradient.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
    norm: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
    scale = max_norm / (norm.item() + 1e-6)
    if scale < 1.0:
        for gradient in gradients:
            gradient.mul_(scale)
    return norm
