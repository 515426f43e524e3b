"""Training of one network by several workers.

Every worker has the same data, seed and weights, and lays out the same steps. It computes only the gradients of its own
lanes of each step. Then `Exchange.sum` adds the gradients up over the workers, and each worker makes the same update.
After every step all workers have the same weights. They equal the weights of one worker with all lanes, except for the
order in which floats are added. The rows of a step are the same on all workers, so that they exchange nothing but
gradients.

To bring your own workers: start them, give each the `AllReduce` of its process group (or any other `Exchange`), let all
call the same fit, and keep what the first worker, `rank` 0, returns.
"""

from __future__ import annotations

from typing import Protocol

import torch.distributed
from torch import Tensor


class Exchange(Protocol):
    """How workers add up.

    Attributes
    ----------
    rank
        The number of this worker, from 0.
    world
        The number of workers.
    """

    @property
    def rank(self) -> int: ...

    @property
    def world(self) -> int: ...

    def sum(self, *tensors: Tensor) -> None:
        """Replace each tensor, the same shapes on all workers, by its sum over them."""


class SingleWorker:
    """The exchange of one worker alone."""

    rank, world = 0, 1

    def sum(self, *tensors: Tensor) -> None:
        """Do nothing: there is nothing to add."""


class AllReduce:
    """The exchange over a process group of torch.distributed: gloo on CPUs, nccl on GPUs.

    Parameters
    ----------
    group
        The process group; None: the default group.
    """

    def __init__(self, group: torch.distributed.ProcessGroup | None = None) -> None:
        self.group = group
        self.rank = torch.distributed.get_rank(group)
        self.world = torch.distributed.get_world_size(group)

    def sum(self, *tensors: Tensor) -> None:
        for tensor in tensors:
            torch.distributed.all_reduce(tensor, group=self.group)
