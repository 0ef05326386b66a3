"""From the losses of micro batches to the loss of a global batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from megatron.core import parallel_state
from nemo.lightning.megatron_parallel import MegatronLossReduction
from torch import Tensor

from cosmos_nemo.errors import UserError


class MeanOverGlobalBatch(MegatronLossReduction):
    """Averages over micro batches and data-parallel ranks, and stops the run at a loss that is not finite.

    Args:
        module: the LightningModule; asked for the optimizer step when something is wrong.
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.__dict__["_owner"] = module  # not a submodule: that would be a cycle
        self.terms: dict[str, Tensor] = {}
        """What was averaged beside the loss at the last call of `reduce`; NeMo lets nothing but a loss through."""

    def forward(self, batch: Any, forward_out: Tensor | dict[str, Tensor]) -> tuple[Tensor, dict[str, Any]]:
        """Returns the loss to differentiate, and what `reduce` needs.

        Args:
            batch: the micro batch.
            forward_out: the loss, or a dictionary with it as "loss" and further scalars.

        A pair makes Megatron multiply the loss by the context-parallel size and divide it by the number of micro
        batches, both in place: hence the copy.
        """
        terms = forward_out if isinstance(forward_out, dict) else {"loss": forward_out}
        return terms["loss"], {name: term.detach().clone() for name, term in terms.items()} | {"keys": batch.keys}

    def reduce(self, losses_reduced_per_micro_batch: Sequence[dict[str, Any]]) -> Tensor:
        """The mean loss of the global batch, equal on all data-parallel ranks. Its terms are left in `terms`.

        Raises:
            UserError: it is not finite; names the step and the samples.
        """
        group = parallel_state.get_data_parallel_group()
        names = [name for name in losses_reduced_per_micro_batch[0] if name != "keys"]
        parts = [torch.stack([out[name].float() for name in names]) for out in losses_reduced_per_micro_batch]
        means = torch.stack(parts).mean(0)
        torch.distributed.all_reduce(means, group=group)
        means /= torch.distributed.get_world_size(group)
        terms = dict(zip(names, means.unbind(), strict=True))
        # One synchronisation per optimizer step; the optimizer has not touched the weights yet.
        if not math.isfinite(terms["loss"].item()):
            self._stop(losses_reduced_per_micro_batch, group)
        loss = terms.pop("loss")
        self.terms = terms
        return loss

    def _stop(self, outputs: Sequence[dict[str, Any]], group: Any) -> None:
        bad = [key for out in outputs if not math.isfinite(out["loss"].item()) for key in out["keys"]]
        gathered: list[Any] = [None] * torch.distributed.get_world_size(group)
        torch.distributed.all_gather_object(gathered, bad, group=group)
        keys = sorted({key for part in gathered for key in part})
        step = self.__dict__["_owner"].trainer.global_step + 1
        raise UserError(
            f"the loss of step {step} is not finite; samples of that batch: {', '.join(keys)}. "
            "The weights of the last checkpoint are good: resume with a lower optim.config.lr, or take the samples out."
        )


def from_last_stage(outputs: Mapping[str, Any]) -> dict[str, float]:
    """The loss and its terms as numbers. Pipeline stages but the last one get them from it."""
    terms = {name: float(value) for name, value in outputs.items()}
    if parallel_state.get_pipeline_model_parallel_world_size() == 1:
        return terms
    package = [terms]
    last = parallel_state.get_pipeline_model_parallel_last_rank()
    group = parallel_state.get_pipeline_model_parallel_group()
    torch.distributed.broadcast_object_list(package, src=last, group=group)
    return package[0]
