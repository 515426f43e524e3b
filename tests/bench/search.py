"""What Ray, Tune and Optuna add to the time of trials: a search beside a plain loop at equal concurrency.

Trials are stand-ins that sleep, so that nothing but the overhead differs. ENDCAP_BENCH_TRIAL: seconds of one, 30 as the
floor has it.
"""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from endcap.features.view import open_view
from endcap.spec.settings import TrainSettings
from endcap.store import open_store
from endcap.training.search import search
from tests.training.given import little_dataset, sleeper

TRIALS, EPOCHS, AT_ONCE = 20, 10, 2


def measure() -> list[dict[str, Any]]:
    seconds = float(os.environ.get("ENDCAP_BENCH_TRIAL", "30"))
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
        found = search(settings, dataset, store, view, key="bench", work=Path(folder) / "work", progress=print)
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
