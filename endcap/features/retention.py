"""Which datasets' rows the online store holds: those of the newest one and of the versions that serve, so that the
service knows who is in the log."""

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
"""Customers of a dataset whose rows are written where no online store is named: about a minute, and 1 GB of disk."""
PATIENCE = 10.0
"""Seconds that the store may take for each call of ours."""


def publish_dataset_rows(
    shop: Shop,
    dataset: str,
    store: Store,
    progress: Progress = lambda line: None,
    *,
    online: str = "",
    served: Sequence[str] = (),
) -> str:
    """Publish the rows of a dataset of the shop in the online store that is meant (see `online_url`): where none is
    named, the file in the store's folder. Nothing without one.

    served: datasets of the shop that versions which serve were trained on; their rows are kept, or published again
    where the online store has lost them. Returns what to add to a line on the dataset. A store that is down costs the
    rows, which the next run publishes, and not the run: models can be trained without it, and predictors rank by what
    requests carry. So does a dataset of more than MOST_BY_DEFAULT customers, where no store is named for it.
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
    """What became of a dataset's rows. written: some were; False where all were there. customers: the dataset's.
    too_many: nothing was published, since there are more customers than may be."""

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
