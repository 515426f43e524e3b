"""Processes of this machine: whether one is alive, and which variables child processes inherit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


def is_alive(pid: int) -> bool:
    """Return whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def share_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the length of a block, so that processes started in it inherit them."""
    before = {name: value for name, value in os.environ.items() if name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables.keys() - before.keys():
            os.environ.pop(name, None)
        os.environ.update(before)
