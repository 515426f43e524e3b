"""How many threads an operation is worth."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

HEAVY = 10**8
"""Multiplications from which on a second thread pays."""


@contextlib.contextmanager
def limit_threads(work: int) -> Iterator[None]:
    """PyTorch on one thread while `work`, the multiplications of one operation, is small.

    Threads of small operations mostly wait for each other; where another process wants the cores too, such operations
    were seen to take ten times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(before if work >= HEAVY else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
