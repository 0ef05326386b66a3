"""The sizes over which a network is cut: their one holder, and the one place of their rules and messages."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from cosmos_nemo.errors import UserError

KINDS = {
    "tensor": "tensor_model_parallel_size",
    "pipeline": "pipeline_model_parallel_size",
    "context": "context_parallel_size",
    "sequence": "sequence_parallel",
}
"""Kinds of model parallelism, and the setting of each."""
_COUNTS = tuple(KINDS[kind] for kind in ("tensor", "pipeline", "context"))


class IndivisibleError(UserError):
    """A parallel size does not divide what it would have to cut."""


@dataclass(frozen=True, kw_only=True)
class ParallelSizes:
    """How many ranks share a network, under NeMo's own names."""

    tensor_model_parallel_size: int = 1
    """Ranks that share every layer."""
    pipeline_model_parallel_size: int = 1
    """Ranks that hold different layers."""
    context_parallel_size: int = 1
    """Ranks that share the tokens of a sample."""
    sequence_parallel: bool = False
    """Whether the tensor-parallel ranks also share the tokens between layers."""

    def __post_init__(self) -> None:
        for name in _COUNTS:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UserError(f"{name}={value}: needs a whole number of at least 1.")
        if self.sequence_parallel and self.tensor_model_parallel_size == 1:
            raise UserError("sequence_parallel=True needs tensor_model_parallel_size > 1; set one or the other.")

    @classmethod
    def of(cls, holder: Any) -> ParallelSizes:
        """Read the sizes of whatever has them under these names: a strategy, a network's config.

        Raises:
            UserError: a size is not a whole number of at least 1, or sequence parallelism has nothing to cut over.
        """
        return cls(**{field.name: getattr(holder, field.name) for field in fields(cls)})

    @property
    def product(self) -> int:
        """Ranks that hold one copy of the network between them."""
        return math.prod(getattr(self, name) for name in _COUNTS)

    def words(self) -> str:
        """Return the sizes in words; pipeline stages only if there are several."""
        shown = {"tensor": self.tensor_model_parallel_size, "context": self.context_parallel_size}
        if self.pipeline_model_parallel_size > 1:
            shown = {"pipeline": self.pipeline_model_parallel_size} | shown
        return " x ".join(f"{kind} {size}" for kind, size in shown.items())

    def data_parallel_size(self, processes: int, *, start: str = "") -> int:
        """Divide a number of processes, and return how many copies of the network they hold.

        Args:
            processes: all that are started.
            start: how another number of them is started, for the message.

        Raises:
            IndivisibleError: they do not divide; with every legal value of every size that may change alone.
        """
        if processes % self.product == 0:
            return processes // self.product
        cut = [name for name in _COUNTS if getattr(self, name) > 1]
        product = " x ".join(f"{name}={getattr(self, name)}" for name in cut)
        total = f" = {self.product}" if len(cut) > 1 else ""
        legal = [f"{name}={one_of(values)}" for name in cut if (values := self._legal(name, processes))]
        remedies = [f"use {' or '.join(legal)}" if legal else "lower more than one of them"]
        remedies.append(f"start a multiple of {self.product} processes{' ' * bool(start)}{start}")
        noun = "process" if processes == 1 else "processes"
        raise IndivisibleError(f"{product}{total} does not divide {processes} {noun}; {', or '.join(remedies)}.")

    def _legal(self, name: str, processes: int) -> list[int]:
        """Return the values of one size that divide the processes while the other sizes stay."""
        others = self.product // getattr(self, name)
        return divisors(processes // others) if processes % others == 0 else []

    def require(self, kind: str, counts: Mapping[str, int], *, otherwise: str = "") -> None:
        """Raise unless the size of one kind divides every count.

        Args:
            kind: a key of `KINDS` with a number.
            counts: what is cut, its name -> how many there are.
            otherwise: what else may be done, for the end of the message.

        Raises:
            IndivisibleError: with the sizes that divide all of them.
        """
        size = getattr(self, KINDS[kind])
        require_divisor(f"{KINDS[kind]}={size}", size, counts, otherwise=otherwise)

    def require_context(self, heads: Mapping[str, int], cp_comm_type: str) -> None:
        """Raise unless self-attention can be cut over the context-parallel ranks.

        Args:
            heads: the heads that are exchanged for tokens, their name -> how many there are.
            cp_comm_type: "a2a" exchanges heads for tokens, "all_gather" gathers keys and values.

        Raises:
            IndivisibleError: the heads of a tensor-parallel rank do not divide; with the sizes that do.
            UserError: there is no such kind of exchange.
        """
        if cp_comm_type not in ("a2a", "all_gather"):
            raise UserError(f"cp_comm_type={cp_comm_type!r} is unknown; use 'a2a' or 'all_gather'.")
        if cp_comm_type == "a2a":
            tensor = self.tensor_model_parallel_size
            of_a_rank = {f"{name} of a tensor-parallel rank": count // tensor for name, count in heads.items()}
            self.require("context", of_a_rank, otherwise=", or cp_comm_type='all_gather', which takes any size")

    def require_even_tokens(self, num_tokens: int) -> None:
        """Raise unless every rank holds as many tokens, which pipeline stages need to agree on.

        Raises:
            IndivisibleError: naming the sizes.
        """
        pieces = self.context_parallel_size * (self.tensor_model_parallel_size if self.sequence_parallel else 1)
        if self.pipeline_model_parallel_size > 1 and num_tokens % pieces:
            raise IndivisibleError(
                f"{num_tokens} tokens cannot be cut into {pieces} equal pieces (context x sequence parallel), which "
                "pipeline stages need; change context_parallel_size or sequence_parallel, or set "
                "pipeline_model_parallel_size=1."
            )

    def allow(self, kinds: Collection[str], *, who: str) -> None:
        """Raise if a kind of model parallelism is asked for that is not there.

        Args:
            kinds: keys of `KINDS`, those that are there.
            who: whose kinds they are, for the message.

        Raises:
            UserError: naming the setting.
        """
        for kind, name in KINDS.items():
            value, off = getattr(self, name), getattr(ParallelSizes(), name)
            if value != off and kind not in kinds:
                supported = ", ".join(["data", *sorted(kinds)])
                raise UserError(
                    f"{name}={value}: {who} has no {kind} parallelism (it has {supported}); set it to {off}."
                )


def require_divisor(setting: str, size: int, counts: Mapping[str, int], *, otherwise: str = "") -> None:
    """Raise unless `size` divides every count.

    Args:
        setting: the size as the user wrote it, `tensor_model_parallel_size=3` or `--tensor-parallel 3`.
        size: its value.
        counts: what is cut, its name -> how many there are.
        otherwise: what else may be done, for the end of the message.

    Raises:
        IndivisibleError: naming all that it does not divide, and the sizes that divide everything.
    """
    wrong = [f"{name} ({count})" for name, count in counts.items() if size < 1 or count % size]
    if wrong:
        raise IndivisibleError(
            f"{setting} does not divide {' and '.join(wrong)}; use {one_of(divisors(*counts.values()))}{otherwise}."
        )


def divisors(*numbers: int) -> list[int]:
    """Return all numbers that divide every one of `numbers`, ascending."""
    return [d for d in range(1, min(numbers) + 1) if all(n % d == 0 for n in numbers)]


def one_of(values: Collection[int]) -> str:
    """Return legal values in words: `1, 2 or 4`."""
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}" if others else last
