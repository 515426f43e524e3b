"""Chooses the number of threads by the size of an operation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

HEAVY = 10**8
"""Multiplications from which on a second thread pays."""


@contextlib.contextmanager
def limit_threads(work: int) -> Iterator[None]:
    """Keep PyTorch on one thread in the block if `work`, the multiplications of one operation, is small.

    Threads of small operations mostly wait for each other. If another process needs the cores too, such operations took
    up to ten times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(before if work >= HEAVY else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
