"""What Ray, Tune and Optuna add to the time of trials, and what short searches find.

The first: a search beside a plain loop at equal concurrency. Trials are stand-ins that sleep, so that nothing but the
overhead differs. ENDCAP_BENCH_TRIAL: seconds of one, 30 as the floor has it; 0: left out.

The second: on real logs, by budget, how far the search's winner is above the model as the spec has it, both on
validation, the latter fitted to its early stop. ENDCAP_BENCH_BUDGETS: 60s,5m,20m. ENDCAP_BENCH_LOGS: which of them.
ENDCAP_BENCH_SET: further settings, such as model.width=32.
"""

from __future__ import annotations

import functools
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from endcap.features.view import open_view
from endcap.models.fit import fit_watched, open_model_view
from endcap.spec.settings import TrainSettings
from endcap.store import Store, open_store
from endcap.training.search import search, settle
from tests.bench.models import DATA, SPECS
from tests.training.datasets import little_dataset, sleeper

TRIALS, EPOCHS, AT_ONCE = 20, 10, 2
LOGS = ("serenade", "rsc15", "ml100k")


def measure() -> list[dict[str, Any]]:
    seconds = float(os.environ.get("ENDCAP_BENCH_TRIAL", "30"))
    budgets = os.environ.get("ENDCAP_BENCH_BUDGETS", "60s,5m,20m").split(",")
    logs = os.environ.get("ENDCAP_BENCH_LOGS", ",".join(LOGS)).split(",") if DATA.is_dir() else []
    return [*(_overhead(seconds) if seconds else []), *(one for log in logs for one in _short(log, budgets))]


def _overhead(seconds: float) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        begun = time.monotonic()
        list(pool.map(time.sleep, [seconds] * TRIALS))
        plain = time.monotonic() - begun
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"{folder}/store")
        wanted = {"trials": TRIALS, "concurrency": AT_ONCE, "cpu": 0.5, "scheduler": "none", "time_budget": "2h"}
        spec = sleeper(wanted, max_epochs=EPOCHS, seconds=seconds / EPOCHS)
        dataset = little_dataset(store)
        settings = TrainSettings.of(spec)
        view = open_view(store.fetch(dataset), settings)
        begun = time.monotonic()
        tried_in = Path(folder) / "tried"
        with search(settings, dataset, store, view, key="bench", tried=tried_in, progress=print) as found:
            searched = time.monotonic() - begun
    assert len(found.facts["trials"]) == TRIALS
    how = f"{TRIALS} trials of {seconds:g} s, {AT_ONCE} at once: a search {searched:.1f} s, a plain loop {plain:.1f} s"
    return [
        {
            "name": f"search: time of {TRIALS} trials of {seconds:g} s, by a loop's",
            "value": searched / plain,
            "unit": "times",
            "floor": 1.1 if seconds >= 30 else None,
            "lower_is_better": True,
            "how": how,
        }
    ]


def _short(log: str, budgets: list[str]) -> list[dict[str, Any]]:
    from endcap.events import ingest
    from endcap.features import build
    from endcap.spec.load import load

    results = []
    written: float | None = None
    for budget in budgets:
        # A store each: searches of one would share their trials.
        with tempfile.TemporaryDirectory() as folder:
            store = open_store(folder)
            more = os.environ.get("ENDCAP_BENCH_SET", "").split()
            sets = ("model.name=gru4rec", "model.members=null", f"search.time_budget={budget}", *more)
            loaded = load(SPECS / f"{log}.yaml", sets=sets)
            dataset = build(loaded.shop, ingest(loaded.shop, store), store)
            settings = TrainSettings.of(loaded.recommender)
            written = _as_written(settings, dataset, store) if written is None else written
            view, place = open_model_view(store.fetch(dataset), settings), Path(folder) / "tried"
            begun = time.monotonic()
            with search(settings, dataset, store, view, key="bench", tried=place, progress=print) as found:
                took = time.monotonic() - begun
                fit = functools.partial(
                    fit_watched,
                    view=view,
                    exclude=settings.exclude,
                    seed=settings.seed,
                    workspace=place,
                    progress=print,
                )
                ended = settle(found, fit)
        value = max(row["validation"] for row in ended.history)
        how = (
            f"{value:.4f} of trial {ended.facts['best']}, {written:.4f} as written; {took:.0f} s, "
            f"{found.facts['finish']['seconds']:.0f} of them to finish, and {time.monotonic() - begun - took:.0f} s "
            f"for the model as written to end; {len(found.facts['trials'])} trials"
        )
        print(f"{log}, {budget}: {how}")
        results.append(
            {
                "name": f"search of {budget}, {log}: winner less the model as written, validation next_ndcg@20",
                "value": value - written,
                "unit": "",
                "floor": 0.0,
                "lower_is_better": False,
                "how": how,
            }
        )
    return results


def _as_written(settings: TrainSettings, dataset: str, store: Store) -> float:
    """Validation of the model as the spec has it, fitted to its early stop."""
    view = open_model_view(store.fetch(dataset), settings)
    learned = fit_watched(settings.model, view, settings.exclude, seed=settings.seed)
    return max(row["validation"] for row in learned.report.history)
