"""Stand-ins for models in tests and measurements of the search: they cost a known time and are worth a known value."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from endcap.errors import DivergedError
from endcap.features.sessions import Sessions
from endcap.features.stream import SessionStream
from endcap.models import FitReport, Fitting, Model, checkpoint, files
from endcap.models.custom import description
from endcap.spec.base import Strict
from endcap.spec.space import Space, between

PATH = "tests.training.stand_ins:Sleeper"
STREAMED = "tests.training.stand_ins:Streamed"


class Sleeper(Model):
    """Learns nothing: its epochs last `seconds` each, and its value after epoch e of n is e/n of 1 - |x - 0.7|."""

    name = "custom"
    needs_validation = True

    class Parameters(Strict):
        x: float = 0.1
        seconds: float = 0.0
        max_epochs: int = 3
        says_nice: bool = False
        """Each epoch's row tells how nice its process is."""
        fault: Literal["none", "diverges", "dies", "dies-once", "needs-memory"] = "none"

        space: ClassVar[Space] = {"x": between(0.0, 1.0)}
        starts: ClassVar[list[dict[str, Any]]] = [{"x": 0.5}]

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.n_items = 0

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        self.n_items = n_items
        p = self.parameters
        if fitting.settings is not None:
            return FitReport(fitting.settings)
        history: list[dict[str, float]] = []
        kept = checkpoint.read(fitting.workspace, "sleeper") if fitting.workspace else None
        first = 0 if kept is None else int(kept[0]["epoch"])
        for epoch in range(first + 1, p.max_epochs + 1):
            time.sleep(p.seconds)
            self._fault(fitting.workspace, epoch)
            value = epoch / p.max_epochs * (1 - abs(p.x - 0.7))
            history.append({"epoch": epoch, "validation": value, "began_at": first})
            if p.says_nice:
                history[-1]["nice"] = os.nice(0)
            if fitting.workspace:
                checkpoint.write(fitting.workspace, "sleeper", {"epoch": epoch}, {})
            if not fitting.observe(history[-1]):
                break
        return FitReport({"epochs": len(history) + first}, history)

    def _fault(self, workspace: Path | None, epoch: int) -> None:
        fault = self.parameters.fault
        if fault == "diverges":
            raise DivergedError("the loss of epoch 1 is nan; lower model.learning_rate", code="models.diverged")
        if fault == "needs-memory":
            raise MemoryError
        # As the kernel and Ray's monitor end a process that takes too much.
        if fault == "dies" or (fault == "dies-once" and epoch == 2 and workspace and not (workspace / "died").exists()):
            if workspace:
                (workspace / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        return np.zeros((len(sessions), self.n_items), dtype=np.float32)

    def save(self, folder: Path) -> None:
        files.write(folder, description(self), {})

    @classmethod
    def load(cls, folder: Path) -> Self:
        known = files.describe(folder)
        model = cls(cls.Parameters.model_validate(known["parameters"]))
        model.n_items = known["n_items"]
        return model


class Streamed(Model):
    """Popularity out of a stream: items by how many sessions have them, in two passes."""

    name = "custom"
    streams = True
    needs_validation = True

    class Parameters(Strict):
        pass

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.n_items = 0

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        raise AssertionError("it is fitted on a stream")

    def fit_stream(self, train: SessionStream, n_items: int, fitting: Fitting) -> FitReport:
        self.n_items, self.counts, history = n_items, np.zeros(n_items, dtype=np.float32), list[dict[str, float]]()
        for number in range(2):
            for batch in train.epoch(number):
                pairs = np.unique(batch.session_of_event * n_items + batch.items)
                self.counts += np.bincount(pairs % n_items, minlength=n_items)
            if fitting.validation is not None:
                history.append({"epoch": number + 1, "validation": fitting.validation.measure(self)})
        return FitReport(fitting.settings or {"epochs": 2}, history)

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        return np.repeat(self.counts[None], len(sessions), axis=0)

    def save(self, folder: Path) -> None:
        files.write(folder, description(self), {"counts": self.counts})

    @classmethod
    def load(cls, folder: Path) -> Self:
        known = files.describe(folder)
        model = cls(cls.Parameters.model_validate(known["parameters"]))
        model.n_items, model.counts = known["n_items"], files.tensors(folder)["counts"]
        return model
