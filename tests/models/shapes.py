"""Data whose answers are known, and small versions of every model."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from endcap.features.sessions import Sessions
from endcap.models import Fitting, Model, make
from endcap.spec.model import (
    GRU4RecSpec,
    ModelSpec,
    PopularitySpec,
    RecentPopularitySpec,
    SequentialRulesSpec,
    VSKNNSpec,
)

SMALL_GRU = GRU4RecSpec(width=16, batch=16, negatives=8, max_epochs=6, dropout_embedding=0.1, dropout_hidden=0.1)
SPECS: list[ModelSpec] = [
    PopularitySpec(),
    RecentPopularitySpec(window=timedelta(days=1)),
    SequentialRulesSpec(steps=3),
    VSKNNSpec(sample=50, neighbours=20, last=5),
    SMALL_GRU,
]
N_ITEMS = 12


def checkerboard(sessions: int = 240, seed: int = 7) -> Sessions:
    """Sessions of 3 to 6 items that are all even or all odd: what follows is of the same colour."""
    rng = np.random.default_rng(seed)
    items = [
        (rng.integers(0, N_ITEMS // 2, size=rng.integers(3, 7)) * 2 + number % 2).tolist() for number in range(sessions)
    ]
    times = [[1000 * (100 * number + step) for step in range(len(session))] for number, session in enumerate(items)]
    return Sessions.of(items, times)


def fitted(spec: ModelSpec, train: Sessions, n_items: int = N_ITEMS, *, seed: int = 3) -> Model:
    model = make(spec)
    model.fit(train, n_items, Fitting(seed=seed))
    return model
