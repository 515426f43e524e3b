"""What a blend is worth on a simulated sparse shop, beside its members, seed by seed.

Each seed simulates another shop of `tests.bench._sparse` and fits with it. ``SEEDS=2 SHARE=0.25 python -m
tests.bench blend`` measures two seeds on a quarter of the customers and items.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench._sparse import write_sparse_shop

METRIC = "next_ndcg@20"
MODEL = """
name: blend
members:
  gru4rec: {name: gru4rec, loss: cross-entropy, learning_rate: 0.1, dropout_embedding: 0.5, max_epochs: 8}
  rules: {name: sequential-rules}
  vsknn: {name: vsknn}
  ease: {name: ease}
"""
HOW = "weights by the validation part, then fitted on it too; each customer's last event among all items"


def measure() -> list[dict[str, Any]]:
    seeds, share = int(os.environ.get("SEEDS", "10")), float(os.environ.get("SHARE", "1"))
    return [result for seed in range(1, seeds + 1) for result in _measured(seed, share)]


def _measured(seed: int, share: float) -> list[dict[str, Any]]:
    from endcap.evaluation import judge
    from endcap.events import ingest
    from endcap.features import build
    from endcap.spec.load import load
    from endcap.store import open_store
    from endcap.training import train

    with tempfile.TemporaryDirectory() as folder:
        write_sparse_shop(Path(folder), seed, share)
        sets = (f"model={json.dumps(_model())}", f"seed={seed}", "baselines=[]")
        store, loaded = open_store(f"{folder}/store"), load(Path(folder) / "sparse.yaml", sets=sets)
        dataset, begun = build(loaded.shop, ingest(loaded.shop, store), store), time.process_time()
        trained = train(loaded.recommender, dataset, store)
        test = store.manifest(judge(loaded.recommender, dataset, trained, store))["facts"]["metrics"]
        found = store.manifest(trained)["facts"]["found"]
    own, best = found["validation"], max(found["validation"]["members"], key=found["validation"]["members"].get)
    alone = test["challenger" if own["way"] == "alone" else f"challenger/{best}"][METRIC]
    weights = ", ".join(f"{label} {weight:.2f}" for label, weight in found["weights"].items() if weight)
    print(
        f"seed {seed}: {weights} ({own['way']}); validation {own[METRIC]:.4f}, {best} {own['members'][best]:.4f}; "
        f"test {test['challenger'][METRIC]:.4f}, {best} {alone:.4f}; {time.process_time() - begun:.0f} s of CPU",
        flush=True,
    )
    return [
        _result(f"sparse {seed}: blend less {best}, validation", own[METRIC] - own["members"][best], 0.0),
        _result(f"sparse {seed}: blend, test", test["challenger"][METRIC], None),
        _result(f"sparse {seed}: {best}, test", alone, None),
    ]


def _model() -> Any:
    import yaml

    return yaml.safe_load(MODEL)


def _result(name: str, value: float, floor: float | None) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": "", "floor": floor, "lower_is_better": False, "how": HOW}
