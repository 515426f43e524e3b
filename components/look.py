"""A look whether a step would make anything: its body runs in this process, with a store that can only be read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

from endcap.runs import Event, StepRecord
from endcap.store.looking import only_look

_CURRENT: ContextVar[Look | None] = ContextVar("current", default=None)


@dataclass
class Look:
    """What a step said while it was looked at; nobody has heard it yet. record: the step's document, not kept yet."""

    events: list[Event] = field(default_factory=list)
    record: StepRecord | None = None


def current_look() -> Look | None:
    """The look that this process takes just now."""
    return _CURRENT.get()


@contextlib.contextmanager
def looked_at() -> Iterator[Look]:
    """Within it a step speaks to the look alone, and raises `Unmade` where it would make or write something."""
    look = Look()
    token = _CURRENT.set(look)
    try:
        with only_look():
            yield look
    finally:
        _CURRENT.reset(token)
