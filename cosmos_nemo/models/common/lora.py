"""What low-rank adapters a network is given: settings alone, which any machine can read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from cosmos_nemo.errors import UserError

Scale = Literal["alpha/rank", "direct"]
Init = Literal["fan_in", "kaiming_uniform", "gaussian"]

_BLOCK = re.compile(r"(?:^|\.)(?:blocks|layers)\.(\d+)\.")


@dataclass(kw_only=True)
class LoRA:
    """Adapters: y = W x + s B A x, with W frozen. Source: Hu et al. 2021, arXiv:2106.09685."""

    rank: int = 16
    """Rows of A, columns of B."""
    alpha: float = 16.0
    """What B A is multiplied by, see `scale`."""
    scale: Scale = "alpha/rank"
    """s is alpha / rank, or, with "direct", alpha itself (Cosmos-Predict1)."""
    targets: tuple[str, ...] = ("q", "k", "v", "proj", "fc1", "fc2")
    """Linear maps that are adapted: names such as "self_attn.q", or whole words of them. "q" means the queries of both
    attentions, "mlp" everything in the MLP. The default is every linear map of a block."""
    blocks: int | None = None
    """Adapt only the first blocks, this many; None adapts all."""
    init: Init = "fan_in"
    """The fresh A: "fan_in", normal with std 1 / sqrt(inputs); "kaiming_uniform", uniform within 1 / sqrt(inputs)
    (PEFT's default, Cosmos-Predict2); "gaussian", normal with std 1 / rank (PEFT's word, Cosmos-Predict1). B is zero,
    so a fresh adapter changes nothing."""
    seed: int | None = None
    """Of the fresh A; None: the run's."""

    def __post_init__(self) -> None:
        self.targets = (self.targets,) if isinstance(self.targets, str) else tuple(self.targets)
        if self.rank < 1 or self.alpha <= 0 or not self.targets:
            raise UserError(
                f"LoRA needs rank >= 1, alpha > 0 and targets; got {self.rank}, {self.alpha}, {self.targets}."
            )
        if self.blocks is not None and self.blocks < 1:
            raise UserError(f"model.lora.blocks={self.blocks}; use 1 or more, or None for all blocks.")
        for name, legal in (("scale", get_args(Scale)), ("init", get_args(Init))):
            if getattr(self, name) not in legal:
                raise UserError(f"model.lora.{name}={getattr(self, name)!r}; use one of {', '.join(legal)}.")

    @property
    def factor(self) -> float:
        """s, what B A is multiplied by."""
        return self.alpha / self.rank if self.scale == "alpha/rank" else self.alpha

    def words(self) -> str:
        """Return what is adapted, for people."""
        blocks = "" if self.blocks is None else f" of the first {self.blocks} blocks"
        return f"adapters of rank {self.rank} on {', '.join(self.targets)}{blocks}"

    def adapts(self, part: str, block: int) -> bool:
        """Return whether the part with this name is adapted in the block with this number."""
        in_blocks = self.blocks is None or block < self.blocks
        return in_blocks and any(_is_in(target, part) for target in self.targets)

    def check_targets(self, parts: Iterable[str]) -> None:
        """Raise unless every target names something.

        Args:
            parts: names of everything in the network that can be adapted.

        Raises:
            UserError: naming the target, and what is legal.
        """
        legal = list(dict.fromkeys(parts))
        for target in self.targets:
            if not any(_is_in(target, part) for part in legal):
                raise UserError(
                    f"model.lora.targets: {target!r} names nothing that can be adapted in this network; use "
                    f"{', '.join(legal)}, or words of these."
                )


def block_of(path: str) -> int:
    """Return the number of the block that something lies in, by its path in the network."""
    match = _BLOCK.search(path)
    assert match, f"{path} can be adapted and is in no block"
    return int(match[1])


def _is_in(target: str, part: str) -> bool:
    """Whether a target is a part's name or some of its words in a row."""
    return f".{target}." in f".{part}."
