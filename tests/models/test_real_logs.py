"""The figures that real logs are known to give. The whole catalogue is ranked after every prefix of every session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from endcap.features.sessions import Sessions
from endcap.models import Fitting, make, mask_excluded
from endcap.spec.model import ModelSpec, SequentialRulesSpec, VSKNNSpec
from endcap.spec.recommender import Exclude

RSC15 = ("rsc15_100k/yoochoose-clicks-100k_train_full.txt.xz", "rsc15_100k/yoochoose-clicks-100k_test.txt.xz")
RULES = SequentialRulesSpec(last_events=1, norm="none")
SERENADE = ("serenade_example/train.txt.xz", "serenade_example/test.txt.xz")


def read(folder: Path, files: tuple[str, str]) -> tuple[Sessions, Sessions, int]:
    """Train and test sessions over the training items, most popular first."""
    logs = [pd.read_csv(folder / file, sep="\t") for file in files]
    counts = logs[0].groupby("ItemId").size().reset_index(name="events")
    order = counts.sort_values(["events", "ItemId"], ascending=[False, True])["ItemId"]
    index = pd.Series(range(len(order)), index=order)
    train, test = (_sessions(log, index) for log in logs)
    return train, test, len(index)


def _sessions(log: pd.DataFrame, index: pd.Series) -> Sessions:
    log = log[log["ItemId"].isin(index.index)].reset_index(names="row")
    log["start"] = log.groupby("SessionId")["Time"].transform("min")
    log = log.sort_values(["start", "SessionId", "Time", "row"])
    lengths = log.groupby(["start", "SessionId"]).size().to_numpy()
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = index.loc[log["ItemId"]].to_numpy(np.int32)
    return Sessions(items, (log["Time"] * 1000).to_numpy(np.int64), offsets, np.full(len(lengths), -1, np.int32))


def hit_rate_and_mrr(spec: ModelSpec, train: Sessions, test: Sessions, n_items: int, exclude: Exclude) -> list[float]:
    model = make(spec)
    model.fit(train, n_items, Fitting())
    prefixes, following, _ = test.prefixes()
    gains = []
    for begin in range(0, len(following), 1000):
        part = prefixes.take(np.arange(begin, min(begin + 1000, len(following))))
        scores, wanted = model.score(part), following[begin : begin + 1000, None]
        mask_excluded(scores, part, exclude)
        own = np.take_along_axis(scores, wanted, axis=1)
        before = (scores > own) | ((scores == own) & (np.arange(n_items) < wanted))
        rank = before.sum(axis=1) + 1
        hit = (rank <= 20) & np.isfinite(own[:, 0])
        gains.append(np.stack([hit, hit / rank], axis=1))
    return list(np.concatenate(gains).mean(axis=0))


@pytest.mark.parametrize(
    ("files", "spec", "exclude", "predictions", "reference", "tolerance"),
    [
        pytest.param(RSC15, VSKNNSpec(), "none", 10_152, (0.6835, 0.3583), 0.003, id="rsc15-vsknn"),
        pytest.param(RSC15, RULES, "none", 10_152, (0.6183, 0.3480), 0.003, id="rsc15-rules"),
        pytest.param(
            SERENADE,
            VSKNNSpec(sample=1500, neighbours=288, last_events=4),
            "last",
            931,
            (0.6638, 0.3419),
            0.01,
            id="serenade-vsknn",
        ),
    ],
)
def test_simple_models_reach_the_reference(
    shared_data: Path,
    files: tuple[str, str],
    spec: ModelSpec,
    exclude: Exclude,
    predictions: int,
    reference: tuple[float, float],
    tolerance: float,
) -> None:
    train, test, n_items = read(shared_data, files)
    assert np.maximum(test.lengths - 1, 0).sum() == predictions
    for found, known in zip(hit_rate_and_mrr(spec, train, test, n_items, exclude), reference, strict=True):
        assert found >= known - tolerance
