"""Share the work among the processes that torchrun started, perhaps on several machines with one file system."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

PATIENCE = timedelta(days=7)  # the slowest rank may encode for long after the others are done


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among all of them."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process examines the input and finishes the dataset."""
        return self.rank == 0

    def share(self, value: Any) -> Any:
        """Return the leader's value on every rank."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def wait(self) -> None:
        """Wait until every rank has come here."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()

    def device(self, device: str) -> str:
        """Return the GPU of this rank, unless the CPU is asked for."""
        if self.size == 1 or device == "cpu":
            return device
        import torch

        return f"cuda:{self.local_rank % torch.cuda.device_count()}" if torch.cuda.is_available() else device


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Meet the other processes, if torchrun started several."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield Ranks()
        return
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield Ranks(rank=dist.get_rank(), size=size, local_rank=int(os.environ.get("LOCAL_RANK", 0)))
    finally:
        dist.destroy_process_group()
