"""What models without epochs reach by their default settings, on real logs and on a simulated sparse one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tests.bench._sparse import write_sparse_shop
from tests.bench.models import DATA, SPECS, judged

MODELS = "baselines=[{name: popularity}, {name: item-knn}, {name: sequential-rules}, {name: vsknn}]"
PUBLISHED = ("model.name=sequential-rules", "model.last_events=1", "model.norm=none")
"""The challenger: sequential rules as published, of the last item alone."""
SEARCHED = ("model.members=null", "search=null")
OF_OVERLAY = "model.regularisation=null"


def measure() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_sparse_shop(place)
        results = _judged(place, "sparse", 10, place, sets=PUBLISHED)
        if not DATA.is_dir():
            print("skipped: no ../shared/data beside this checkout")
            return results
        for name, cutoff in (("rsc15", 20), ("serenade", 20), ("ml100k", 10)):
            results += _judged(place, name, cutoff, SPECS, sets=(*PUBLISHED, *SEARCHED))
        return results + _judged(place, "ml100k", 10, SPECS, sets=(*PUBLISHED, *SEARCHED, OF_OVERLAY), env="sampled")


def _judged(folder: Path, name: str, cutoff: int, specs: Path, **how: Any) -> list[dict[str, Any]]:
    metrics = tuple(f"{metric}@{cutoff}" for metric in ("hr", "mrr", "next_ndcg"))
    how["sets"] += ("gate=[]", MODELS)
    return judged(str(folder / "store"), name, {}, metrics, specs=specs, **how)
