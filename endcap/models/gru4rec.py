"""GRU4Rec: a recurrent network over the session (Hidasi et al., 2016; Hidasi and Karatzoglou, 2018)."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from endcap.errors import DivergedError
from endcap.features.sessions import Sessions
from endcap.models import checkpoint, files
from endcap.models.base import FitReport, Fitting, Model
from endcap.models.checkpoint import Arrays
from endcap.models.gru4rec_network import Network, best_device, bucket_counts
from endcap.models.gru4rec_training import Adagrad, Trainer
from endcap.spec.neural import GRU4RecSpec
from endcap.store import fingerprint


class GRU4Rec(Model):
    """See `Network` for the weights and `Trainer` for how they are learnt. Never opines on items unseen in training."""

    name = "gru4rec"
    needs_validation = True

    def __init__(self, parameters: GRU4RecSpec) -> None:
        self.parameters = parameters
        self.n_items = 0
        self.device = best_device()
        self.network = Network.drawn(np.zeros(0, dtype=np.int64), parameters.width, {}, 0, self.device)

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        """Learn; see `Model.fit`. On a CPU the same arguments give the same weights, killed in between or not.

        Raises UserError where a feature is not there or the loss is no number any more.
        """
        self.n_items = n_items
        fit = _fit_fingerprint(self.parameters, train, n_items, fitting)
        adagrad, progress = self._start(train, fitting, fit)
        trainer = Trainer(self.network, adagrad, train, self.parameters, fitting.seed)
        limit = (
            self.parameters.max_epochs
            if fitting.found is None
            else int(fitting.found.get("epochs", self.parameters.max_epochs))
        )
        validate = fitting.validation.measure if fitting.validation and fitting.found is None else None
        going = True
        while going and not progress.done(limit, self.parameters.patience if validate else None):
            started = time.monotonic()
            loss = trainer.epoch(progress.epoch)
            if not math.isfinite(loss):
                raise DivergedError(
                    f"the loss of epoch {progress.epoch + 1} is {loss}; lower model.learning_rate "
                    f"(now {self.parameters.learning_rate})"
                )
            row = {"epoch": progress.epoch + 1, "loss": loss}
            if validate:
                row["validation"] = validate(self)
            progress.add(row, time.monotonic() - started, self.network, keep_best=validate is not None)
            if fitting.workspace is not None:
                groups = {"network": self.network.arrays(), "adagrad": adagrad.arrays(), "best": progress.weights}
                checkpoint.write(fitting.workspace, fit, progress.state(), groups)
            fitting.progress(progress.line(limit))
            going = fitting.observe(progress.history[-1])
        if validate and progress.weights:
            self.network = Network.from_arrays(progress.weights, self.device)
        return FitReport({"epochs": progress.best if validate else progress.epoch}, list(progress.history))

    def _start(self, train: Sessions, fitting: Fitting, fit: str) -> tuple[Adagrad, _Progress]:
        """Take up the checkpoint of the same fit, or begin with weights drawn from the seed."""
        found = checkpoint.read(fitting.workspace, fit) if fitting.workspace is not None else None
        if found is not None:
            state, groups = found
            self.network = Network.from_arrays(groups["network"], self.device)
            sums = Network.from_arrays(groups["adagrad"], self.device).weights
            fitting.progress(f"going on after epoch {state['epoch']}")
            progress = _Progress(**state, weights=groups.get("best", {}))
            return Adagrad(self.network, self.parameters.learning_rate, sums), progress
        counts = np.bincount(train.items, minlength=self.n_items)
        buckets = bucket_counts(train, self.parameters.features)
        self.network = Network.drawn(counts, self.parameters.width, buckets, fitting.seed, self.device)
        return Adagrad.fresh(self.network, self.parameters.learning_rate), _Progress()

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        scores = self.network.scores(sessions.last(self.parameters.max_events))
        scores[sessions.lengths == 0] = -np.inf
        return scores

    def save(self, folder: Path) -> None:
        description = {
            "name": self.name,
            "parameters": self.parameters.model_dump(mode="json"),
            "n_items": self.n_items,
        }
        files.write(folder, description, self.network.arrays())

    @classmethod
    def load(cls, folder: Path) -> Self:
        description = files.describe(folder)
        model = cls(GRU4RecSpec.model_validate(description["parameters"]))
        model.n_items = description["n_items"]
        model.network = Network.from_arrays(files.tensors(folder), model.device)
        return model


@dataclass
class _Progress:
    """How far a fit is. epoch: how many are done; best: the best of them (from 1); weights: the network's after it."""

    epoch: int = 0
    best: int = 0
    best_validation: float = -math.inf
    history: list[dict[str, float]] = field(default_factory=list)
    weights: Arrays = field(default_factory=dict)

    def add(self, row: dict[str, float], seconds: float, network: Network, *, keep_best: bool) -> None:
        self.epoch += 1
        self.history.append({**row, "seconds": round(seconds, 3)})
        if keep_best and row["validation"] > self.best_validation:
            self.best, self.best_validation, self.weights = self.epoch, row["validation"], network.arrays()

    def done(self, limit: int, patience: int | None) -> bool:
        return self.epoch >= limit or (patience is not None and self.epoch - self.best >= patience)

    def line(self, limit: int) -> str:
        row = self.history[-1]
        validation = f"  validation {row['validation']:.4f}" if "validation" in row else ""
        return f"epoch {self.epoch}/{limit}  loss {row['loss']:.4f}{validation}  {row['seconds']:.1f} s"

    def state(self) -> dict[str, Any]:
        best_validation = self.best_validation
        return {"epoch": self.epoch, "best": self.best, "best_validation": best_validation, "history": self.history}


def _fit_fingerprint(parameters: GRU4RecSpec, train: Sessions, n_items: int, fitting: Fitting) -> str:
    """What a checkpoint belongs to."""
    digest = hashlib.sha256()
    for values in (train.items, train.offsets, *(train.features[name] for name in sorted(train.features))):
        digest.update(np.ascontiguousarray(values).tobytes())
    arguments = [n_items, fitting.seed, dict(fitting.found or {}), fitting.validation is not None]
    return fingerprint(parameters.model_dump(mode="json"), arguments, digest.hexdigest())
