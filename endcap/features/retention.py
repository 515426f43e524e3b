"""Which datasets' rows the online store holds: those of the newest dataset, and of the versions that serve."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from endcap.errors import EndcapError, OnlineStoreError
from endcap.features.publishing import Progress, publish_features, renew_features
from endcap.online import OnlineStore, get_default_online_url, open_online, resolve_online_url
from endcap.spec.shop import Shop
from endcap.store import Store, get_content_key

MOST_BY_DEFAULT = 1_000_000
"""Without a named online store, rows are written for this many customers at most: about a minute, and 1 GB of disk."""
PATIENCE = 10.0
"""Seconds that the store may take for each call."""


def publish_dataset_rows(
    shop: Shop,
    dataset: str,
    store: Store,
    progress: Progress = lambda line: None,
    *,
    online: str = "",
    served: Sequence[str] = (),
) -> str:
    """Publish the rows of a shop's dataset in the online store (see `resolve_online_url`).

    If no store is named, it is the file in the store's folder. A store that is down does not fail the run: the next run
    publishes the rows, models are trained without them, and predictors rank by what requests carry. A dataset of more
    than MOST_BY_DEFAULT customers is not published either, unless a store is named.

    Parameters
    ----------
    shop, dataset, store
        The dataset, and where it lies.
    progress
        Takes a line at a time.
    online
        The named online store, or an empty text.
    served
        Datasets of the shop that serving versions were trained on. Their rows are kept, or published again if the
        online store has lost them.

    Returns
    -------
    str
        What to add to a line on the dataset.
    """
    url = resolve_online_url(online, store.root)
    if url is None:
        return ""
    most = MOST_BY_DEFAULT if url == get_default_online_url(store.root) else None
    outcome, begun = PublishedRows(), time.monotonic()
    try:
        with open_online(url, shop=shop.name, timeout=PATIENCE) as opened:
            outcome = _publish_dataset(shop, dataset, store, opened, most, progress)
            for older in served:
                if get_content_key(older) != get_content_key(dataset):
                    _publish_served(shop, older, store, opened, most, progress)
    except OnlineStoreError as error:
        progress(f"the rows are not published, the next run tries it again: {error}")
        return "; not in the online store, which failed"
    if outcome.too_many:
        return f"; not in the online store: more than {most:,} customers, name one by --online"
    if not outcome.written:
        return "; rows in the online store"
    return f"; {outcome.customers:,} customers put in the online store in {time.monotonic() - begun:.1f} s"


@dataclass(frozen=True)
class PublishedRows:
    """What became of a dataset's rows.

    `written`: some were; False: all were there. `customers`: the dataset's. `too_many`: nothing was published, because
    there are more customers than allowed.
    """

    customers: int = 0
    written: bool = False
    too_many: bool = False


def _publish_dataset(
    shop: Shop, dataset: str, store: Store, online: OnlineStore, most: int | None, progress: Progress
) -> PublishedRows:
    facts = store.manifest(dataset)["facts"]
    customers, key, by_gap = facts.get("customers", 0), facts["fingerprint"], facts.get("session_gap_ms") is not None
    if most is not None and customers > most:
        progress(
            f"{customers:,} customers are not published by default, which goes up to {most:,}; name an online store by "
            "--online, for endcap run and for endcap serve"
        )
        return PublishedRows(customers, too_many=True)
    # In a bucket the dataset need not be fetched for what is there.
    if renew_features(key, online, owned=shop.rules.owned, by_gap=by_gap):
        progress(f"the rows of {dataset} are in the online store")
        return PublishedRows(customers)
    folder = store.fetch(dataset)
    publish_features(folder, key, online, progress, owned=shop.rules.owned, by_gap=by_gap)
    return PublishedRows(customers, written=True)


def _publish_served(
    shop: Shop, dataset: str, store: Store, online: OnlineStore, most: int | None, progress: Progress
) -> None:
    try:
        _publish_dataset(shop, dataset, store, online, most, progress)
    except OnlineStoreError:
        raise
    except EndcapError as error:  # one that was removed is no reason to fail
        progress(f"the rows of {dataset}, which a version that serves was trained on, are not published: {error}")
