"""The processes that train together, as torchrun starts them; one alone where it did not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, slots=True)
class Processes:
    """The number of this process and how many there are; each has its share of every batch."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """True in the process that writes and reports."""
        return self.rank == 0

    def part(self, batch: int) -> slice:
        """The part of a batch that is this process's, a multiple of the number of processes."""
        return slice(self.rank * batch // self.count, (self.rank + 1) * batch // self.count)

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, whose gradients are the mean over all processes."""
        return network if self.count == 1 else DistributedDataParallel(network)

    def add(self, values: Sequence[float]) -> list[float]:
        """Each value, summed over the processes."""
        return self._reduce(values, distributed.ReduceOp.SUM)

    def largest(self, value: float) -> float:
        """The largest value that a process has."""
        return self._reduce([value], distributed.ReduceOp.MAX)[0]

    def _reduce(self, values: Sequence[float], operation: distributed.ReduceOp.RedOpType) -> list[float]:
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(tensor, operation)
        return [float(value) for value in tensor.tolist()]


@contextmanager
def join_processes() -> Iterator[Processes]:
    """Join the processes that torchrun started, on a GPU each where there is one."""
    has_gpu = torch.cuda.is_available()
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield Processes(0, 1, torch.device("cuda" if has_gpu else "cpu"))
        return
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if has_gpu else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        distributed.destroy_process_group()
