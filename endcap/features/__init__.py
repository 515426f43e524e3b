"""Features: a snapshot becomes a dataset version, and a dataset a recommender's view of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from endcap.spec.shop import Shop
from endcap.store import Store


def build(
    shop: Shop,
    snapshot: str,
    store: Store,
    *,
    until: datetime | None = None,
    progress: Callable[[str], None] = lambda line: None,
    then: Callable[[Any], dict[str, Any]] | None = None,
) -> str:
    """Make a dataset of a snapshot; see `endcap.features.dataset.build`. Models and servers need not import DuckDB for
    this."""
    from endcap.features import dataset

    return dataset.build(shop, snapshot, store, until=until, progress=progress, then=then)


__all__ = ["build"]
