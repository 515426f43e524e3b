"""A little shop a week apart: packages of its first log, lists of its second; and what stands in for a registry."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from endcap.batch import ListRequest, recommend
from endcap.batch.part_files import list_parts
from endcap.deploy.state import Target
from endcap.errors import NotFoundError
from endcap.features import build
from endcap.features.dataset_files import (
    build_item_table,
    read_customer_ids,
    read_declared_features,
    read_refit_sessions,
)
from endcap.models.fit import fit_with_settings
from endcap.registry.package import write_package
from endcap.rules import Catalogue
from endcap.spec import Recommender, Shop
from endcap.store import Store
from tests.features.logs import event, recommender, shop, snapshot

NOW = 1_800_000_000_000
WORDS = ["abcab", "cdeac", "xyzxy", "yxwz", "abz"]
VSKNN = {"name": "vsknn"}
Row = dict[str, Any]


def log(store: Store, its: Shop | None = None, *, sessions: int = 24, customers: int = 12) -> str:
    """A dataset: customer c<n> has sessions n, n + customers, …; session 1 is nobody's. A longer log has more
    customers, and other items become popular, so that numbers differ."""
    words = WORDS if sessions <= 24 else [*WORDS, "nxnwn", "wnmnw"]
    rows = [
        event(f"s{number}", item, 100_000 * number + 1000 * step, None if number == 1 else f"c{number % customers}")
        for number in range(sessions)
        for step, item in enumerate(words[number % len(words)])
    ]
    return build(its or shop(), snapshot(store, rows), store)


def package(store: Store, spec: Recommender, dataset: str, key: str = "one", rules: Catalogue | None = None) -> str:
    """The address of a package of the spec's model, fitted on a dataset."""
    folder = store.fetch(dataset)
    vocabulary, sessions = read_refit_sessions(folder, spec)
    items = build_item_table(folder, vocabulary, sessions)
    found, steps = {"epochs": 2}, spec.preprocessing
    model = fit_with_settings(spec.model, sessions, len(vocabulary), found, items=items, seed=1, preprocessing=steps)
    with store.publish(f"packages/{spec.name}", key) as draft:
        write_package(
            draft.path,
            model=model,
            vocabulary=vocabulary,
            items=items,
            recommender=spec,
            shop_features=read_declared_features(folder),
            session_gap=store.manifest(dataset)["facts"]["session_gap_ms"],
            customers=read_customer_ids(folder, model.known_customers) if len(model.known_customers) else None,
            house_rules=rules,
            pseudonyms=store.manifest(dataset)["facts"]["pseudonyms"],
            lineage={"dataset": dataset},
        )
    return draft.address


@dataclass
class FakeRegistry:
    """A registry that answers what batch asks. versions: packages by number; the first one is the champion."""

    versions: dict[str, str] = field(default_factory=dict)
    uri: str = "sqlite:///registry.db"

    def find_champion(self, name: str) -> Target | None:
        number = next(iter(self.versions), None)
        return None if number is None else self.get_version(name, number)

    def get_version(self, name: str, number: str) -> Target:
        if number not in self.versions:
            raise NotFoundError(
                f"{name} has no version {number} in {self.uri}; there are: {', '.join(self.versions)}",
                code="registry.version-not-found",
                found=number,
                allowed=list(self.versions),
            )
        return Target(version=number, package=self.versions[number])


def of(name: str, model: Row = VSKNN, **keys: Any) -> Recommender:
    batch = {"k": 6, "partition_size": 5, **keys.pop("batch", {})}
    split = {"by": "time", "test": 0.1, "validation": 0.1}
    return recommender(name=name, model=model, split=split, batch=batch, **keys)


def made(spec: Recommender, store: Store, its: Shop | None = None, **asked: Any) -> Any:
    """Make the lists of the first version. `asked` has fields of `ListRequest`, and progress."""
    progress = asked.pop("progress", lambda line: None)
    return recommend(spec, its or shop(), store, request=ListRequest(now=NOW, **asked), progress=progress)[0]


def rows(store: Store, address: str) -> dict[str, Row]:
    """The lists of an artifact, by customer."""
    parts = [pq.read_table(file).to_pylist() for file in list_parts(store.fetch(address, verify=True))]
    return {row["customer"]: row for part in parts for row in part}


def bytes_of(store: Store, address: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in list_parts(store.fetch(address))}


def kept(store: Store, name: str) -> list[Path]:
    """What a workspace keeps of a recommender's unfinished lists."""
    return sorted(Path(store.root.removeprefix("file://")).glob(f".work/recommendations/{name}/*/*/*"))
