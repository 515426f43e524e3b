"""Features: a snapshot becomes a dataset version, and a dataset a recommender's view of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from endcap.spec.shop import Shop
from endcap.store import Store


def build(
    shop: Shop,
    snapshot: str,
    store: Store,
    *,
    until: datetime | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> str:
    """See `endcap.features.dataset.build`. Here so that models and servers need not import the engine."""
    from endcap.features import dataset

    return dataset.build(shop, snapshot, store, until=until, progress=progress)


__all__ = ["build"]
