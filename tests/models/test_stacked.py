"""Scores as features: what the weights are learnt from, and that serving computes the same features."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from endcap.errors import IntegrityError, UserError
from endcap.features.sessions import Ints, Sessions
from endcap.models import FitReport, Fitting, catalogue, files, load, make, stacked
from endcap.models.base import Model
from endcap.models.conditional_logit import Choices, fit_conditional_logit
from endcap.models.opinion_pool import Scale
from endcap.models.popularity import Popularity
from endcap.models.score_features import ScoreFeatures, TimeCut, make_choices
from endcap.models.stacked import Stacked
from endcap.spec.model import PopularitySpec, ScoreSource, SequentialRulesSpec, StackedSpec, VSKNNSpec
from tests.models.shapes import N_ITEMS, SPECS, checkerboard, make_source
from tests.refusals import refused

(SPEC,) = [spec for spec in SPECS if isinstance(spec, StackedSpec)]


class Memoriser(Popularity):
    """It knows by heart what followed each beginning of a session that it was fitted on, and is as sure of others."""

    fitted_until: ClassVar[list[int]] = []
    scored_from: ClassVar[list[int]] = []

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        super().fit(train, n_items, fitting)
        self.fitted_until.append(int(train.times.max(initial=0)))
        prefixes, following, _ = train.prefixes()
        self.known = dict(zip(self._name(prefixes), following.tolist(), strict=True))
        return FitReport()

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        self.scored_from.append(int(sessions.starts.min(initial=2**62)))
        scores = np.full((len(sessions), self.n_items), 0.01, dtype=np.float32)
        for row, key in enumerate(self._name(sessions)):
            scores[row, self.known.get(key, hash(key) % self.n_items)] = 1.0
        return scores

    @staticmethod
    def _name(sessions: Sessions) -> list[Any]:
        ends = zip(sessions.offsets[:-1], sessions.offsets[1:], strict=True)
        return [tuple(sessions.times[first:last].tolist()) for first, last in ends]


def make_noise(count: int, n_items: int, seed: int) -> Sessions:
    """Sessions of four items that chance draws, one after the other."""
    items = np.random.default_rng(seed).integers(0, n_items, (count, 4)).tolist()
    return Sessions.of(items, [[10_000 * row + 1000 * step for step in range(4)] for row in range(count)])


@pytest.fixture
def memorisers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe of popularity makes a memoriser."""
    monkeypatch.setitem(catalogue._PLACES, "popularity", (__name__, "Memoriser"))
    monkeypatch.setattr(Memoriser, "fitted_until", [])
    monkeypatch.setattr(Memoriser, "scored_from", [])


def test_a_cut_leaves_nothing_later_in_the_earlier_part() -> None:
    train = Sessions.of([[0, 1], [], [2, 3, 4], [5, 6], [7, 8]], [[0, 10], [], [20, 30, 50], [40, 45], [60, 70]])
    cut = TimeCut.of(train, 0.5)
    assert (cut.moment, cut.left_out) == (40, 1)
    assert (cut.earlier.items.tolist(), cut.earlier.lengths.tolist()) == ([0, 1, 2, 3], [2, 2])
    assert (cut.later.items.tolist(), cut.later.lengths.tolist()) == ([5, 6, 7, 8], [2, 2])


@pytest.mark.parametrize("seed", range(5))
def test_whatever_sessions_overlap_the_parts_share_no_session_that_is_scored(seed: int) -> None:
    draws = np.random.default_rng(seed)
    lengths = draws.integers(0, 6, 50)
    times = [np.sort(draws.integers(0, 300, length)).tolist() for length in lengths]
    items = [[row] * int(length) for row, length in enumerate(lengths)]
    train = Sessions.of(items, times)
    cut = TimeCut.of(train, float(draws.uniform(0.1, 0.9)))
    assert cut.earlier.times.max(initial=-1) < cut.moment <= cut.later.times.min(initial=2**62)
    assert not set(cut.earlier.items) & set(cut.later.items)
    assert len(cut.earlier.items) + len(cut.later.items) + cut.left_out == len(train.items)


@pytest.mark.usefixtures("memorisers")
def test_what_a_model_learnt_by_heart_counts_nothing() -> None:
    """Weights that are learnt on what the model has seen, a leak, trust it; those of the stacked model do not."""
    train = make_noise(400, 20, seed=1)
    model = make(StackedSpec(scores={"heart": make_source("heart", PopularitySpec())}, regularisation=1.0))
    assert isinstance(model, Stacked)
    model.fit(train, 20, Fitting(seed=1))
    # The first fit is the one whose scores teach; the second one serves.
    assert len(Memoriser.fitted_until) == 2
    assert Memoriser.fitted_until[0] < min(Memoriser.scored_from)
    leaking = ScoreFeatures(model.members(), {"heart": Scale("votes")}, np.ones(20, dtype=np.int64))
    choices = make_choices(leaking, train, seed=1)
    trusted = fit_conditional_logit(choices, np.zeros(len(leaking.names)), 1.0)
    weights = np.array(list(model.weights.values()))
    # By how much the item that it is sure of is put above the others.
    assert np.ptp(choices.values[:, :, :2] @ trusted[:2], axis=1).mean() > 4.0
    assert np.ptp(model.compute_features(train.prefixes()[0])[:, :, :2] @ weights[:2], axis=1).mean() < 0.5
    later = make_noise(400, 20, seed=2)
    ranks = model.score_prefixes(later).argsort(axis=1)[:, ::-1]
    hits = float((ranks[:, :5] == later.prefixes()[1][:, None]).any(axis=1).mean())
    assert hits == pytest.approx(0.25, abs=0.05)


def test_the_better_recommender_counts_more_than_noise() -> None:
    train = checkerboard(400)
    sources = {"right": make_source("right", VSKNNSpec()), "alike": make_source("alike", PopularitySpec())}
    model = make(StackedSpec(scores=sources))
    assert isinstance(model, Stacked)
    model.fit(train, N_ITEMS, Fitting(seed=2))
    assert model.weights["right"] + model.weights["right/length"] > 0.5
    test = checkerboard(100, seed=23)
    own = model.members()["right"].score_prefixes(test)
    targets = test.prefixes()[1]
    assert measure(model.score_prefixes(test), targets) >= measure(own, targets) - 0.01


def measure(scores: NDArray[np.float32], targets: NDArray[np.int32]) -> float:
    """The mean reciprocal rank."""
    own = np.take_along_axis(scores, targets[:, None].astype(np.int64), axis=1)
    return float((1 / (1 + (scores > own).sum(axis=1))).mean())


def test_training_and_serving_compute_the_same_features(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The features of a prefix: as choices are made of them, as the model scores it, and as the saved model does."""
    models: list[ScoreFeatures] = []
    taught: list[Choices] = []

    def watch(features: ScoreFeatures, sessions: Sessions, seed: int) -> Choices:
        models.append(features)
        taught.append(make_choices(features, sessions, seed))
        return taught[-1]

    monkeypatch.setattr(stacked, "make_choices", watch)
    model, train = make(SPEC), checkerboard(60)
    assert isinstance(model, Stacked)
    model.fit(train, N_ITEMS, Fitting(seed=4))
    model.save(tmp_path)
    again = load(tmp_path)
    assert isinstance(again, Stacked)
    later = TimeCut.of(train, SPEC.held_out).later
    prefixes = later.prefixes()[0]
    # The serving model, with the models of the earlier part put in.
    again._features = models[0]
    np.testing.assert_array_equal(again.compute_features(prefixes), taught[0].values)
    model._features = models[0]
    weights = np.array([model.weights[name] for name in models[0].names], dtype=np.float32)
    scores = model.score(prefixes)
    finite = np.isfinite(scores)
    np.testing.assert_allclose(scores[finite], (taught[0].values @ weights)[finite], rtol=1e-4, atol=1e-4)


def test_drawn_alternatives_stand_for_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a catalogue larger than a choice, weights are about those of the whole catalogue."""
    train, n_items = make_noise(500, 400, seed=5), 400
    rules = make(SequentialRulesSpec())
    follows = Sessions.of([[item, (item + 1) % 400] for item in train.items[:400]])
    rules.fit(follows, n_items, Fitting())
    counts: Ints = np.bincount(train.items**2 // 400, minlength=n_items)
    features = ScoreFeatures({"rules": rules}, {"rules": Scale("votes")}, counts)
    prior = np.zeros(len(features.names))
    drawn = make_choices(features, train, seed=1)
    assert drawn.values.shape[1] == 151
    assert (drawn.offsets[:, :] == -np.inf).any()
    monkeypatch.setattr("endcap.models.score_features._DRAWN", 1000)
    whole = make_choices(features, train, seed=1)
    assert whole.values.shape[1] == n_items
    found = [fit_conditional_logit(choices, prior, 1.0) for choices in (drawn, whole)]
    np.testing.assert_allclose(found[0][:3], found[1][:3], atol=0.15)


def test_weights_are_those_that_made_the_choices() -> None:
    draws = np.random.default_rng(6)
    values, truth = draws.normal(size=(4000, 8, 3)).astype(np.float32), np.array([1.0, -0.5, 0.0])
    utilities = values @ truth + draws.gumbel(size=(4000, 8))
    choices = Choices(values, np.zeros((4000, 8), np.float32), utilities.argmax(axis=1))
    np.testing.assert_allclose(fit_conditional_logit(choices, np.zeros(3), 1.0), truth, atol=0.08)
    np.testing.assert_allclose(fit_conditional_logit(choices, np.ones(3), 1e9), np.ones(3), atol=1e-3)


def test_without_sessions_to_learn_from_all_recommenders_count_the_same() -> None:
    model = make(SPEC)
    assert isinstance(model, Stacked)
    model.fit(Sessions.of([[0], [1]]), 2, Fitting())
    assert model.weights == {
        "neighbours": 0.5,
        "neighbours/length": 0.0,
        "rules": 0.5,
        "rules/length": 0.0,
        "popularity": 0.0,
        "seen": 0.0,
        "last": 0.0,
    }


def test_scores_without_a_recipe_are_refused_before_any_fit() -> None:
    model: Model = make(StackedSpec(scores={"a": ScoreSource(recommender="related")}))
    with refused(UserError, "models.scores-without-recipe", recommender="related"):
        model.fit(checkerboard(10), N_ITEMS, Fitting())


def test_a_model_of_other_items_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    model = make(SPEC)
    model.fit(checkerboard(20), N_ITEMS, Fitting())
    model.save(tmp_path)
    other = make(SequentialRulesSpec(steps=3))
    other.fit(checkerboard(20), N_ITEMS + 1, Fitting())
    other.save(tmp_path / "rules")
    with refused(IntegrityError, "models.damaged"):
        load(tmp_path)
    assert files.describe(tmp_path)["learnt"]["choices"] > 0
