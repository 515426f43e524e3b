"""Versions to reproduce: made in this process as a run makes them, with the run's record."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from endcap.project import Project
from endcap.registry import Version
from endcap.registry.factory import get_default_uri
from endcap.runs import Start, begin_run, keep_specs
from endcap.spec.load import Loaded, dump_specs, load_documents
from endcap.store import Store, open_store
from tests.events.shops import write_csv

SPLIT = {"by": "time", "test": 0.2, "validation": 0.2}
GATE = {"evidence": {"min_sessions": 1, "max_half_width": 100}, "conditions": []}
VISITS = ["abcab", "xyzxy", "abxya", "cabzy"]


def write_log(folder: Path) -> None:
    """Write a shop's log of eight days."""
    for day in range(1, 9):
        rows = [
            f"s{day}-{visit},c{visit % 3},{letter},2024-03-{day:02}T1{visit}:0{step}:00Z,view"
            for visit, word in enumerate(VISITS)
            for step, letter in enumerate(word[day % 2 :])
        ]
        write_csv(folder / "in" / f"2024-03-{day:02}.csv", rows)


def open_shop(folder: Path, empty_registry: Path) -> Store:
    """Write a shop's log, and return a store with an empty registry."""
    write_log(folder)
    store = open_store(str(folder / "store"))
    shutil.copy(empty_registry, get_default_uri(store).removeprefix("sqlite:///"))
    return store


def load_specs(folder: Path, name: str, **keys: Any) -> Loaded:
    """The specs of a recommender of that shop; keys beside these as in its YAML file."""
    columns = {"session": "session", "customer": "customer", "type": "type"}
    shop = {"events": {"sources": [{"path": str(folder / "in")}], "columns": columns}}
    evaluation = {"cutoffs": [5], "bootstrap": 100}
    about = {"name": name, "shop": "toys", "split": SPLIT, "evaluation": evaluation, "gate": GATE, **keys}
    head = {"apiVersion": "endcap/v2"}
    return load_documents({**head, "kind": "Recommender", **about}, {**head, "kind": "Shop", "name": "toys", **shop})


def make_version(store: Store, loaded: Loaded, *, register: bool = False, registry: str = "") -> Version:
    """Make a version of specs, with the record of a run. Without `register` the registry does not know it."""
    run = f"{loaded.recommender.name}-20240309T000000-0000"
    project = Project(
        store, recommender=loaded.recommender, shop=loaded.shop, registry=registry, run=run, online="none"
    )
    begin_run(store, run, Start.of(loaded, "training"))
    keep_specs(store, dump_specs(loaded))
    for step in (project.ingest, project.features, project.train, project.evaluate):
        step()
    package = project.refit()
    if register:
        project.register()
    return Version(loaded.recommender.name, "1", package.address, "approved", "gate", "", "", tags={"run": run})
