"""How much longer evaluation takes than the matrix products and the top k that it cannot do without."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parents[3] / "shared" / "data" / "rsc15_100k"
WIDTH = 100
CUTOFFS = [5, 10, 20]
ROUNDS = 3
FLOOR = 2.0
ITEMS, SESSIONS = 40_000, 4_500
BLOCK = 1024


def measure() -> list[dict[str, Any]]:
    cases = {f"{ITEMS:,} items, simulated": lambda: _simulated(SESSIONS, ITEMS)}
    if DATA.is_dir():
        cases["rsc15"] = _rsc15
    else:
        print("rsc15 skipped: no ../shared/data beside this checkout")
    return [_measured(name, *make()) for name, make in cases.items()]


def _measured(name: str, test: Any, n_items: int) -> dict[str, Any]:
    from endcap.evaluation.metrics import ItemPopularity
    from endcap.evaluation.model_metrics import measure_model
    from endcap.evaluation.scoring import EvaluatedModel
    from endcap.features.queries import select_targets
    from endcap.models import Fitting, make
    from endcap.spec.neural import GRU4RecSpec

    model = make(GRU4RecSpec(width=WIDTH, max_epochs=1, batch_size=512, negatives=64))
    # What the weights are is of no matter here: one pass over a part of the sessions shapes them.
    model.fit(test.take(np.arange(min(1000, len(test)))), n_items, Fitting(seed=1))
    popularity, first_seen = ItemPopularity.of(test, n_items), np.zeros(n_items, dtype=np.int64)
    predictions = int((test.lengths - 1).sum())

    def whole() -> None:
        wanted = select_targets(test, "every-prefix", "file")
        measure_model(EvaluatedModel(model), wanted, CUTOFFS, popularity, first_seen=first_seen)

    bare = _bare(test, predictions, n_items)
    # Taken in turns, so that what else the machine does falls on both.
    times = [(_seconds(bare), _seconds(whole)) for _ in range(ROUNDS)]
    least, taken = (min(column) for column in zip(*times, strict=True))
    return {
        "name": f"evaluation over its products and top k: {name}",
        "value": taken / least,
        "unit": "times",
        "floor": FLOOR,
        "lower_is_better": True,
        "how": f"GRU4Rec, width {WIDTH}, {predictions:,} predictions of {n_items:,} items in {taken:.2f} s; "
        f"the products and torch.topk alone, in blocks of {BLOCK}: {least:.2f} s; best of {ROUNDS} in turns",
    }


def _bare(test: Any, predictions: int, n_items: int) -> Callable[[], None]:
    """A GRU's products for each event of the sessions, the scores of all items for each prediction, the best 20."""
    import torch

    generator = torch.Generator().manual_seed(1)
    events = torch.randn(len(test.items), WIDTH, generator=generator)
    hidden = torch.randn(predictions, WIDTH, generator=generator)
    gates, items = (torch.randn(size, WIDTH, generator=generator) for size in (3 * WIDTH, n_items))

    def run() -> None:
        with torch.inference_mode():
            for start in range(0, len(events), BLOCK):
                part = events[start : start + BLOCK]
                part @ gates.T
                part @ gates.T
            for start in range(0, predictions, BLOCK):
                torch.topk(hidden[start : start + BLOCK] @ items.T, max(CUTOFFS))

    return run


def _seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _simulated(sessions: int, n_items: int) -> tuple[Any, int]:
    from endcap.features.sessions import Sessions

    rng = np.random.default_rng(1)
    offsets = np.concatenate([[0], np.cumsum(rng.geometric(1 / 4.5, sessions) + 1)]).astype(np.int64)
    items = np.minimum(rng.geometric(8 / n_items, offsets[-1]), n_items - 1).astype(np.int32)
    times = np.arange(offsets[-1]) * 1000
    return Sessions(items, times, offsets, np.full(sessions, -1, dtype=np.int32)), n_items


def _rsc15() -> tuple[Any, int]:
    """The test file's sessions, in the items of the training file."""
    import pandas as pd

    from endcap.features.sessions import Sessions

    def read(name: str) -> pd.DataFrame:
        frame = pd.read_csv(DATA / f"yoochoose-clicks-100k_{name}.txt.xz", sep="\t")
        return frame.sort_values(["SessionId", "Time"], kind="stable")

    items = {item: index for index, item in enumerate(read("train_full").ItemId.value_counts().index)}
    test = read("test")
    known = test[test.ItemId.isin(items.keys())]
    return Sessions.of(known.ItemId.map(items).groupby(known.SessionId).agg(list).tolist()), len(items)
