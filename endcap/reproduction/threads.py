"""Computes with as many threads as the original did: a library splits a sum by its threads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any


@contextlib.contextmanager
def use_threads(machine: Mapping[str, Any]) -> Iterator[None]:
    """Give the libraries the threads of a recorded machine, for the length of a block.

    Parameters
    ----------
    machine
        What `endcap.machine.describe_machine` described. An empty one changes nothing.

    Notes
    -----
    More threads than cores give the same numbers, only later.
    """
    threads: Mapping[str, int] = machine.get("threads", {})
    with contextlib.ExitStack() as stack:
        if count := max((count for library, count in threads.items() if library != "torch"), default=0):
            import scipy.linalg  # noqa: F401 - it brings a library of its own, which must be there to be limited
            from threadpoolctl import threadpool_limits

            stack.enter_context(threadpool_limits(count, user_api="blas"))
        if "torch" in threads:
            import torch

            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads["torch"])
        yield
