"""Adam with the contract of Apex's and Transformer Engine's FusedAdam, for machines without either.

Megatron's distributed optimizer saves and loads state of that contract: `step` lives in the parameter group,
the state of a parameter is `exp_avg` and `exp_avg_sq`. torch's AdamW keeps a `step` tensor per parameter instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Adam(torch.optim.Optimizer):
    r"""Adam, or AdamW with `adam_w_mode`.

    With gradient g, decay :math:`\lambda`, and t counted from 1 (in the parameter group, as ``step``):

        AdamW: p <- p (1 - lr lambda);   Adam: g <- g + lambda p
        m <- b1 m + (1 - b1) g;   v <- b2 v + (1 - b2) g^2
        p <- p - lr (m / c1) / (sqrt(v / c2) + eps),   c_i = 1 - b_i^t with `bias_correction`, else 1

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        bias_correction: divide the moments by `c_i`.
        betas: decay of the two moments.
        eps: added to the root.
        adam_w_mode: decoupled weight decay; otherwise the decay is added to the gradient.
        weight_decay: lambda.

    Source: Kingma and Ba 2014, arXiv:1412.6980; Loshchilov and Hutter 2017, arXiv:1711.05101.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        bias_correction: bool = True,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        adam_w_mode: bool = True,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = dict(lr=lr, bias_correction=bias_correction, betas=betas, eps=eps, weight_decay=weight_decay)
        super().__init__(params, defaults)
        self.adam_w_mode = adam_w_mode

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates every parameter that has a gradient.

        Args:
            closure: evaluates the model again and returns the loss.

        Returns:
            What `closure` returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None and p.numel()]
            if not params:
                continue
            # Counted in groups that have something to do only: FusedAdam does the same, and Megatron relies on it.
            group["step"] = int(group.get("step", 0)) + 1
            for p in params:
                if not self.state[p]:
                    self.state[p]["exp_avg"] = torch.zeros_like(p.detach())
                    self.state[p]["exp_avg_sq"] = torch.zeros_like(p.detach())
            self._update(group, params)
        return loss

    def _update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        grads = [p.grad for p in params]
        moments = [self.state[p]["exp_avg"] for p in params]
        squares = [self.state[p]["exp_avg_sq"] for p in params]
        same_dtype = all(t.dtype == params[0].dtype for t in (*params, *grads, *moments, *squares))
        if group["bias_correction"] and same_dtype:
            self._fused(group, params, grads, moments, squares)
        else:
            self._foreach(group, params, grads, moments, squares)

    def _fused(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], m: list[Tensor], v: list[Tensor]
    ) -> None:
        """One kernel for everything: about four times faster on a CPU than separate passes over the memory."""
        kernel = torch._fused_adamw_ if self.adam_w_mode else torch._fused_adam_
        step = torch.tensor(float(group["step"]), dtype=torch.float32, device=params[0].device)
        kernel(
            params,
            grads,
            m,
            v,
            [],
            [step] * len(params),
            amsgrad=False,
            lr=float(group["lr"]),
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=float(group["weight_decay"]),
            eps=group["eps"],
            maximize=False,
            grad_scale=None,
            found_inf=None,
        )

    def _foreach(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], m: list[Tensor], v: list[Tensor]
    ) -> None:
        """The formula of the class docstring, for mixed dtypes and for `bias_correction=False`."""
        lr, decay = float(group["lr"]), float(group["weight_decay"])
        b1, b2 = group["betas"]
        c1, c2 = (1 - b1 ** group["step"], 1 - b2 ** group["step"]) if group["bias_correction"] else (1.0, 1.0)
        grads = [g.to(moment.dtype) for g, moment in zip(grads, m, strict=True)]
        if self.adam_w_mode:
            torch._foreach_mul_(params, 1 - lr * decay)
        elif decay:
            grads = torch._foreach_add(grads, [p.to(g.dtype) for p, g in zip(params, grads, strict=True)], alpha=decay)
        torch._foreach_lerp_(m, grads, 1 - b1)
        torch._foreach_mul_(v, b2)
        torch._foreach_addcmul_(v, grads, grads, 1 - b2)
        roots = torch._foreach_sqrt(v)
        torch._foreach_div_(roots, c2**0.5)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_addcdiv_(params, m, roots, -lr / c1)
