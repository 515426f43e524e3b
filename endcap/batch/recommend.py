"""Make every customer's list by each version that serves: an artifact each, continued after an interruption."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from endcap.batch import part_files
from endcap.batch.customers import CustomerSelection, select_customers
from endcap.batch.part_files import ListPlan
from endcap.batch.part_ranking import ListJob, PartRanker
from endcap.batch.progress import ListProgress
from endcap.batch.served_versions import find_served_versions
from endcap.batch.workers import share_parts
from endcap.cpus import read_cpu_limit
from endcap.deploy.state import Target
from endcap.errors import DataError, NotFoundError
from endcap.models.custom import find_own_modules
from endcap.registry.package import load_contents, read_model_specs
from endcap.rules import Catalogue, Rulebook
from endcap.spec.settings import ListSettings
from endcap.spec.shop import Shop
from endcap.steps import STEPS
from endcap.store import Store, fingerprint, fingerprint_code, get_content_key

if TYPE_CHECKING:
    from endcap.spec.recommender import Recommender

Progress = Callable[[str], None]
_WRITERS = 4
"""Parts that are written, and held in memory, at once."""


@dataclass(frozen=True)
class ListRequest:
    """What is asked for besides the spec.

    Attributes
    ----------
    dataset
        An address. None: the shop's newest.
    version
        This one alone, as it is registered. None: the champion, and what else serves.
    customers
        A file that names them in its column `customer`. None: all.
    now
        The present, epoch ms. None: the clock's time.
    """

    dataset: str | None = None
    version: str | None = None
    customers: str | None = None
    now: int | None = None


@dataclass(frozen=True)
class VersionLists:
    """The lists of one version: the artifact's address, and its facts."""

    version: str
    address: str
    facts: dict[str, Any]

    @property
    def key(self) -> str:
        """The artifact's key."""
        return self.address.rpartition("/")[2]


def _build_kind(recommender: str) -> str:
    """Return the kind under which a store keeps a recommender's lists."""
    return STEPS["recommend"].folder(recommender)


def recommend(
    recommender: Recommender,
    shop: Shop,
    store: Store,
    registry_uri: str | None = None,
    *,
    request: ListRequest | None = None,
    progress: Progress = lambda line: None,
) -> list[VersionLists]:
    """Make the lists of each version that serves, or find them; the champion's first.

    A customer's list is the ranking of that customer at the dataset's end: see `PartRanker`. The rules of the shop that
    hold everywhere apply, with its rule files and item table as they are now. The same package, dataset, rules,
    settings and code have the same artifact.

    Raises
    ------
    NotFoundError
        If there is no champion, version or dataset.
    DataError
        If nobody is left to make a list for, or if a file has mistakes, or a version and the dataset have pseudonyms of
        different keys.
    IntegrityError
        If a package is damaged or has another format.
    """
    from endcap.rules.read import read_catalogue

    request = request or ListRequest()
    settings = ListSettings.of(recommender)
    targets = find_served_versions(settings, store, registry_uri, request.version)
    dataset = request.dataset or newest_dataset(shop.name, store)
    selection = select_customers(settings.batch, dataset, store, request.customers)
    for line in selection.warnings:
        progress(line)
    catalogue = read_catalogue(shop, progress)
    run = _ListRun(settings, store, dataset, selection, catalogue, request.now or int(time.time() * 1000), progress)
    return [run.make(target) for target in targets]


def _describe_ids(key_id: str | None) -> str:
    return "ids as they are" if key_id is None else f"pseudonyms of the key {key_id}"


def newest_dataset(shop: str, store: Store) -> str:
    """Return the address of a shop's newest dataset. Raises NotFoundError."""
    datasets = store.list(STEPS["features"].folder(shop))
    if not datasets:
        raise NotFoundError(
            f"the shop {shop} has no dataset in {store.root}. `endcap run SPEC --pipeline features` makes one",
            code="batch.no-dataset",
            shop=shop,
            store=store.root,
        )
    return datasets[-1]


def describe_lists(versions: Sequence[VersionLists], *, published: bool) -> str:
    """Describe in one line what was made."""
    parts = []
    for version_lists in versions:
        share = version_lists.facts["filled"]
        customers, k = version_lists.facts["customers"], version_lists.facts["k"]
        fallbacks = f", {share:.1%} of the places filled with popular items" if share else ""
        parts.append(f"version {version_lists.version}: {customers:,} lists of up to {k:,} items{fallbacks}")
    return f"{'; '.join(parts)}{'; published' if published else ''}"


@dataclass(frozen=True)
class _ListRun:
    """Makes the lists of each version for one request."""

    settings: ListSettings
    store: Store
    dataset: str
    selection: CustomerSelection
    catalogue: Catalogue
    now: int
    progress: Progress

    def make(self, target: Target) -> VersionLists:
        """Make the lists of one version, or find them."""
        name = _build_kind(self.settings.name)
        key = self._key(target)
        with self.store.workspace(name, key, self.progress) as work:
            address = self.store.find(name, key) or self._make(target, key, work)
        return VersionLists(target.version, address, self.store.manifest(address)["facts"])

    def _key(self, target: Target) -> str:
        made_of = [
            get_content_key(target.package),
            target.version,
            get_content_key(self.dataset),
            self.catalogue.version,
        ]
        specs = read_model_specs(self.store.fetch(target.package))
        code = fingerprint_code(STEPS["recommend"].entry, *find_own_modules(*specs))
        return fingerprint(made_of, self.settings.key(), self.selection.fingerprint, code)

    def _check_pseudonyms(self, target: Target, of_package: str | None) -> None:
        of_dataset = self.store.manifest(self.dataset)["facts"].get("pseudonyms")
        if of_package != of_dataset:
            raise DataError(
                f"version {target.version} was trained on {_describe_ids(of_package)}, and the dataset has "
                f"{_describe_ids(of_dataset)}: no customer would be known. Make lists of a dataset and a version of "
                "one key, or name both",
                code="batch.pseudonyms-differ",
                version=target.version,
                dataset=of_dataset,
                package=of_package,
            )

    def _make(self, target: Target, key: str, work: Path) -> str:
        k, partition = self.settings.k, self.settings.partition
        job = ListJob(self.store.root, target.package, self.dataset, key, k, partition, self._owned_since())
        package = load_contents(self.store.fetch(target.package, verify=True))
        self._check_pseudonyms(target, package.info.get("pseudonyms"))
        plan = ListPlan.load(work, key)
        if plan is None:
            allowed = Rulebook(package.vocabulary, package.items, self.catalogue).allowed_mask()
            plan = ListPlan(self.now, self.selection.customers, np.array(allowed))
            plan.save(work, key)
        vocabulary = pa.array(package.vocabulary.ids, pa.string())
        del package  # each maker has its own
        count = -(-len(plan.customers) // partition)
        self._make_parts(job, plan, target, work, count)
        with self.store.publish(_build_kind(self.settings.name), key) as draft:
            self.progress(f"version {target.version}: writing {count:,} parts")

            def written(number: int) -> float:
                lists = part_files.load_part(work, key, number)
                ids = self.selection.ids.take(pa.array(_select_part(plan, number, partition)))
                part = part_files.build_part_table(lists, ids, vocabulary, target.version, plan.made_ms)
                part_files.write_part(draft.path / part_files.name_part(number), part)
                return part_files.compute_fallback_share(lists) * len(lists)

            with ThreadPoolExecutor(min(_WRITERS, read_cpu_limit())) as writers:
                filled = sum(writers.map(written, range(count)))
            draft.facts |= self._facts(target, plan, count, filled / len(plan.customers))
        return draft.address

    def _owned_since(self) -> int | None:
        """Return the time from which bought items are owned, as of the dataset's end, epoch ms; None: there is no such
        rule."""
        rule = self.catalogue.rules.owned
        if rule is None:
            return None
        if rule.keep is None:
            return 0
        return int(self.store.manifest(self.dataset)["facts"]["until"]) - rule.keep // timedelta(milliseconds=1)

    def _make_parts(self, job: ListJob, plan: ListPlan, target: Target, work: Path, count: int) -> None:
        """Make the parts that the workspace lacks."""
        missing = [number for number in range(count) if not part_files.is_part_kept(work, job.key, number)]
        sizes = [len(_select_part(plan, number, job.partition)) for number in range(count)]
        if len(missing) < count:
            self.progress(
                f"version {target.version}: continues, {count - len(missing):,} of {count:,} parts are finished"
            )
        progress = ListProgress(f"version {target.version}", sizes, missing, self.progress)
        if not missing:
            return
        if self.settings.batch.workers > 1 and len(missing) > 1:
            share_parts(job, missing, self.settings.batch.workers, work, progress)
            return
        ranker = PartRanker(job, plan, self.store)
        for number in missing:
            part_files.keep_part(work, job.key, number, ranker.rank_part(number, progress.count_listed))
            progress.count_part()

    def _facts(self, target: Target, plan: ListPlan, count: int, filled: float) -> dict[str, Any]:
        return {
            "recommender": self.settings.name,
            "version": target.version,
            "package": target.package,
            "dataset": self.dataset,
            "catalogue": self.catalogue.version,
            "k": self.settings.k,
            "customers": len(plan.customers),
            "parts": count,
            "filled": filled,
            "made": plan.made_ms,
            **self.selection.facts,
        }


def _select_part(plan: ListPlan, number: int, partition: int) -> NDArray[np.int32]:
    """Return the customers of a part."""
    return plan.customers[number * partition : (number + 1) * partition]
