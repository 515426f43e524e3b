"""What the checked-in recommenders reach on real logs, their searches included: about half an hour a log at most."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SPECS = Path(__file__).parents[2] / "pipelines" / "specs"
DATA = Path(__file__).parents[3] / "shared" / "data"
Floors = Mapping[tuple[str, str], float]
HOW = "settings from the search on validation data, fitted on the whole training part, every prefix, whole catalogue"
RSC15: Floors = {
    ("vsknn", "hr@20"): 0.6805,
    ("vsknn", "mrr@20"): 0.3553,
    ("sequential-rules", "hr@20"): 0.6153,
    ("sequential-rules", "mrr@20"): 0.3450,
    ("challenger/gru4rec", "hr@20"): 0.705,
    ("challenger/gru4rec", "mrr@20"): 0.376,
}
SERENADE: Floors = {
    ("vsknn", "hr@20"): 0.6538,
    ("vsknn", "mrr@20"): 0.3319,
    ("challenger", "hr@20"): 0.66,
    ("challenger", "mrr@20"): 0.34,
}
ML100K: Floors = {("ease", "hr@10"): 0.1485 - 0.015, ("ease", "ndcg@10"): 0.0723 - 0.015}
SAMPLED: Floors = {("challenger", "hr@10"): 0.6649 - 0.015, ("challenger", "ndcg@10"): 0.3884 - 0.015}
NEUMF = ("model.name=neumf", "model.members=null", "search=null", "baselines=[]")


def measure() -> list[dict[str, Any]]:
    if not DATA.is_dir():
        print("skipped: no ../shared/data beside this checkout")
        return []
    with tempfile.TemporaryDirectory() as folder:
        return [
            *judged(folder, "rsc15", RSC15, ("hr@20", "mrr@20"), beaten=("vsknn", "challenger/")),
            *judged(folder, "serenade", SERENADE, ("hr@20", "mrr@20")),
            *judged(folder, "ml100k", ML100K, ("hr@10", "ndcg@10"), beaten=("ease",)),
            *judged(folder, "ml100k", SAMPLED, ("hr@10", "ndcg@10"), env="sampled"),
            *judged(folder, "ml100k", {}, ("hr@10", "ndcg@10"), sets=NEUMF, title="ml100k, neumf"),
        ]


def judged(
    folder: str,
    name: str,
    floors: Floors,
    metrics: tuple[str, ...],
    *,
    beaten: tuple[str, ...] = (),
    sets: tuple[str, ...] = (),
    env: str | None = None,
    title: str = "",
    specs: Path = SPECS,
) -> list[dict[str, Any]]:
    """What a verdict on a recommender says of each model by some metrics.

    folder: of the store. floors: by model and metric. beaten: whom the challenger is to beat surely, by name or by how
    names begin. specs: the folder of the recommender's file.
    """
    from endcap.evaluation import judge
    from endcap.events import ingest
    from endcap.features import build
    from endcap.spec.load import load
    from endcap.store import open_store
    from endcap.training import train

    store, loaded = open_store(folder), load(specs / f"{name}.yaml", env=env, sets=sets)
    head = title or (f"{name}, {env}" if env else name)
    dataset = build(loaded.shop, ingest(loaded.shop, store), store)
    trained = train(loaded.recommender, dataset, store, progress=print)
    verdict = judge(loaded.recommender, dataset, trained, store)
    table = json.loads((store.fetch(verdict) / "report.json").read_text())["table"]
    results = []
    for row in table:
        model, metric = row["model"], row["metric"]
        if metric not in metrics:
            continue
        results.append(_result(f"{head}: {model}, {metric}", row["value"][0], floors.get((model, metric))))
        if beaten and model != "challenger" and model.startswith(beaten):
            sure = f"{head}: challenger less {model}, {metric}, lower end of 95 %"
            results.append(_result(sure, row["difference"][1], 0.0))
    return results


def _result(name: str, value: float, floor: float | None) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": "", "floor": floor, "lower_is_better": False, "how": HOW}
