"""Ranks parts of one version's lists, in the step itself or in each of its workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from endcap.batch.histories import NOBODY, CustomerHistories, Visit, read_item_ids
from endcap.batch.lists import ItemLists, ListRanker
from endcap.batch.part_files import ListPlan
from endcap.features.sessions import Sessions
from endcap.features.split import where
from endcap.models import NO_ITEM
from endcap.registry.package import load_contents
from endcap.store import Store, open_store


@dataclass(frozen=True)
class ListJob:
    """What one version's lists are made of. It travels as JSON.

    `store`, `package` and `dataset` are addresses; `key` is the artifact's. `k` is the length of a list, and
    `partition` the customers of a part. For `owned_since` see `CustomerHistories.read`.
    """

    store: str
    package: str
    dataset: str
    key: str
    k: int
    partition: int
    owned_since: int | None


class PartRanker:
    """Loads a job's package and its customers' histories once, then ranks any of its parts.

    A customer's list is the ranking of a request that names the customer only: by the last `serving.recent_events`
    events, oldest first, of all sessions. If the model learnt from visits that a gap cuts, only the last visit counts.
    Items that the model does not know are skipped. Models that remember customers rank by what this one had before,
    too.
    """

    def __init__(self, job: ListJob, plan: ListPlan, store: Store) -> None:
        self._job, self._plan = job, plan
        dataset = store.fetch(job.dataset)
        self._package = load_contents(store.fetch(job.package, verify=True))
        recommender = self._package.recommender
        visit, gap = None, self._package.session_gap
        if gap is not None:
            visit = Visit(gap, store.manifest(job.dataset)["facts"].get("session_gap_ms") == gap)
        self._histories = CustomerHistories.read(dataset, recommender.serving.recent_events, job.owned_since, visit)
        self._own = self._package.vocabulary.indices(read_item_ids(dataset))
        self._ranker = ListRanker(self._package.model, recommender.exclude, plan.allowed, job.k)

    def rank_part(self, number: int, tell: Callable[[int], None] = lambda rows: None) -> ItemLists:
        """Rank the lists of a part's customers; for `tell` see `ListRanker.rank`."""
        begin = number * self._job.partition
        customers = self._plan.customers[begin : begin + self._job.partition].astype(np.int64)
        sessions = self._translate(self._histories.recent.take(customers))
        sessions = replace(sessions, customers=self._find_indices(customers))
        evaluate = self._package.evaluate
        if evaluate is not None:
            sessions = replace(sessions, features=evaluate(sessions))
        return self._ranker.rank(sessions, self._translate(self._histories.owned.take(customers)), tell)

    def _translate(self, sessions: Sessions) -> Sessions:
        """Return the sessions in the package's vocabulary, without the items that it lacks."""
        own = replace(sessions, items=self._own[sessions.items])
        return where(own, own.items != NO_ITEM)

    def _find_indices(self, customers: NDArray[np.int64]) -> NDArray[np.int32]:
        """Find the model's own index of each customer."""
        indices = self._package.customers
        if not indices:
            return np.full(len(customers), NOBODY, dtype=np.int32)
        ids = self._histories.ids.take(customers).to_pylist()
        return np.fromiter((indices.get(customer, NOBODY) for customer in ids), np.int32, len(ids))


_rankers: dict[str, PartRanker] = {}
"""This process's ranker, by the job's key: at most one, which a worker uses for its next part."""


def rank_part_in_worker(job: ListJob, plan: ListPlan, number: int) -> ItemLists:
    """Rank a part in a worker, which keeps what it has loaded for its next one."""
    if job.key not in _rankers:
        _rankers.clear()
        _rankers[job.key] = PartRanker(job, plan, open_store(job.store))
    return _rankers[job.key].rank_part(number)
