"""A preprocessor: items that stand in very many sessions, such as a voucher, are hidden from the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field
from safetensors.numpy import load_file, save_file

from endcap.features.sessions import Sessions
from endcap.preprocessing import Preprocessor, Training, where
from endcap.spec.base import Strict


class DropCommon(Preprocessor):
    """Drops the events of every item that more than `share` of the training sessions have."""

    class Parameters(Strict):
        share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.common = np.zeros(0, dtype=np.bool_)  # by item

    def fit(self, training: Training) -> None:
        sessions = training.sessions
        pairs = np.unique(sessions.session_of_event * np.int64(training.n_items) + sessions.items)
        having = np.bincount(pairs % max(1, training.n_items), minlength=training.n_items)
        self.common = having > self.parameters.share * len(sessions)

    def transform(self, sessions: Sessions) -> Sessions:
        return where(sessions, ~self.common[sessions.items])

    def save(self, folder: Path) -> None:
        save_file({"common": self.common}, folder / "state.safetensors")

    @classmethod
    def load(cls, folder: Path, parameters: Parameters) -> Self:
        step = cls(parameters)
        step.common = load_file(folder / "state.safetensors")["common"]
        return step
