"""A check whether a step's artifact exists: the step's body runs here, with a store that can only be read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

from endcap.openlineage import StepLineage
from endcap.runs import RunEvent, StepRecord
from endcap.store.read_only import forbid_writes

_CURRENT: ContextVar[ReuseCheck | None] = ContextVar("current", default=None)


@dataclass
class ReuseCheck:
    """What a step reported during the check.

    Attributes
    ----------
    events
        The step's events. Nobody has received them yet.
    record
        The step's record, which is not stored yet. None before the step has begun.
    lineage
        The step's lineage, which is not sent yet. None before the step has begun.
    """

    events: list[RunEvent] = field(default_factory=list)
    record: StepRecord | None = None
    lineage: StepLineage | None = None


def current_check() -> ReuseCheck | None:
    """The check that is under way in this context; None if there is none."""
    return _CURRENT.get()


@contextlib.contextmanager
def check_reuse() -> Iterator[ReuseCheck]:
    """Run a step's body for a check: the body reports to the check alone, and cannot write to the store.

    Yields
    ------
    ReuseCheck
        Collects what the step reports.

    Raises
    ------
    Unmade
        The step would write something: its artifact does not exist yet.
    """
    check = ReuseCheck()
    token = _CURRENT.set(check)
    try:
        with forbid_writes():
            yield check
    finally:
        _CURRENT.reset(token)
