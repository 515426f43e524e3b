"""Every customer's list beside the bare matrix product: what rules, the best of each row, and files cost on top.

ENDCAP_BENCH_CUSTOMERS: how many, 100,000 as the floor has it; what a run costs once, such as loading, weighs more with
fewer.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from endcap.batch import ListRequest, recommend
from endcap.batch.lists import count_block_rows
from endcap.features.vocabulary import Vocabulary
from endcap.models import make
from endcap.neural.factors import Factors
from endcap.neural.gru import GRUNetwork, GRUShape
from endcap.registry import open_registry
from endcap.registry.package import write_package
from endcap.spec import Recommender, Shop
from endcap.store import Store, open_store

ITEMS, WIDTH, K, EVENTS = 40_000, 128, 200, 10
LOG = {"sources": [{"path": "none"}], "columns": {"session": "session", "customer": "customer"}}
SHOP = {"apiVersion": "endcap/v2", "kind": "Shop", "name": "bench", "events": LOG}
SPEC = {"apiVersion": "endcap/v2", "kind": "Recommender", "name": "bench", "shop": "bench", "exclude": "seen"}
MODELS: dict[str, dict[str, Any]] = {
    "neumf (gmf)": {"name": "neumf", "variant": "gmf", "width": WIDTH},
    "gru4rec": {"name": "gru4rec", "width": WIDTH},
}


def measure() -> list[dict[str, Any]]:
    customers = int(os.environ.get("ENDCAP_BENCH_CUSTOMERS", "100000"))
    bare = product(customers)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        # A shop's rules take some items away, here every hundredth.
        blacklist = Path(folder) / "never.csv"
        blacklist.write_text("item\n" + "".join(f"i{number}\n" for number in range(0, ITEMS, 100)))
        shop = Shop.model_validate({**SHOP, "rules": {"blacklist": {"sources": [{"path": str(blacklist)}]}}})
        store = open_store(f"{folder}/store")
        dataset = a_dataset(store, customers)
        for name, model in MODELS.items():
            spec = Recommender.model_validate({**SPEC, "model": model, "batch": {"k": K}})
            version = a_version(store, spec, customers, dataset)
            begun = time.perf_counter()
            made = recommend(spec, shop, store, request=ListRequest(dataset=dataset, version=version), progress=print)
            seconds = time.perf_counter() - begun
            assert made[0].facts["customers"] == customers
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            how = (
                f"{customers:,} customers, {ITEMS:,} items, width {WIDTH}, top {K}, {torch.get_num_threads()} threads:"
            )
            how += f" {seconds:.1f} s, the product {bare:.1f} s; most memory {most:,.0f} MB"
            # What reads 50 events a customer has as much to do again before it has anything to multiply.
            floor = 3.0 if name.startswith("neumf") and customers >= 100_000 else None
            results.append(
                {
                    "name": f"batch: lists by {name}, by the bare product",
                    "value": seconds / bare,
                    "unit": "times",
                    "floor": floor,
                    "lower_is_better": True,
                    "how": how,
                }
            )
            print(how)
    return results


def product(customers: int) -> float:
    """Seconds of the matrix product alone, in the same blocks, into memory that is there."""
    rng = np.random.default_rng(0)
    hidden, items = (torch.from_numpy(rng.standard_normal((n, WIDTH), dtype=np.float32)) for n in (customers, ITEMS))
    size = count_block_rows(ITEMS)
    scores = torch.empty(size, ITEMS)

    def once(rows: int) -> None:
        for start in range(0, rows, size):
            part = hidden[start : start + size]
            torch.mm(part, items.T, out=scores[: len(part)])

    once(2 * size)
    return timed(lambda: once(customers))


def timed(call: Callable[[], None]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def a_dataset(store: Store, customers: int) -> str:
    """A dataset as the features step writes it, of EVENTS events a customer."""
    rng = np.random.default_rng(1)
    events = customers * EVENTS
    owner = np.repeat(np.arange(customers, dtype=np.int32), EVENTS)
    columns = {
        "session": owner.astype(np.int64),
        "item": rng.integers(ITEMS, size=events).astype(np.int32),
        "customer": owner,
        "time": 1_700_000_000_000 + 1000 * np.arange(events),
    }
    with store.publish("datasets/bench", "one") as draft:
        pq.write_table(pa.table(columns), draft.path / "events.parquet")
        for name, count in (("item", ITEMS), ("customer", customers)):
            ids = pa.array([f"{name[0]}{number}" for number in range(count)])
            pq.write_table(pa.table({name: ids}), draft.path / f"{name}s.parquet")
        (draft.path / "features.json").write_text("[]")
        draft.facts["until"] = int(columns["time"][-1]) + 1
    return draft.address


def a_version(store: Store, spec: Recommender, customers: int, dataset: str) -> str:
    """A registered package of a model that was never trained: what it costs does not depend on that."""
    model: Any = make(spec.model)
    ids = [f"i{number}" for number in range(ITEMS)]
    known = None
    if spec.model.name == "neumf":
        network = Factors.draw(model.shape, customers, ITEMS, 1, model.device)
        model._adopt(ITEMS, network, np.arange(customers, dtype=np.int32), np.ones(ITEMS))
        known = pa.array([f"c{number}" for number in range(customers)])
    else:
        model.n_items = ITEMS
        model.network = GRUNetwork.draw(GRUShape(ITEMS, WIDTH), np.ones(ITEMS, dtype=np.bool_), {}, 1)
    with store.publish("packages/bench", spec.model.name) as draft:
        write_package(
            draft.path,
            model=model,
            vocabulary=Vocabulary(ids),
            items=pa.table({"item": ids}),
            recommender=spec,
            customers=known,
            lineage={"dataset": dataset},
        )
    registry = open_registry(None, store)
    return registry.add_version("bench", draft.address, "approved", "a measurement", {}).version
