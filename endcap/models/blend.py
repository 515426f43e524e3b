"""Several models as one: a logarithmic pool of their opinions, with weights that are chosen on the validation part."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from endcap.errors import DivergedError
from endcap.features.sessions import Sessions
from endcap.models import files
from endcap.models.base import FitReport, Fitting, Model, ModelState
from endcap.models.blend_weights import choose_weights
from endcap.models.catalogue import load, make
from endcap.models.opinion_pool import Scale
from endcap.models.validation import Validation
from endcap.progress import Notice
from endcap.spec.model import BlendSpec
from endcap.spec.side_features import list_feature_names

_LOOKED_AT = 200
"""Validation histories whose scores show whether a member has any."""


class Blend(Model):
    """A logarithmic pool of models: score(i) = sum over members of weight * log(p(i) + floor).

    Parameters
    ----------
    parameters
        The members' specs, by label.
    members
        Fitted members, by label; None: all are made, to be fitted.

    Notes
    -----
    p are the member's scores as probabilities (`Scale`). The pool is that of Genest and Zidek, 1986, "Combining
    probability distributions"; `choose_weights` finds its weights. The floor is `FLOOR` of a uniform share, so that a
    member without an opinion on an item does not veto it. The blend has no opinion on an item if no member has one. A
    member of weight 0 is dropped: it is neither saved nor loaded, nor fitted if the weights are known before. A member
    that stands alone keeps its scores.
    """

    name = "blend"
    specification = BlendSpec
    needs_validation = True

    def __init__(self, parameters: BlendSpec, members: Mapping[str, Model] | None = None) -> None:
        self.parameters = parameters
        self.n_items = 0
        models = {label: make(spec) for label, spec in parameters.members.items()} if members is None else members
        self._members = dict(models)
        self._weights = dict.fromkeys(parameters.members, 1.0 / len(parameters.members))
        self._scales = {label: Scale() for label in parameters.members}

    def members(self) -> Mapping[str, Model]:
        """Return the members with a weight, by label; before the fit all members."""
        return dict(self._members)

    @property
    def weights(self) -> Mapping[str, float]:
        """The weight of each member, 0 for a dropped one."""
        return dict(self._weights)

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        """Fit each member, then the weights. If `fitting.settings` has the weights, only members with a weight are
        fitted.

        If the weights are not known, a member is left out with a warning if its training diverges or its scores are no
        numbers. FitReport.settings then names it under `left_out` with the error's code.

        Raises
        ------
        DivergedError
            No member is left. Or a member diverges whose weight is known: without it this would be another model.
        """
        self.n_items = n_items
        settings = dict(fitting.settings or {})
        if "weights" in settings:
            self._set_weights(
                settings["weights"], {label: Scale(**scale) for label, scale in settings["scales"].items()}
            )
        reports, left_out = self._fit_members(train, fitting, settings)
        choice = {} if "weights" in settings else self._weigh(fitting)
        if left_out:
            choice["left_out"] = left_out
        return FitReport(
            {
                "members": {label: dict(report.settings) for label, report in reports.items()},
                "weights": self._weights,
                "scales": {label: dataclasses.asdict(scale) for label, scale in self._scales.items()},
                **choice,
            },
            score_side_by_side(reports),
        )

    def _fit_members(
        self, train: Sessions, fitting: Fitting, settings: Mapping[str, Any]
    ) -> tuple[dict[str, FitReport], dict[str, dict[str, str]]]:
        """Return the reports of the fitted members, and why others were left out."""
        reports, left_out = {}, {}
        for label, member in list(self._members.items()):
            fitting.progress(f"{label}:")
            try:
                reports[label] = member.fit(train, self.n_items, self._make_member_fitting(fitting, label, settings))
                _refuse_unusable(label, member, reports[label], fitting.validation)
            except DivergedError as error:
                if "weights" in settings or len(self._members) == 1:
                    raise
                left_out[label] = {"code": error.code, "reason": str(error)}
                fitting.progress(Notice(f"{label} is left out of the blend: {error}", member=label, code=error.code))
                del self._members[label]
                self._weights[label] = 0.0
        return reports, left_out

    def _make_member_fitting(self, fitting: Fitting, label: str, settings: Mapping[str, Any]) -> Fitting:
        """Return how a member is fitted: in a folder of its own, with its own settings, as if it were alone."""
        workspace = None
        if fitting.workspace is not None:
            workspace = fitting.workspace / label
            workspace.mkdir(exist_ok=True)
        own = None if fitting.settings is None else settings.get("members", {}).get(label, {})
        attributes = list_feature_names({(): self.parameters.members[label]}, "item_features").values()
        codes = {name: values for name, values in fitting.item_features.items() if name in attributes}

        def observe(row: Mapping[str, float]) -> bool:
            return fitting.observe(_label_row(label, row))

        return dataclasses.replace(fitting, settings=own, workspace=workspace, observe=observe, item_features=codes)

    def _weigh(self, fitting: Fitting) -> dict[str, Any]:
        """Find the weights; return what they were chosen by, for FitReport.settings."""
        if fitting.validation is None or not len(fitting.validation):
            fitting.progress("warning: no validation sessions to weigh the members by: all count the same")
            self._weights |= dict.fromkeys(self._members, 1.0 / len(self._members))
            return {}
        weighed = choose_weights(self._members, fitting.validation, fitting.seed, self._make_pool)
        self._set_weights(weighed.weights, weighed.scales)
        for line in weighed.lines():
            fitting.progress(line)
        return {"validation": weighed.to_json()}

    def _make_pool(self, scales: Mapping[str, Scale], weights: Mapping[str, float]) -> Self:
        """Return these members with other weights."""
        other = copy.copy(self)
        other._set_weights(weights, scales)
        return other

    def _set_weights(self, weights: Mapping[str, float], scales: Mapping[str, Scale]) -> None:
        """Set scales and weights, and keep only members with a weight."""
        self._weights, self._scales = {**self._weights, **weights}, {**self._scales, **scales}
        self._members = {label: member for label, member in self._members.items() if self._weights[label] > 0}

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        return self._pool(len(sessions), lambda member: member.score(sessions))

    def score_items(self, sessions: Sessions, items: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """See `Model.score_items`. Probabilities add up over the catalogue, so each member scores all items."""
        if alone := self._find_single_member():
            return alone.score_items(sessions, items)
        totals = [np.zeros(len(indices), dtype=np.float32) for indices in items]
        opinions = [np.zeros(len(indices), dtype=np.bool_) for indices in items]
        for label, member in self._members.items():
            scores = member.score(sessions)
            logs = self._scales[label].compute_some_logs(scores, items)
            for row, indices in enumerate(items):
                totals[row] += np.float32(self._weights[label]) * logs[row]
                opinions[row] |= np.isfinite(scores[row, indices])
        for total, opinion in zip(totals, opinions, strict=True):
            total[~opinion] = -np.inf
        return totals

    def score_prefixes(self, sessions: Sessions) -> NDArray[np.float32]:
        """See `Model.score_prefixes`: each member scores in its own way."""
        prefixes = int(np.maximum(sessions.lengths - 1, 0).sum())
        return self._pool(prefixes, lambda member: member.score_prefixes(sessions))

    def _pool(self, rows: int, score: Callable[[Model], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the pool of the members' scores: float32 [rows, n_items]."""
        if alone := self._find_single_member():
            return score(alone)
        total = np.zeros((rows, self.n_items), dtype=np.float32)
        opinion = np.zeros(total.shape, dtype=np.bool_)
        for label, member in self._members.items():
            self._scales[label].add_log(total, opinion, score(member), self._weights[label])
        total[~opinion] = -np.inf
        return total

    def _find_single_member(self) -> Model | None:
        """Return the member that stands alone; None if members are pooled."""
        return next((member for label, member in self._members.items() if self._scales[label].kind == "alone"), None)

    def get_state(self) -> ModelState:
        scales = {label: dataclasses.asdict(scale) for label, scale in self._scales.items()}
        return ModelState(settings={"weights": self._weights, "scales": scales})

    def save(self, folder: Path) -> None:
        """See `Model.save`: each member has a folder of its own."""
        super().save(folder)
        for label, member in self._members.items():
            (folder / label).mkdir()
            member.save(folder / label)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """See `Model.load`."""
        description = files.describe(folder)
        weights = description["weights"]
        members = {label: load(folder / label) for label, weight in weights.items() if weight > 0}
        model = cls(BlendSpec.model_validate(description["parameters"]), members)
        model.n_items = description["n_items"]
        model._set_weights(weights, {label: Scale(**scale) for label, scale in description["scales"].items()})
        return model


def _refuse_unusable(label: str, member: Model, report: FitReport, validation: Validation | None) -> None:
    """Raise DivergedError if a member's validation or scores are no numbers."""
    measured = [row["validation"] for row in report.history if "validation" in row]
    is_unusable = bool(measured) and bool(np.isnan(measured).all())
    if not is_unusable and validation is not None:
        is_unusable = bool(
            np.isnan(member.score(validation.queries.take(np.arange(len(validation.queries))[:_LOOKED_AT]))).any()
        )
    if is_unusable:
        raise DivergedError(
            f"the scores of {label} are no numbers; lower its learning_rate, or correct the class if it is your own",
            code="models.no-numbers",
            member=label,
        )


def _label_row(label: str, row: Mapping[str, float]) -> dict[str, float]:
    return {name if name == "epoch" else f"{label}/{name}": value for name, value in row.items()}


def score_side_by_side(reports: Mapping[str, FitReport]) -> list[Mapping[str, float]]:
    """Return the members' histories as one, by epoch; each quantity is named `label/quantity`."""
    rows: dict[float, dict[str, float]] = {}
    for label, report in reports.items():
        for row in report.history:
            rows.setdefault(row["epoch"], {}).update(_label_row(label, row))
    return [rows[epoch] for epoch in sorted(rows)]
