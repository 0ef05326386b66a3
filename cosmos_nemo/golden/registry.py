"""Which checker understands which kind of case."""

from collections.abc import Callable

from cosmos_nemo.errors import UserError
from cosmos_nemo.golden.autoregressive.network import check_model
from cosmos_nemo.golden.autoregressive.positions import check_abs_pos_emb, check_ar_rope
from cosmos_nemo.golden.compare import Comparison
from cosmos_nemo.golden.cosmos_tokenizer.losses import check_losses
from cosmos_nemo.golden.cosmos_tokenizer.network import check_tokenizer
from cosmos_nemo.golden.cosmos_tokenizer.pieces import check_fsq, check_haar
from cosmos_nemo.golden.diffusion.lora import check_lora
from cosmos_nemo.golden.diffusion.loss import check_loss
from cosmos_nemo.golden.diffusion.network import check_forward
from cosmos_nemo.golden.diffusion.noise_levels import check_sigma_sampling
from cosmos_nemo.golden.diffusion.positions import check_rope
from cosmos_nemo.golden.diffusion.sampler import check_sampler
from cosmos_nemo.golden.manifest import Case
from cosmos_nemo.golden.optimizer import check_optimizer
from cosmos_nemo.golden.schedules import check_ema, check_lr_schedule
from cosmos_nemo.parallel.process import World

Checker = Callable[[Case, World], list[Comparison]]


def _pure(check: Callable[[Case], list[Comparison]]) -> Checker:
    """Give a checker that needs no processes the common signature."""
    return lambda case, _: check(case)


_SHARED: dict[str, Checker] = {
    "rope": _pure(check_rope),
    "lr_schedule": _pure(check_lr_schedule),
    "ema": _pure(check_ema),
    "optimizer": _pure(check_optimizer),
}
"""Kinds that are the same mathematics in both diffusion families."""

CHECKERS: dict[tuple[str, str], Checker] = {
    ("dit_forward", "predict2"): check_forward,
    ("loss", "predict2"): check_loss,
    ("sampler", "predict2"): check_sampler,
    ("lora", "predict2"): check_lora,
    ("sigma_sampling", "predict2"): _pure(check_sigma_sampling),
    ("ar_model", "autoregressive"): check_model,
    ("ar_rope", "autoregressive"): _pure(check_ar_rope),
    ("ar_abs_pos_emb", "autoregressive"): _pure(check_abs_pos_emb),
    ("tokenizer", "cosmos_tokenizer"): check_tokenizer,
    ("tok_fsq", "cosmos_tokenizer"): _pure(check_fsq),
    ("tok_haar", "cosmos_tokenizer"): _pure(check_haar),
    ("tok_losses", "cosmos_tokenizer"): _pure(check_losses),
    **{(kind, family): check for family in ("predict2", "predict1") for kind, check in _SHARED.items()},
}
"""(kind, family) -> checker. A case of several families ("predict2+predict1") must have the same one for each."""

NOT_YET: frozenset[tuple[str, str]] = frozenset(
    [(kind, "predict1") for kind in ("dit_forward", "loss", "sampler", "sigma_sampling", "lora")]
)
"""Kinds of the model families that this project does not have yet."""


def find(case: Case) -> Checker | None:
    """Return the checker of a case, or None if its family is not built yet.

    Raises:
        UserError: nobody knows this kind of case.
    """
    families = case.family.split("+")
    checkers = [CHECKERS.get((case.kind, family)) for family in families]
    if checkers[0] is not None and all(checker is checkers[0] for checker in checkers):
        return checkers[0]
    known = [checker is not None or (case.kind, f) in NOT_YET for checker, f in zip(checkers, families, strict=True)]
    if all(known):
        return None
    raise UserError(f"kind '{case.kind}' of family '{case.family}' is not known; update cosmos-nemo")
