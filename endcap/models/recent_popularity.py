"""Items by how many events they have in the training data's last days."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from endcap.features.sessions import Sessions
from endcap.models import files
from endcap.models.base import FitReport, Fitting, Model
from endcap.spec.model import RecentPopularitySpec


class RecentPopularity(Model):
    """The same ranking for everyone. Items without recent events come last, in vocabulary order (by all events)."""

    name = "recent-popularity"

    def __init__(self, parameters: RecentPopularitySpec) -> None:
        self.parameters = parameters
        self.n_items = 0
        self.counts = np.zeros(0, dtype=np.int64)

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        self.n_items = n_items
        window = self.parameters.window // timedelta(milliseconds=1)
        recent = train.items[train.times > train.times.max() - window] if len(train.items) else train.items
        self.counts = np.bincount(recent, minlength=n_items).astype(np.int64)
        return FitReport()

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        return np.tile(self.counts.astype(np.float32), (len(sessions), 1))

    def save(self, folder: Path) -> None:
        description = {
            "name": self.name,
            "parameters": self.parameters.model_dump(mode="json"),
            "n_items": self.n_items,
        }
        files.write(folder, description, {"counts": self.counts})

    @classmethod
    def load(cls, folder: Path) -> Self:
        description = files.describe(folder)
        model = cls(RecentPopularitySpec.model_validate(description["parameters"]))
        model.n_items = description["n_items"]
        model.counts = files.tensors(folder)["counts"]
        return model
