"""Replaying 100,000 sampled requests, recorded at 100 a second of simulated time, with late events and changing rules.

ENDCAP_BENCH_REQUESTS: how many. ENDCAP_BENCH_CUSTOMERS: of how many customers, 20,000 by default.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from endcap.project import Project
from endcap.registry import find_registry
from endcap.registry.package import load_package
from endcap.replay import LogSource, ReplayReport, replay
from endcap.replay.reasons import UNEXPLAINED
from endcap.spec.load import load_documents
from endcap.store import Store, open_store
from tests.replay.recorded import KEY
from tests.replay.simulated_traffic import START, record_traffic, simulate_traffic

HEAD = {"apiVersion": "endcap/v2"}
MODELS: tuple[Mapping[str, Any], ...] = (
    {"name": "sequential-rules"},
    {"name": "gru4rec", "width": 64, "max_epochs": 1},
)
"""The models of versions 1 and 2."""
GATE = {"evidence": {"min_sessions": 1, "max_half_width": 100}, "conditions": []}


def measure() -> list[dict[str, Any]]:
    """Record requests, replay them, and return answers a second, and how many are unexplained."""
    requests = int(os.environ.get("ENDCAP_BENCH_REQUESTS", "100000"))
    customers = int(os.environ.get("ENDCAP_BENCH_CUSTOMERS", "20000"))
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"{folder}/store")
        packages = [load_package(store.fetch(address)) for address in _make_versions(store)]
        for package in packages:
            package.ranker.prepare()
        registry = find_registry("", store)
        assert registry is not None
        begun = time.perf_counter()
        ids = [f"c{number}" for number in range(customers)]
        traffic = simulate_traffic(list(packages[0].vocabulary.ids), ids, requests)
        samples, intake = record_traffic(traffic, packages, store, Path(folder))
        print(f"recorded in {time.perf_counter() - begun:.1f} s")
        since, processor = datetime.fromtimestamp(START / 1000, UTC), time.process_time()
        report = replay(
            "bench",
            store,
            registry,
            samples,
            since,
            since + timedelta(days=2),
            log=LogSource(intake),
            pseudonymiser=KEY,
            progress=print,
        )
        processor = time.process_time() - processor
    took = f"{report.seconds:.1f} s ({processor:.1f} s of a processor)"
    how = f"{requests:,} requests of {customers:,} customers, {len(traffic.clicks):,} events, in {took}: "
    how += "; ".join(f"{name}: {_describe(report, name)}" for name in report.checks)
    print(how)
    rate = {
        "name": "replay: answers a second",
        "value": report.answers / report.seconds,
        "unit": "1/s",
        "floor": 2000.0,
    }
    unexplained = sum(check.answers[UNEXPLAINED] for check in report.checks.values())
    left = {"name": "replay: unexplained differences", "value": unexplained, "unit": "answers", "floor": 0.0}
    return [{**rate, "lower_is_better": False, "how": how}, {**left, "lower_is_better": True, "how": how}]


def _describe(report: ReplayReport, name: str) -> str:
    return ", ".join(f"{outcome} {count:,}" for outcome, count in report.checks[name].answers.most_common())


def _make_versions(store: Store) -> list[str]:
    """Register a version of each model, and return the packages' addresses."""
    source = {"simulated": {"events": 60_000, "items": 4_000, "customers": 20_000}}
    columns = {"session": "session", "customer": "customer", "item": "item", "time": "time", "type": "type"}
    shop = {**HEAD, "kind": "Shop", "name": "bench", "events": {"sources": [source], "columns": columns}}
    shop["events"] |= {"types": ["view"]}  # type: ignore[operator]
    packages = []
    for model in MODELS:
        spec = {**HEAD, "kind": "Recommender", "name": "bench", "shop": "bench", "model": model, "gate": GATE}
        spec |= {"split": {"by": "time", "test": "1d", "validation": "1d"}, "evaluation": {"bootstrap": 100}}
        loaded = load_documents(spec, shop)
        project = Project(store, recommender=loaded.recommender, shop=loaded.shop, online="none")
        for step in (project.ingest, project.features, project.train, project.evaluate):
            step()
        packages.append(project.refit().address)
        project.register()
    return packages
