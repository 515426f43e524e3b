"""A model that takes its time, and notes which process it is asked in."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from endcap.features.sessions import Sessions
from endcap.models import FitReport, Fitting, Model, files
from endcap.models.custom import description
from endcap.spec.base import Strict


class Slow(Model):
    """Scores an item by how far it is from the session's last one."""

    name = "custom"

    class Parameters(Strict):
        """None."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.n_items = 0

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        self.n_items = n_items
        return FitReport()

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        if folder := os.environ.get("ENDCAP_TEST_ASKED"):
            Path(folder, f"asked-{os.getpid()}").touch()
            time.sleep(0.3)
        last = sessions.items[sessions.offsets[1:] - 1]
        return np.abs(last[:, None] - np.arange(self.n_items)).astype(np.float32)

    def save(self, folder: Path) -> None:
        files.write(folder, description(self), {})

    @classmethod
    def load(cls, folder: Path) -> Self:
        model = cls(cls.Parameters())
        model.n_items = files.describe(folder)["n_items"]
        return model
