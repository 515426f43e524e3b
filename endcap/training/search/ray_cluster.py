"""Where Ray is: on this machine, at an address, or in a cluster of the search's own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from endcap.spec.recommender import Recommender


@contextlib.contextmanager
def cluster_of(recommender: Recommender, key: str, progress: Callable[[str], None]) -> Iterator[str | None]:
    """The address of the Ray cluster that the recommender's search uses; None: one is to be started here."""
    search = recommender.search
    yield search.address if search is not None else None
