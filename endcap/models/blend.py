"""Several models as one: a log-linear pool of their opinions, weighed on the validation part."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from endcap.features.sessions import Sessions
from endcap.models import files
from endcap.models.base import FitReport, Fitting, Model
from endcap.models.catalogue import load, make
from endcap.models.pool import Scale, Votes, weights_of
from endcap.models.validation import Validation
from endcap.spec.model import BlendSpec

_SCORE_BYTES = 64 * 2**20


class Blend(Model):
    """score(i) = sum over members of weight * log(p(i) + floor), p being the member's scores made into probabilities.

    A member's scale and the weights (at least 0) maximise the likelihood of what came next in validation sessions
    (logarithmic pooling: Genest and Zidek, 1986, "Combining probability distributions"). The floor is `FLOOR` of a
    uniform share: what a member has no opinion on, it does not veto. An item that no member has an opinion on has none.
    """

    name = "blend"
    needs_validation = True

    def __init__(self, parameters: BlendSpec) -> None:
        self.parameters = parameters
        self.n_items = 0
        self._members = {label: make(spec) for label, spec in parameters.members.items()}
        self._weights = dict.fromkeys(self._members, 1.0 / len(self._members))
        self._scales = {label: Scale() for label in self._members}

    def members(self) -> Mapping[str, Model]:
        """The fitted models by their labels."""
        return dict(self._members)

    @property
    def weights(self) -> Mapping[str, float]:
        """What each member's opinion counts."""
        return dict(self._weights)

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        """Fit each member, then their weights; with `found` the weights are taken from there."""
        self.n_items = n_items
        found = dict(fitting.found or {})
        reports = {}
        for label, member in self._members.items():
            fitting.progress(f"{label}:")
            reports[label] = member.fit(train, n_items, _member_s(fitting, label, found))
        if "weights" in found:
            self._weights = {label: float(found["weights"][label]) for label in self._members}
            self._scales = {label: Scale(**found["scales"][label]) for label in self._members}
        elif fitting.validation is not None and len(fitting.validation):
            self._weigh(fitting.validation, fitting.progress)
        else:
            fitting.progress("warning: no validation sessions to weigh the members by: all count the same")
        return FitReport(
            {
                "members": {label: dict(report.found) for label, report in reports.items()},
                "weights": self._weights,
                "scales": {label: dataclasses.asdict(scale) for label, scale in self._scales.items()},
            },
            side_by_side(reports),
        )

    def _weigh(self, validation: Validation, progress: Callable[[str], None]) -> None:
        votes = Votes(validation.wanted, self.n_items)
        for label, member in self._members.items():
            for rows, scores in _scored(member, validation):
                votes.sample(label, rows, scores)
            self._scales[label] = votes.scale(label)
        for rows, scores in _scored_together(self._members, validation):
            votes.add(rows, {label: self._scales[label].probabilities(scores[label]) for label in scores})
        self._weights = dict(zip(self._members, weights_of(votes).tolist(), strict=True))
        progress("weights: " + ", ".join(f"{label} {weight:.3f}" for label, weight in self._weights.items()))

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        return self._pooled(len(sessions), lambda member: member.score(sessions))

    def score_items(self, sessions: Sessions, items: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """See `Model.score_items`. A member's probabilities add up over the catalogue, so each scores all of it."""
        totals = [np.zeros(len(asked), dtype=np.float32) for asked in items]
        opinions = [np.zeros(len(asked), dtype=np.bool_) for asked in items]
        for label, weight in self._weights.items():
            if weight > 0:
                scores = self._members[label].score(sessions)
                logs = self._scales[label].log_of_some(scores, items)
                for row, asked in enumerate(items):
                    totals[row] += np.float32(weight) * logs[row]
                    opinions[row] |= np.isfinite(scores[row, asked])
        for total, opinion in zip(totals, opinions, strict=True):
            total[~opinion] = -np.inf
        return totals

    def score_prefixes(self, sessions: Sessions) -> NDArray[np.float32]:
        """See `Model.score_prefixes`: each member in its own way."""
        prefixes = int(np.maximum(sessions.lengths - 1, 0).sum())
        return self._pooled(prefixes, lambda member: member.score_prefixes(sessions))

    def _pooled(self, rows: int, asked: Callable[[Model], NDArray[np.float32]]) -> NDArray[np.float32]:
        """The pool of what the members that have a weight answer: float32 [rows, n_items]."""
        total = np.zeros((rows, self.n_items), dtype=np.float32)
        opinion = np.zeros(total.shape, dtype=np.bool_)
        for label, weight in self._weights.items():
            if weight > 0:
                self._scales[label].add_log(total, opinion, asked(self._members[label]), weight)
        total[~opinion] = -np.inf
        return total

    def save(self, folder: Path) -> None:
        description = {
            "name": self.name,
            "parameters": self.parameters.model_dump(mode="json"),
            "n_items": self.n_items,
            "weights": self._weights,
            "scales": {label: dataclasses.asdict(scale) for label, scale in self._scales.items()},
        }
        files.write(folder, description, {})
        for label, member in self._members.items():
            (folder / label).mkdir()
            member.save(folder / label)

    @classmethod
    def load(cls, folder: Path) -> Self:
        description = files.describe(folder)
        model = cls(BlendSpec.model_validate(description["parameters"]))
        model.n_items = description["n_items"]
        model._weights = description["weights"]
        model._scales = {label: Scale(**values) for label, values in description["scales"].items()}
        model._members = {label: load(folder / label) for label in model._members}
        return model


def _member_s(fitting: Fitting, label: str, found: Mapping[str, Any]) -> Fitting:
    """How a member is fitted: in a folder of its own, with what was found out about it."""
    workspace = None
    if fitting.workspace is not None:
        workspace = fitting.workspace / label
        workspace.mkdir(exist_ok=True)
    own = None if fitting.found is None else found.get("members", {}).get(label, {})

    def observe(row: Mapping[str, float]) -> bool:
        return fitting.observe(_labelled(label, row))

    return dataclasses.replace(fitting, found=own, workspace=workspace, observe=observe)


def _scored(model: Model, validation: Validation) -> Any:
    """Blocks of validation: (rows, the model's scores less what is excluded)."""
    for rows, scores in _scored_together({"": model}, validation):
        yield rows, scores[""]


def _scored_together(models: Mapping[str, Model], validation: Validation) -> Any:
    """Blocks of validation: (rows, each model's scores less what is excluded)."""
    n_items = next(iter(models.values())).n_items
    size = max(1, _SCORE_BYTES // (4 * max(1, n_items)))
    for begin in range(0, len(validation), size):
        rows = np.arange(begin, min(begin + size, len(validation)))
        asked = validation.asked.take(validation.row[rows])
        scores = {}
        for label, model in models.items():
            scores[label] = model.score(asked)
            validation.mask(scores[label], validation.row[rows])
        yield rows, scores


def _labelled(label: str, row: Mapping[str, float]) -> dict[str, float]:
    return {name if name == "epoch" else f"{label}/{name}": value for name, value in row.items()}


def side_by_side(reports: Mapping[str, FitReport]) -> list[Mapping[str, float]]:
    """The members' histories by epoch: each quantity is named `label/quantity`."""
    rows: dict[float, dict[str, float]] = {}
    for label, report in reports.items():
        for row in report.history:
            rows.setdefault(row["epoch"], {}).update(_labelled(label, row))
    return [rows[epoch] for epoch in sorted(rows)]
