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
def hold_decision(name: str, store: Store | None, uri: str, held: Hold | None = None) -> Iterator[Hold]:
    """Keep other processes from deciding on a recommender, for the length of a block.

    Read inside the block what the decision depends on, and call `Hold.check` right before each write.

    Parameters
    ----------
    name
        The recommender.
    store
        The store of the recommender's packages. None: a registry in a file has its own lock, and a server has none.
    uri
        The registry's address.
    held
        The hold that the caller has already (`hold_name`).

    Raises
    ------
    TransientError, StorageError
        As in `Store.hold`.
    """
    with contextlib.ExitStack() as stack:
        hold = held
        if hold is None:
            hold = _UnsharedHold() if store is None else stack.enter_context(store.hold(hold_name(name)))
        stack.enter_context(lock_registry(uri))
        yield hold


def hold_name(recommender: str) -> str:
    """Return the name in the store that whoever decides on a recommender holds meanwhile."""
    return f"decisions/{recommender}"


class _UnsharedHold:
    """The hold of a registry without a store, which no other process can take."""

    def check(self) -> None:
        pass
