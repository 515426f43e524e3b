"""Items by their number of training events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from endcap.features.sessions import Sessions
from endcap.models.base import FitReport, Fitting, Model, ModelState
from endcap.spec.model import PopularitySpec


class Popularity(Model):
    """The same ranking for all sessions. Items without events come last, in vocabulary order."""

    name = "popularity"
    specification: ClassVar[Any] = PopularitySpec

    def __init__(self, parameters: Any) -> None:
        self.parameters = parameters
        self.n_items = 0
        self.counts = np.zeros(0, dtype=np.int64)

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        self.n_items = n_items
        self.counts = np.bincount(self.select_events(train), minlength=n_items).astype(np.int64)
        return FitReport()

    def select_events(self, train: Sessions) -> NDArray[np.int32]:
        """Return the items of the events that count: int32 [events]."""
        return train.items

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        return np.tile(self.counts.astype(np.float32), (len(sessions), 1))

    def score_items(self, sessions: Sessions, items: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """See `Model.score_items`."""
        return [self.counts[indices].astype(np.float32) for indices in items]

    def get_state(self) -> ModelState:
        return ModelState({"counts": self.counts})

    def set_state(self, state: ModelState) -> None:
        self.counts = state.arrays["counts"]
