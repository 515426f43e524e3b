"""What the checked-in recommenders reach on real logs, and what it takes to train them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

SPECS = Path(__file__).parents[2] / "pipelines" / "specs"
DATA = Path(__file__).parents[3] / "shared" / "data"
FLOORS = {
    ("rsc15", "vsknn", "hr@20"): 0.6805,
    ("rsc15", "vsknn", "mrr@20"): 0.3553,
    ("rsc15", "sequential-rules", "hr@20"): 0.6153,
    ("rsc15", "sequential-rules", "mrr@20"): 0.3450,
    ("serenade", "vsknn", "hr@20"): 0.6538,
    ("serenade", "vsknn", "mrr@20"): 0.3319,
}
HOW = "fitted on the whole training part; every prefix of each test session, whole catalogue; tests.bench models"


def measure() -> list[dict[str, Any]]:
    if not DATA.is_dir():
        print("skipped: no ../shared/data beside this checkout")
        return []
    with tempfile.TemporaryDirectory() as folder:
        return [result for name in ("rsc15", "serenade") for result in _judged(name, folder)]


def _judged(name: str, folder: str) -> list[dict[str, Any]]:
    from endcap.evaluation import judge
    from endcap.events import ingest
    from endcap.features import build
    from endcap.spec.load import load
    from endcap.store import open_store
    from endcap.training import train

    store, loaded = open_store(folder), load(SPECS / f"{name}.yaml")
    dataset = build(loaded.shop, ingest(loaded.shop, store), store)
    trained = train(loaded.recommender, dataset, store, progress=print)
    facts = store.manifest(judge(loaded.recommender, dataset, trained, store))["facts"]
    models = {loaded.recommender.model.name: "challenger", **{b.name: b.name for b in loaded.recommender.baselines}}
    return [
        {
            "name": f"{name}: {model}, {metric}",
            "value": facts["metrics"][label][metric],
            "unit": "",
            "floor": FLOORS.get((name, model, metric)),
            "lower_is_better": False,
            "how": HOW,
        }
        for model, label in models.items()
        for metric in ("hr@20", "mrr@20")
    ]
