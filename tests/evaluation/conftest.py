"""A model whose scores are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from endcap.features.queries import QueryTargets, select_targets
from endcap.features.sessions import Sessions
from endcap.models import FitReport, Fitting, Model


class AfterLast(Model):
    """Scores by the session's last item: a table [n_items, n_items]; nothing after an empty session."""

    name = "after-last"

    def __init__(self, parameters: Any) -> None:
        self.table = np.asarray(parameters, dtype=np.float32)
        self.n_items = len(self.table)

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        return FitReport()

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        scores = np.full((len(sessions), self.n_items), -np.inf, dtype=np.float32)
        some = np.flatnonzero(sessions.lengths)
        scores[some] = self.table[sessions.items[sessions.offsets[1:][some] - 1]]
        return scores

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Self:
        raise NotImplementedError


def random_sessions(seed: int, count: int, n_items: int, longest: int = 12) -> Sessions:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, longest, count)
    return Sessions.of([generator.integers(0, n_items, length).tolist() for length in lengths])


def every(test: Sessions) -> QueryTargets:
    """Each event of the sessions but their first, in file order."""
    return select_targets(test, "every-prefix", "file")


def last(test: Sessions) -> QueryTargets:
    """The last event of each session."""
    return select_targets(test, "leave-one-out", "file")
