"""Forget customers of a shop, step by step. Each step can be repeated: a call goes on where a killed one ended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from endcap.errors import UserError
from endcap.events.forget_list import add_forgotten, replace_units
from endcap.forgetting.run_records import find_run_records, hide_in_run_records, list_earlier_runs
from endcap.forgetting.scan import CustomerScan
from endcap.forgetting.services import Services, ServiceSearch
from endcap.forgetting.stored_artifacts import (
    HoldingArtifact,
    find_holding,
    find_recommenders,
    list_shop_artifacts,
)
from endcap.forgetting.tracked_reports import find_tracked_reports, hide_in_tracked_reports
from endcap.forgetting.unfinished import find_unfinished, remove_unfinished
from endcap.lineage.tombstones import list_tombstones, write_tombstone
from endcap.registry import find_registry
from endcap.registry.decision_hold import hold_name
from endcap.retention import RetentionPolicy, StoredArtifact
from endcap.retention.needs import find_recommender_needs
from endcap.store import Store, get_content_key

Json = dict[str, Any]
Progress = Callable[[str], None]
SERVING = ("champion", "challenger", "deployed", "rollout", "ab-test")
"""Why a package stays for now: shoppers are answered by it, or may be at the next decision."""


@dataclass(frozen=True)
class Forgetting:
    """What is or was forgotten of customers.

    Attributes
    ----------
    shop
        The shop.
    request
        Names the request in tombstones. It does not tell whom it is about.
    removed
        The artifacts that were removed; of a plan, those that would be.
    kept
        Packages that hold a customer and serve. Train and deploy anew, then call again.
    records
        Documents of runs that quoted a row of a customer.
    unfinished
        Work of killed and failed runs that held a customer, as kind and key.
    versions
        Recommender and number of each version that learnt from a customer.
    reports
        MLflow's runs whose report quoted a row of a customer.
    online
        The number of events, members and rows in the online store.
    files
        The number of rows in files of the intake and of request samples, by the address of each place.
    open_segments
        Files of the intake that hold a customer and are not sealed yet. Call again when they are.
    waiting_for
        Runs that began before and go on. No artifact was removed. Call again when they have ended.
    """

    shop: str
    request: str
    removed: tuple[StoredArtifact, ...]
    kept: tuple[HoldingArtifact, ...]
    records: tuple[str, ...]
    unfinished: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]
    reports: tuple[str, ...]
    online: int
    files: Mapping[str, int]
    open_segments: tuple[str, ...]
    waiting_for: tuple[str, ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.kept or self.waiting_for or self.open_segments)

    def to_json(self) -> Json:
        """Return the outcome as JSON values."""
        return {
            "shop": self.shop,
            "request": self.request,
            "done": self.is_done,
            "removed": [artifact.name for artifact in self.removed],
            "kept": [{"artifact": kept.artifact.name, "needed_by": kept.needed_by} for kept in self.kept],
            "records": list(self.records),
            "unfinished": list(self.unfinished),
            "reports": list(self.reports),
            "online": self.online,
            "files": dict(self.files),
            "open_segments": list(self.open_segments),
            "versions": [{"recommender": name, "version": version} for name, version in self.versions],
            "waiting_for": list(self.waiting_for),
        }


def plan_forgetting(
    store: Store, shop: str, customers: Collection[str], registry: str = "", services: Services | None = None
) -> Forgetting:
    """Find what `forget_customers` would remove. Nothing is changed. Parameters and errors are those of it."""
    scan = _make_scan(customers)
    search = _HoldingSearch(store, shop, registry, scan)
    removed, kept = search.divide()
    of_services = ServiceSearch(services or Services(), store, shop, search.recommenders, scan)
    search.note_services(of_services, of_services.forget_files(erase=False), of_services.forget_online(erase=False))
    return search.describe("", removed, kept)


def forget_customers(
    store: Store,
    shop: str,
    customers: Collection[str],
    registry: str = "",
    services: Services | None = None,
    *,
    why: str = "",
    remake: Callable[[], Collection[str]] | None = None,
    progress: Progress = lambda line: None,
) -> Forgetting:
    """Forget customers of a shop: ingest leaves them out from now on, and what holds them is removed.

    Parameters
    ----------
    store
        The store.
    shop
        The shop's name.
    customers
        Ids as the store has them, not empty.
    registry
        MLflow's address; empty: that of the store's folder.
    services
        Where the shop's services keep what they know of customers; None: the places of this machine.
    why
        The reason, which the list keeps.
    remake
        Makes the snapshot and the dataset anew, and returns their addresses. It is called before anything is removed,
        if the store holds one of the customers. None: the shop's next run makes them.
    progress
        Takes a line now and then.

    Returns
    -------
    Forgetting
        What was removed, and what is left.

    Raises
    ------
    UserError
        If no customer is given (``forgetting.nobody``).
    IntegrityError
        If a manifest or a file is damaged: whose it is is not known then.
    StorageError, TransientError, OnlineStoreError
        If the store, the registry or a service's place refuses.

    Notes
    -----
    The steps: the customers are put on the shop's list; the parsed units with rows of theirs get other keys; files of
    the intake and samples are replaced; new data are made, and the online store forgets the customers; each artifact
    gets its tombstone and is removed, before what it refers to; records of runs are cleared. After a kill at any of
    them the next call goes on.
    """
    scan = _make_scan(customers)
    forgotten, entry = add_forgotten(store, shop, scan.customers, why=why)
    search = _HoldingSearch(store, shop, registry, scan)
    units = [artifact for artifact in search.holding if artifact.kind == "parsed"]
    replace_units(store, shop, [unit.address.rsplit("/", 1)[-1] for unit in units], forgotten.version)
    of_services = ServiceSearch(services or Services(), store, shop, search.recommenders, scan)
    rows = of_services.forget_files(erase=True)
    made_anew: set[str] = set()
    if remake is not None and search.holding:
        progress("new data are made without the customer")
        made_anew = set(remake())
    search.note_services(of_services, rows, of_services.forget_online(erase=True))
    waiting_for = list_earlier_runs(store, shop, search.recommenders, entry.since, datetime.now(UTC))
    removed, kept = search.divide()
    if waiting_for:
        return search.describe(entry.request, (), kept, waiting_for)
    for artifact in removed:
        if artifact.kind == "packages":
            with store.hold(hold_name(artifact.owner)) as hold:
                if needed_by := search.find_need(artifact):
                    kept = (*kept, HoldingArtifact(artifact, needed_by))
                    continue
                hold.check()
                _remove(store, artifact, entry.request, progress)
        else:
            _remove(store, artifact, entry.request, progress)
    if remake is not None and made_anew & {artifact.address for artifact in removed}:
        # The id was another value of a bad row, which the new data have too. Without it they are the same as before.
        remake()
    hide_in_run_records(store, search.records, scan)
    remove_unfinished(store, search.unfinished)
    if search.registry is not None:
        hide_in_tracked_reports(search.registry, search.reports, scan)
    spared = {held.artifact.address for held in kept}
    gone = tuple(artifact for artifact in removed if artifact.address not in spared)
    return search.describe(entry.request, gone, kept)


def _make_scan(customers: Collection[str]) -> CustomerScan:
    if not all(customers) or not customers:
        raise UserError(
            "no customer is given to forget; name ids as the log has them, or a file with one in each line",
            code="forgetting.nobody",
        )
    return CustomerScan(customers)


def _remove(store: Store, artifact: StoredArtifact, request: str, progress: Progress) -> None:
    write_tombstone(store, artifact.address, request)
    if store.erase(artifact.address):
        progress(f"removed {artifact.name}")


class _HoldingSearch:
    """What a store holds of customers."""

    def __init__(self, store: Store, shop: str, registry: str, scan: CustomerScan) -> None:
        self._store, self._shop, self.registry = store, shop, find_registry(registry, store)
        artifacts = list_shop_artifacts(store, shop)
        self.recommenders = find_recommenders(artifacts, shop)
        self.holding = find_holding(artifacts, scan, store)
        self.records = tuple(find_run_records(store, shop, self.recommenders, scan))
        self.unfinished = tuple(find_unfinished(store, {shop, *self.recommenders}, scan))
        self.versions = tuple(self._list_versions(shop))
        self.reports: tuple[str, ...] = ()
        self.online = 0
        self.rows: Mapping[str, int] = {}
        self.open_segments: tuple[str, ...] = ()
        if self.registry is not None:
            chosen = [artifact for artifact in artifacts if artifact.owner in self.recommenders]
            self.reports = tuple(find_tracked_reports(chosen, self.registry, store, scan))

    def describe(
        self,
        request: str,
        removed: tuple[StoredArtifact, ...],
        kept: tuple[HoldingArtifact, ...],
        waiting_for: Sequence[str] = (),
    ) -> Forgetting:
        """Return the outcome."""
        return Forgetting(
            self._shop,
            request,
            removed,
            kept,
            self.records,
            self.unfinished,
            self.versions,
            self.reports,
            self.online,
            self.rows,
            self.open_segments,
            tuple(waiting_for),
        )

    def note_services(self, services: ServiceSearch, rows: Mapping[str, int], online: int) -> None:
        """Note what services keep, or have forgotten."""
        self.rows, self.online = rows, online
        self.open_segments = tuple(services.find_open_segments())

    def divide(self) -> tuple[tuple[StoredArtifact, ...], tuple[HoldingArtifact, ...]]:
        """Divide what holds a customer into what can be removed now and what serves."""
        needs = {artifact.address: self.find_need(artifact) for artifact in self.holding}
        return (
            tuple(artifact for artifact in self.holding if not needs[artifact.address]),
            tuple(HoldingArtifact(artifact, need) for artifact in self.holding if (need := needs[artifact.address])),
        )

    def find_need(self, artifact: StoredArtifact) -> str:
        """Return who needs a package now; empty if nobody does, and for what is no package."""
        if artifact.kind != "packages":
            return ""
        if self.registry is None:
            return "no registry is known that could say whether it serves"
        needs = find_recommender_needs(artifact.owner, self._store, self.registry, RetentionPolicy(versions=1))
        need = needs.get(artifact.address)
        return f"{need.code}, {need.by}" if need is not None and need.code in SERVING else ""

    def _list_versions(self, shop: str) -> Iterable[tuple[str, str]]:
        """List the versions whose data held a customer who is forgotten, now or at an earlier request."""
        if self.registry is None:
            return
        data = {artifact.name for artifact in self.holding if artifact.kind in ("snapshots", "datasets")}
        data |= list_tombstones(self._store, f"snapshots/{shop}") | list_tombstones(self._store, f"datasets/{shop}")
        for name in _intersect(self.registry.list_names(), self.recommenders):
            for version in self.registry.list_versions(name):
                named = (version.tags.get(role, "") for role in ("snapshot", "dataset"))
                if data & {get_content_key(address) for address in named if address}:
                    yield name, version.version


def _intersect(names: Sequence[str], chosen: Collection[str]) -> list[str]:
    return sorted(set(names) & set(chosen))
