"""Decisions on a recommender's versions: one process's at a time.

MLflow sets tags and aliases without a condition, on a server as in a data base. So whoever registers, approves,
rejects, promotes or deploys a version has the name ``decisions/<recommender>`` in the store meanwhile. Those who decide
on one recommender have one store; who writes to MLflow without Endcap is met by `set_alias`, which looks again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from endcap.registry.connection import lock_registry
from endcap.store import Store
from endcap.store.base import Hold


@contextlib.contextmanager
def hold_decision(name: str, store: Store | None, uri: str) -> Iterator[Hold]:
    """Have the decisions on a recommender to oneself for the length of the block.

    What is decided is looked at within the block, and `Hold.check` is asked right before each writing. store: None
    leaves a registry in a file its lock, and a server nothing. Raises as `Store.hold`.
    """
    with contextlib.ExitStack() as held:
        hold: Hold = _UnsharedHold() if store is None else held.enter_context(store.hold(f"decisions/{name}"))
        held.enter_context(lock_registry(uri))
        yield hold


class _UnsharedHold:
    """The hold of a registry without a store: no other process can be asked."""

    def check(self) -> None:
        pass
