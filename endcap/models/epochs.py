"""Fits that run in epochs: when to stop, which epoch to keep, and how a killed fit continues."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from endcap.errors import DivergedError
from endcap.features.sessions import Sessions
from endcap.models import checkpoint
from endcap.models.base import FitReport, Fitting, Model
from endcap.models.checkpoint import Arrays
from endcap.models.validation import Validation
from endcap.progress import Advance
from endcap.store import fingerprint


class Learner(Protocol):
    """Learns an epoch at a time. All that is random in an epoch comes from the seed and the epoch's number."""

    def epoch(self, number: int) -> float:
        """Train one epoch (from 0) and return its mean loss."""

    def weights(self) -> Arrays:
        """Return a copy of the network's weights, by name."""

    def state(self) -> Arrays:
        """Return all else that the next epoch depends on, such as the optimiser's moments."""


@dataclass
class EpochProgress:
    """How far a fit is.

    Attributes
    ----------
    epoch
        Epochs that are done.
    best
        The best epoch, from 1; 0: none yet.
    best_validation
        Its validation.
    history
        A row for each epoch.
    weights
        The network's weights after the best epoch, by name.
    """

    epoch: int = 0
    best: int = 0
    best_validation: float = -math.inf
    history: list[dict[str, float]] = field(default_factory=list)
    weights: Arrays = field(default_factory=dict)

    def add(self, row: dict[str, float], seconds: float, learner: Learner) -> None:
        """Add an epoch's row; keep the learner's weights if the epoch is the best."""
        self.epoch += 1
        self.history.append({**row, "seconds": round(seconds, 3)})
        if row.get("validation", -math.inf) > self.best_validation:
            self.best, self.best_validation, self.weights = self.epoch, row["validation"], learner.weights()

    def done(self, limit: int, patience: int | None) -> bool:
        """Return whether the fit has `limit` epochs, or no better one for `patience` epochs (None: no such limit)."""
        return self.epoch >= limit or (patience is not None and self.epoch - self.best >= patience)

    def line(self, limit: int) -> str:
        """Return the last epoch's line of progress."""
        row = self.history[-1]
        measured = "".join(f"  {name} {row[name]:.4f}" for name in row if name not in ("epoch", "loss", "seconds"))
        return f"epoch {self.epoch}/{limit}  loss {row['loss']:.4f}{measured}  {row['seconds']:.1f} s"

    def state(self) -> dict[str, Any]:
        """Return the JSON that a checkpoint keeps."""
        best_validation = self.best_validation
        return {"epoch": self.epoch, "best": self.best, "best_validation": best_validation, "history": self.history}


@dataclass(frozen=True)
class Checkpoint:
    """The state of a killed fit: its progress, the network's weights at that time, and the learner's state."""

    progress: EpochProgress
    weights: Arrays
    state: Arrays


def read_checkpoint(fitting: Fitting, fit: str) -> Checkpoint | None:
    """Read the checkpoint of the same fit from its workspace; None if there is none. fit: see `fit_fingerprint`."""
    saved = checkpoint.read(fitting.workspace, fit) if fitting.workspace is not None else None
    if saved is None:
        return None
    state, groups = saved
    fitting.progress(f"going on after epoch {state['epoch']}")
    progress = EpochProgress(**state, weights=groups.get("best", {}))
    return Checkpoint(progress, groups["network"], groups.get("state", {}))


def measure_validation(model: Model, validation: Validation) -> dict[str, float]:
    """Return the measure that a fit is steered by: next_ndcg@20 as `validation`."""
    return {"validation": validation.measure(model)}


def run_epochs(
    model: Model,
    learner: Learner,
    progress: EpochProgress,
    fitting: Fitting,
    fit: str,
    *,
    max_epochs: int,
    patience: int,
    measure: Callable[[Model, Validation], Mapping[str, float]] = measure_validation,
) -> FitReport:
    """Run as many epochs as `fitting.settings` says, or until the validation stops rising, `max_epochs` at most.

    With validation, `progress.weights` are the best epoch's afterwards, and the model should take them.

    Parameters
    ----------
    model
        The model that is validated.
    learner
        Trains the model's network.
    progress
        How far the fit is already; changed in place.
    fitting
        How the fit is done.
    fit
        See `fit_fingerprint`.
    max_epochs, patience
        Limits of the epochs in all, and of those without a better validation.
    measure
        Returns an epoch's measures on the validation part, `validation` among them.

    Raises
    ------
    DivergedError
        The loss is no finite number.
    """
    limit = max_epochs if fitting.settings is None else int(fitting.settings.get("epochs", max_epochs))
    validation = fitting.validation if fitting.settings is None else None
    continues = True
    while continues and not progress.done(limit, patience if validation else None):
        started = time.monotonic()
        loss = learner.epoch(progress.epoch)
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss of epoch {progress.epoch + 1} is {loss}; lower model.learning_rate",
                code="models.diverged",
                epoch=progress.epoch + 1,
                loss=str(loss),
            )
        row = {"epoch": progress.epoch + 1, "loss": loss}
        if validation:
            row |= measure(model, validation)
        progress.add(row, time.monotonic() - started, learner)
        if fitting.workspace is not None and fitting.keeps:
            groups = {"network": learner.weights(), "state": learner.state(), "best": progress.weights}
            checkpoint.write(fitting.workspace, fit, progress.state(), groups)
        fitting.progress(Advance(progress.line(limit), done=progress.epoch, whole=limit))
        continues = fitting.observe(progress.history[-1])
    return FitReport({"epochs": progress.best if validation else progress.epoch}, list(progress.history))


def fit_fingerprint(parameters: Mapping[str, Any], train: Sessions, n_items: int, fitting: Fitting) -> str:
    """Return the fingerprint of what a fit depends on: a model's parameters, its data, and how its end is found."""
    digest = hashlib.sha256()
    events = (train.features[name] for name in sorted(train.features))
    items = (fitting.item_features[name] for name in sorted(fitting.item_features))
    for values in (train.items, train.offsets, train.customers, *events, *items):
        digest.update(np.ascontiguousarray(values).tobytes())
    settings = None if fitting.settings is None else dict(fitting.settings)
    arguments = [n_items, fitting.seed, settings, fitting.validation is not None]
    return fingerprint(dict(parameters), arguments, digest.hexdigest())
