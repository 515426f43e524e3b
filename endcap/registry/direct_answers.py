"""What would be answered now, in this process: by a package as a predictor has it, with the online store's catalogue,
recent events and histories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from endcap.errors import IntegrityError, OnlineStoreError
from endcap.online import OnlineStore, open_online
from endcap.ranking import Answer, Ranker, ShopperContext
from endcap.registry.online_features import answer_without_store, get_shop_name, open_online_features
from endcap.registry.package import LoadedPackage
from endcap.rules import fetch_catalogue

PATIENCE = 2.0
"""Seconds that the online store may take for each of two calls: a person waits, where a predictor may not."""


@dataclass(frozen=True)
class DirectAnswer:
    """ranker: what ranked, with the rules of now. known: what the online store said. away: why the online store, which
    the request leaves something to, said nothing (`none`: there is none); empty where it did, or was not needed."""

    answer: Answer
    ranker: Ranker
    known: ShopperContext
    away: str = ""


def answer_directly(
    package: LoadedPackage,
    instance: Mapping[str, Any],
    *,
    online: str | None,
    version: str = "",
    now: int | None = None,
) -> DirectAnswer:
    """Rank one request as the service does.

    Parameters
    ----------
    package
        The package.
    instance
        The request.
    online
        The online store's address. None: there is none, and the answer is that of a service whose store does not
        answer.
    version
        The package's version in the registry, whose lists `precomputed` means.
    now
        Epoch milliseconds; None: the present.

    Returns
    -------
    DirectAnswer
        The answer, and what it depends on.

    Raises
    ------
    RequestError
        The request is wrong.
    """
    if online is None:
        ranker = package.ranker
        request = ranker.parse(instance)
        (known,), (degraded,) = answer_without_store([request], owned=_asks_owned(ranker))
        (answer,) = ranker.rank([request], now=now, contexts=[known])
        return DirectAnswer(answer, ranker, known, "none" if degraded else "")
    store = open_online(online, shop=get_shop_name(package), timeout=PATIENCE)
    lookup = open_online_features(store, package, version or "0", PATIENCE)
    try:
        ranker = _use_current_rules(package.ranker, store)
        request = ranker.parse(instance)
        (known,), (degraded,) = lookup.look_up([request], owned=_asks_owned(ranker))
        (answer,) = ranker.rank([request], now=now, contexts=[known])
        return DirectAnswer(answer, ranker, known, lookup.error if degraded else "")
    finally:
        lookup.close()


def _use_current_rules(ranker: Ranker, store: OnlineStore) -> Ranker:
    """With the catalogue that is published; with the package's own rules where there is none, it is damaged, or the
    store is away: a predictor that starts then has no others."""
    try:
        catalogue = fetch_catalogue(store)
    except (OnlineStoreError, IntegrityError):
        return ranker
    return ranker if catalogue is None else ranker.with_catalogue(catalogue)


def _asks_owned(ranker: Ranker) -> bool:
    return ranker.rulebook.rules.owned is not None
