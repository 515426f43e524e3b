"""Scores of other recommenders as features: a model that learns how much each of them counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from endcap.errors import UserError
from endcap.features.sessions import Sessions
from endcap.models import files
from endcap.models.base import FitReport, Fitting, Model, ModelState
from endcap.models.catalogue import load, make
from endcap.models.conditional_logit import fit_conditional_logit
from endcap.models.opinion_pool import Scale
from endcap.models.score_features import ScoreFeatures, TimeCut, fit_scales, make_choices
from endcap.progress import Notice
from endcap.spec.model import StackedSpec
from endcap.spec.side_features import list_feature_names


class Stacked(Model):
    """A weighted sum of other recommenders' scores and of a few features of its own (`ScoreFeatures`).

    Parameters
    ----------
    parameters
        The recommenders, each with the recipe of its version.
    providers
        Fitted models of the recipes, by label; None: they are made, to be fitted.

    Notes
    -----
    Stacking is that of Wolpert, 1992, "Stacked generalization"; weights that depend on the session's length are those
    of Sill et al., 2009, "Feature-weighted linear stacking". The sessions are cut at a moment (`TimeCut`). The recipes
    are fitted on what lies before it, and their scores of the sessions that begin after it teach the weights. So no
    score that the weights are learnt from comes from a model that saw its session, or anything later. Then the recipes
    are fitted again, on all sessions.
    """

    name = "stacked"
    specification = StackedSpec

    def __init__(self, parameters: StackedSpec, providers: Mapping[str, Model] | None = None) -> None:
        self.parameters = parameters
        self.n_items = 0
        self._weights: dict[str, float] = {}
        self._learnt: dict[str, int] = {}
        self._features = ScoreFeatures(providers or {}, {}, np.zeros(0, dtype=np.int64))

    def members(self) -> Mapping[str, Model]:
        """Return the fitted models of the recipes, by label; before the fit none."""
        return self._features.models

    @property
    def weights(self) -> Mapping[str, float]:
        """The weight of each feature, by its name."""
        return dict(self._weights)

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        """Learn the weights on the later sessions, by recipes that were fitted on what lies before them; then fit the
        recipes on all.

        Raises
        ------
        UserError
            A recommender has no recipe yet: the train step finds it (`models.scores-without-recipe`).
        """
        self.n_items = n_items
        self._refuse_missing_recipes()
        cut = TimeCut.of(train, self.parameters.held_out)
        fitting.progress(f"fitting the recipes on {len(cut.earlier):,} sessions, before those that teach the weights")
        providers = self._fit_providers(cut.earlier, fitting, "earlier")
        early = ScoreFeatures(providers, fit_scales(providers, cut.later), self._count(cut.earlier))
        choices = make_choices(early, cut.later, fitting.seed)
        if not len(choices.chosen):
            text = "no sessions to learn the weights of scores from: all recommenders count the same"
            fitting.progress(Notice(text))
        learnt = fit_conditional_logit(choices, self._make_prior(early), self.parameters.regularisation)
        self._weights = {name: float(weight) for name, weight in zip(early.names, learnt, strict=True)}
        self._learnt = {
            "moment": cut.moment,
            "sessions_before": len(cut.earlier),
            "sessions_after": len(cut.later),
            "choices": len(choices.chosen),
            "events_left_out": cut.left_out,
        }
        shown = ", ".join(f"{name} {weight:.3f}" for name, weight in self._weights.items())
        fitting.progress(f"weights of {len(choices.chosen):,} choices: {shown}")
        self._features = ScoreFeatures(self._fit_providers(train, fitting, "all"), early.scales, self._count(train))
        return FitReport()

    def _refuse_missing_recipes(self) -> None:
        for source in self.parameters.scores.values():
            if source.recipe is None:
                raise UserError(
                    f"the recipe of {source.recommender} is not known; the train step of a run finds it in the "
                    "registry: train by `endcap run` or Project.train",
                    code="models.scores-without-recipe",
                    recommender=source.recommender,
                )

    def _fit_providers(self, sessions: Sessions, fitting: Fitting, part: str) -> dict[str, Model]:
        """Fit each recipe on sessions, with its own seed and the settings that its own fit chose."""
        providers = {}
        # The order of a sum decides its last digit, and files do not keep the order of keys.
        for label, source in sorted(self.parameters.scores.items()):
            recipe = source.recipe
            assert recipe is not None
            workspace = None
            if fitting.workspace is not None:
                workspace = fitting.workspace / f"{label}-{part}"
                workspace.mkdir(exist_ok=True)
            attributes = list_feature_names({(): recipe.model}, "item_features").values()
            own = dataclasses.replace(
                fitting,
                seed=recipe.seed,
                settings=recipe.settings,
                validation=None,
                workspace=workspace,
                observe=lambda row: True,
                item_features={name: codes for name, codes in fitting.item_features.items() if name in attributes},
            )
            fitting.progress(f"{label}:")
            providers[label] = make(recipe.model)
            providers[label].fit(sessions, self.n_items, own)
        return providers

    def _count(self, sessions: Sessions) -> NDArray[np.int64]:
        return np.bincount(sessions.items, minlength=self.n_items).astype(np.int64)

    def _make_prior(self, features: ScoreFeatures) -> NDArray[np.float64]:
        """Return weights by which all recommenders count the same, and nothing else counts."""
        return np.array([1.0 / len(features.models) if name in features.models else 0.0 for name in features.names])

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        return self._features.combine(sessions, self._features.score(sessions), self._weights)

    def score_prefixes(self, sessions: Sessions) -> NDArray[np.float32]:
        """See `Model.score_prefixes`: each recipe's model scores in its own way."""
        return self._features.combine(sessions.prefixes()[0], self._features.score_prefixes(sessions), self._weights)

    def compute_features(self, sessions: Sessions) -> NDArray[np.float32]:
        """Return the features that `score` weighs: float32 [n, n_items, features], named by the keys of `weights`."""
        values = self._features.compute(sessions, self._features.score(sessions))
        return np.stack([np.broadcast_to(each, (len(sessions), self.n_items)) for each in values], axis=2)

    def get_state(self) -> ModelState:
        scales = {label: dataclasses.asdict(scale) for label, scale in self._features.scales.items()}
        settings = {"weights": self._weights, "scales": scales, "learnt": self._learnt}
        return ModelState({"counts": self._features.counts}, settings)

    def save(self, folder: Path) -> None:
        """See `Model.save`: the model of each recipe has a folder of its own."""
        super().save(folder)
        for label, provider in self.members().items():
            (folder / label).mkdir()
            provider.save(folder / label)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """See `Model.load`."""
        description = files.describe(folder)
        model = cls(StackedSpec.model_validate(description["parameters"]))
        model.n_items = description["n_items"]
        model._weights, model._learnt = description["weights"], description["learnt"]
        providers = {label: load(folder / label) for label in sorted(model.parameters.scores)}
        if any(provider.n_items != model.n_items for provider in providers.values()):
            raise files.make_damaged_error(folder, ValueError("its models are of other items"))
        scales = {label: Scale(**scale) for label, scale in description["scales"].items()}
        model._features = ScoreFeatures(providers, scales, files.tensors(folder)["counts"])
        return model
