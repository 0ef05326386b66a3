"""Next-token loss on logits whose vocabulary is cut over tensor-parallel ranks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup, ReduceOp, all_reduce

from cosmos_nemo.errors import UserError
from cosmos_nemo.models.autoregressive.config import ARConfig
from cosmos_nemo.parallel.collectives import group_rank, group_size
from cosmos_nemo.parallel.context import TokenRange

IGNORED = -1
"""Label of a position that is not scored."""

_ROWS_AT_ONCE = {"cuda": 1024, "cpu": 64}
"""Positions whose logits are in float32 at one time; on a CPU so few that they stay in its cache."""


@dataclass(kw_only=True)
class NextTokenObjective:
    """Which tokens are learnt, and how."""

    num_condition_latents_t: int = 1
    """Latent frames that are given: the first scored token is the first of the frame after them. 0 scores all."""
    z_loss_coeff: float = 1e-4
    """Weight of the mean squared logsumexp, which keeps logits from drifting."""

    def __post_init__(self) -> None:
        if self.num_condition_latents_t < 0 or self.z_loss_coeff < 0:
            raise UserError("num_condition_latents_t and z_loss_coeff cannot be negative.")


@dataclass(frozen=True, kw_only=True)
class NextTokenLoss:
    """The loss of one micro batch. Over a context-parallel group the parts add up to it."""

    total: Tensor
    """cross_entropy + z_loss; differentiate this."""
    cross_entropy: Tensor
    """Mean over scored positions."""
    z_loss: Tensor
    """z_loss_coeff times the mean squared logsumexp over all positions that have a successor."""


def next_token_labels(
    tokens_B_S: Tensor, *, latent_shape: tuple[int, int, int], config: ARConfig, objective: NextTokenObjective
) -> Tensor:
    """The successor of every token, `IGNORED` where it is given or does not exist.

    Without a prefix the first n = H W num_condition_latents_t - 1 labels are ignored, with one of P tokens P more.

    Returns:
        [B, S], int64.

    Raises:
        UserError: the video has no frame left to learn.
    """
    T, H, W = latent_shape
    if objective.num_condition_latents_t >= T:
        raise UserError(
            f"videos of {T} latent frames have nothing to predict after num_condition_latents_t="
            f"{objective.num_condition_latents_t}; give fewer, or longer videos."
        )
    labels = torch.full_like(tokens_B_S, IGNORED, dtype=torch.int64)
    given = config.num_prefix_tokens + H * W * objective.num_condition_latents_t
    first = max(given - 1, 0)
    labels[:, first:-1] = tokens_B_S[:, first + 1 :]
    return labels


def next_token_loss(
    logits_S_B_V: Tensor,
    labels_B_S: Tensor,
    *,
    objective: NextTokenObjective,
    token_range: TokenRange,
    tp_group: ProcessGroup | None,
) -> NextTokenLoss:
    """Cross entropy over scored positions plus z-loss over all, in float32.

    Args:
        logits_S_B_V: of this rank's tokens and vocabulary.
        labels_B_S: of the whole sequence, from `next_token_labels`.
        objective: weights.
        token_range: which tokens the logits are of (`AutoregressiveTransformer.token_range`).
        tp_group: tensor-parallel group.

    Source: Cosmos-Predict1 `autoregressive/training/model.py`.
    """
    B, S = labels_B_S.shape
    num_scored = (labels_B_S != IGNORED).sum()
    has_successor = torch.ones_like(labels_B_S)
    has_successor[:, -1] = 0
    labels = token_range.take(labels_B_S.transpose(0, 1) + 1) - 1  # padding becomes IGNORED
    counted = token_range.take(has_successor.transpose(0, 1))
    cross_entropy, logsumexp = vocab_parallel_cross_entropy(logits_S_B_V, labels, tp_group)
    ce = cross_entropy.sum() / num_scored
    z = objective.z_loss_coeff * (logsumexp.square() * counted).sum() / (B * (S - 1))
    return NextTokenLoss(total=ce + z, cross_entropy=ce, z_loss=z)


def vocab_parallel_cross_entropy(
    logits_S_B_V: Tensor, labels_S_B: Tensor, tp_group: ProcessGroup | None
) -> tuple[Tensor, Tensor]:
    """Per position, logsumexp - logit of the label (0 where `IGNORED`), and logsumexp; both float32 [S, B].

    Megatron's own returns the first only, keeps the softmax in float32 and overwrites the logits.

    Args:
        logits_S_B_V: this rank's vocabulary, any float dtype.
        labels_S_B: ids in the whole vocabulary.
        tp_group: tensor-parallel group; rank r holds the r-th slice of the vocabulary.
    """
    return _VocabParallelCrossEntropy.apply(logits_S_B_V, labels_S_B, tp_group)


class _VocabParallelCrossEntropy(torch.autograd.Function):
    """Keeps the logits and one number per position; the softmax is made in backward, some rows at a time."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, tp_group: ProcessGroup | None) -> tuple[Tensor, Tensor]:
        V = logits.shape[-1]
        rows, target = logits.flatten(0, 1), labels.flatten()
        first = group_rank(tp_group) * V
        here = (target >= first) & (target < first + V)
        local = (target - first).where(here, 0)
        lse = torch.empty(len(rows), dtype=torch.float32, device=rows.device)
        for part in _parts(rows):
            torch.logsumexp(rows[part].float(), -1, out=lse[part])
        picked = rows.gather(1, local[:, None]).float().squeeze(1).where(here, 0.0)
        if group_size(tp_group) > 1:
            highest = lse.clone()
            all_reduce(highest, op=ReduceOp.MAX, group=tp_group)
            both = torch.stack(((lse - highest).exp(), picked))
            all_reduce(both, group=tp_group)
            lse, picked = highest + both[0].log(), both[1]
        ctx.save_for_backward(logits, local, here, lse, target != IGNORED)
        ce = (lse - picked).where(target != IGNORED, 0.0)
        return ce.view(labels.shape), lse.view(labels.shape)

    @staticmethod
    def backward(ctx: Any, grad_ce: Tensor, grad_lse: Tensor) -> tuple[Tensor, None, None]:
        logits, local, here, lse, scored = ctx.saved_tensors
        rows = logits.flatten(0, 1)
        g_ce = grad_ce.flatten().where(scored, 0.0)
        g_all = g_ce + grad_lse.flatten()
        grad = torch.empty_like(rows)
        for part in _parts(rows):
            in_place = grad[part] if grad.dtype is torch.float32 else None  # out=None makes a new one
            softmax = torch.sub(rows[part].float(), lse[part, None], out=in_place).exp_().mul_(g_all[part, None])
            softmax.scatter_add_(1, local[part, None], -g_ce[part, None].where(here[part, None], 0.0))
            if in_place is None:
                grad[part] = softmax
        return grad.view_as(logits), None, None


def _parts(rows: Tensor) -> Iterator[slice]:
    count = _ROWS_AT_ONCE.get(rows.device.type, 1024)
    return (slice(i, i + count) for i in range(0, len(rows), count))
