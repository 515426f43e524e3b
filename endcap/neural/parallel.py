"""Training one network with several workers.

Every worker has the same data, seed and weights, and lays out the same steps; it computes the gradients of its own
lanes of each step only. `Exchange.sum` then adds the gradients up over the workers, and each of them makes the same
update: after every step all have the same weights, equal to those of one worker with all lanes but for the order in
which floats are added. The rows of a step are the same ones everywhere, so nothing but gradients is exchanged.

To bring workers of one's own: start them, give each the `AllReduce` of its process group (or anything else that is an
`Exchange`), let them call the same fit, and keep what the first one, `rank` 0, returns.
"""

from __future__ import annotations

from typing import Protocol

import torch.distributed
from torch import Tensor


class Exchange(Protocol):
    """How workers add up. rank: which one this is, from 0; world: how many there are."""

    @property
    def rank(self) -> int: ...

    @property
    def world(self) -> int: ...

    def sum(self, *tensors: Tensor) -> None:
        """Replace each tensor, the same shapes on all workers, by its sum over them."""


class SingleWorker:
    """One worker."""

    rank, world = 0, 1

    def sum(self, *tensors: Tensor) -> None:
        """Nothing to add."""


class AllReduce:
    """Over a process group of torch.distributed (gloo on CPUs, nccl on GPUs); the default group if none is given."""

    def __init__(self, group: torch.distributed.ProcessGroup | None = None) -> None:
        self.group = group
        self.rank = torch.distributed.get_rank(group)
        self.world = torch.distributed.get_world_size(group)

    def sum(self, *tensors: Tensor) -> None:
        for tensor in tensors:
            torch.distributed.all_reduce(tensor, group=self.group)
