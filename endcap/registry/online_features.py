"""What the online store says of requests to a package's recommender: a batch in one round trip and a bounded time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

import orjson

from endcap.online import GuardedStore, OnlineStore, Visits
from endcap.online.guarded_store import FaultObserver, ReadObserver
from endcap.online.key_names import name_feature_table
from endcap.ranking import PrecomputedList, RankRequest, ShopperContext
from endcap.registry.package import LoadedPackage

_SCORES = (float, int, type(None))
_NOTHING, _AWAY = ShopperContext(), ShopperContext(store_unavailable=True)


class OnlineFeatures:
    """Looks up in the online store what requests need from it. Requests that need nothing cause no call."""

    def __init__(self, store: GuardedStore, lists: str, most: int) -> None:
        """lists: the table with the lists that the served version made in advance. most: recent events to read."""
        self._store = store
        self._lists = lists
        self._most = most

    @property
    def error(self) -> str:
        """Why the store did not answer the last call; empty if it did."""
        return self._store.error

    def look_up(self, requests: Sequence[RankRequest], *, owned: bool) -> tuple[list[ShopperContext], list[bool]]:
        """Look up the context of each request.

        Parameters
        ----------
        requests
            A batch of requests.
        owned
            Whether the shop's rules need to know what a customer owns.

        Returns
        -------
        tuple
            A `ShopperContext` for each request, and for each whether the store failed to give what it needed.
        """
        asks = [needs_shopper_data(request, owned=owned) for request in requests]
        customers = [request.customer if ask else None for request, ask in zip(requests, asks, strict=True)]
        sessions = [request.session if ask else None for request, ask in zip(requests, asks, strict=True)]
        data = self._store.look_up(customers, sessions, self._most)
        listed, away = self._listed(requests)
        has = data.owned if owned else [()] * len(requests)
        degraded = [
            (data.degraded and ask) or number in data.unreadable or number in away for number, ask in enumerate(asks)
        ]
        columns = (data.events, has, listed, data.recognised, degraded, data.sources)
        known = [ShopperContext(*values) for values in zip(*columns, strict=True)]
        return known, degraded

    def close(self) -> None:
        """Stop the threads and close the store's connections."""
        self._store.close()

    def _listed(self, requests: Sequence[RankRequest]) -> tuple[list[PrecomputedList | None], set[int]]:
        """The batch's list for each request that will do with it, and the requests whose list could not be read."""
        customers_by_place = {
            place: request.customer
            for place, request in enumerate(requests)
            if request.precomputed and request.customer
        }
        lists: list[PrecomputedList | None] = [None] * len(requests)
        if not customers_by_place:
            return lists, set()
        customers = list(dict.fromkeys(customers_by_place.values()))
        table_rows = self._store.rows(self._lists, customers)
        rows = dict(zip(customers, table_rows.rows, strict=True))
        away = (
            set(customers_by_place)
            if table_rows.degraded
            else {at for at, customer in customers_by_place.items() if customer in table_rows.unreadable}
        )
        for place, customer in customers_by_place.items():
            try:
                lists[place] = _parse_list(rows[customer])
            except (ValueError, TypeError, KeyError):
                away.add(place)
                self._store.pass_over(self._lists, customer)
        return lists, away


def answer_without_store(requests: Sequence[RankRequest], *, owned: bool) -> tuple[list[ShopperContext], list[bool]]:
    """Answer as `OnlineFeatures.look_up` does if there is no store: what a request leaves to the store is missing."""
    degraded = [needs_store(request, owned=owned) for request in requests]
    return [_AWAY if lacking else _NOTHING for lacking in degraded], degraded


def needs_store(request: RankRequest, *, owned: bool) -> bool:
    """Tell whether a ranking needs the online store, for its lists too. owned: see `needs_shopper_data`."""
    return request.precomputed or needs_shopper_data(request, owned=owned)


def needs_shopper_data(request: RankRequest, *, owned: bool) -> bool:
    """Whether a request needs recent events, or what its customer owns. owned: whether the shop's rules ask that."""
    return request.needs_stored_events or (owned and request.customer is not None)


def _parse_list(row: bytes | None) -> PrecomputedList | None:
    """Raises ValueError, TypeError or KeyError where the row is no list."""
    if row is None:
        return None
    read = orjson.loads(row)
    items, scores = read["items"], read["scores"]
    if type(items) is not list or type(scores) is not list or len(items) != len(scores):
        raise TypeError("no lists of items and scores")
    if not all(type(item) is str for item in items) or not all(type(score) in _SCORES for score in scores):
        raise TypeError("no items with scores")
    return PrecomputedList(items, scores)


def open_online_features(
    store: OnlineStore,
    package: LoadedPackage,
    version: str,
    timeout: float,
    observe: ReadObserver = lambda outcome, seconds: None,
    passed_over: FaultObserver = lambda where, key, fault: None,
) -> OnlineFeatures:
    """Open the lookups that a package's requests need.

    Parameters
    ----------
    store
        The online store.
    package
        The package.
    version
        The package's version in the registry.
    timeout
        The seconds that the store may take for a batch.
    observe, passed_over
        As in `GuardedStore`.

    Returns
    -------
    OnlineFeatures
        The lookups. Close them.
    """
    dataset = package.info.get("dataset")
    history = name_feature_table("customers", dataset) if dataset else None
    visits = Visits(package.event_types, package.session_gap)
    guarded = GuardedStore(
        store, timeout=timeout, history=history, visits=visits, observe=observe, passed_over=passed_over
    )
    return OnlineFeatures(
        guarded, f"lists/{package.recommender.name}/{version}", package.recommender.serving.recent_events
    )


def get_shop_name(package: LoadedPackage) -> str:
    """Return the shop's name. The online store keeps the shop's data under it, and its datasets lie under it too."""
    dataset = str(package.info.get("dataset") or "").split("/")
    return dataset[-2] if len(dataset) > 1 else PurePath(package.recommender.shop).stem
