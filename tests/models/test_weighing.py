"""How a blend chooses weights: by next_ndcg@20 over the whole catalogue, and never worse than its best member."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from endcap.features.queries import select_targets
from endcap.features.sessions import Sessions
from endcap.models import FitReport, Fitting, Model, Validation
from endcap.models.blend import Blend
from endcap.models.blend_weights import BlendWeights, choose_weights
from endcap.models.opinion_pool import Scale, compute_floor
from endcap.models.pooled_ranks import PooledRanks
from endcap.spec.model import BlendSpec, PopularitySpec

ITEMS = 300
Scores = NDArray[np.float32]


class Told(Model):
    """Scores by the last item alone, from a table: float32 [items, items]."""

    name = "custom"

    def __init__(self, parameters: Scores) -> None:
        self.table, self.n_items = parameters, parameters.shape[1]

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        return FitReport()

    def score(self, sessions: Sessions) -> Scores:
        scores = np.full((len(sessions), self.n_items), -np.inf, dtype=np.float32)
        there = sessions.lengths > 0
        scores[there] = self.table[sessions.items[sessions.offsets[1:][there] - 1]]
        return scores

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Self:
        raise NotImplementedError


def world(seed: int, events: int = 6, sessions: int = 120) -> tuple[Scores, Sessions]:
    """What follows each item how likely, as logits; and sessions drawn by it, some events at one time."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 2.2, (ITEMS, ITEMS)).astype(np.float32)
    shares = np.exp(truth)
    shares /= shares.sum(axis=1, keepdims=True)
    drawn = [[int(rng.integers(ITEMS))] for _ in range(sessions)]
    for session in drawn:
        while len(session) < events:
            session.append(int(rng.choice(ITEMS, p=shares[session[-1]])))
    return truth, Sessions.of(drawn, [np.cumsum(rng.integers(0, 2, events) * 1000).tolist() for _ in drawn])


def hostile(seed: int, truth: Scores) -> dict[str, dict[str, Scores]]:
    """Members by what is bad about some of them."""
    rng = np.random.default_rng(seed + 1000)

    def noisy(noise: float) -> Scores:
        return (truth + rng.normal(0, noise, truth.shape)).astype(np.float32)

    good, other, nothing = noisy(2), noisy(3), np.full_like(truth, -np.inf)
    few = np.where(truth > 3, np.exp(truth), -np.inf).astype(np.float32)
    return {
        "two that know something": {"a": good, "b": other},
        "constant scores": {"a": good, "constant": np.ones_like(truth)},
        "no opinions": {"a": good, "silent": nothing, "b": other},
        "duplicates": {"a": good, "again": good.copy(), "same": good.copy()},
        "other scales": {"a": good * 1e-6, "b": other * 1e5, "few": few, "shifted": good + 1e4},
        "noise": {"a": noisy(1), "x": noisy(50), "y": noisy(50), "z": noisy(50)},
        "wrong": {"a": noisy(1), "opposite": -truth},
        "none knows anything": {"silent": nothing, "mute": nothing.copy()},
        "infinite": {"a": good, "infinite": np.where(truth > 4, np.inf, truth).astype(np.float32)},
    }


def make_validation(sessions: Sessions, exclude: Any = "none") -> Validation:
    return Validation.of(select_targets(sessions, "every-prefix", "sets"), exclude)


def pool(tables: Mapping[str, Scores]) -> Blend:
    spec = BlendSpec(members={label: PopularitySpec() for label in tables})
    blend = Blend(spec, {label: Told(table) for label, table in tables.items()})
    blend.n_items = ITEMS
    return blend


def weigh(tables: Mapping[str, Scores], validation: Validation, seed: int = 0) -> tuple[Blend, BlendWeights]:
    blend = pool(tables)
    weighing = choose_weights(blend.members(), validation, seed, blend._make_pool)
    return blend._make_pool(weighing.scales, weighing.weights), weighing


KINDS = list(hostile(0, np.zeros((2, 2), dtype=np.float32)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_a_blend_is_never_below_its_best_member_on_validation(kind: str, seed: int) -> None:
    truth, sessions = world(seed)
    tables, validation = hostile(seed, truth)[kind], make_validation(sessions)
    blend, weighing = weigh(tables, validation, seed)
    alone = {label: validation.measure(Told(table)) for label, table in tables.items()}
    assert weighing.members == pytest.approx(alone, abs=1e-12)
    assert validation.measure(blend) == pytest.approx(weighing.value, abs=1e-12)
    assert validation.measure(blend) >= max(alone.values()) - 1e-12
    assert weighing.crossed >= max(alone.values()) - 1e-12
    assert sum(weighing.weights.values()) == pytest.approx(1)
    assert set(blend.members()) == {label for label, weight in weighing.weights.items() if weight > 0}


def test_members_that_know_different_things_are_pooled() -> None:
    truth, sessions = world(1, sessions=400)
    rng, validation = np.random.default_rng(50), make_validation(sessions)
    tables = {label: (truth + rng.normal(0, 3, truth.shape)).astype(np.float32) for label in "ab"}
    blend, _ = weigh(tables, validation)
    assert len(blend.members()) == 2
    fresh = make_validation(world(1, sessions=500)[1])
    assert fresh.measure(blend) > 1.1 * max(fresh.measure(Told(table)) for table in tables.values())


@pytest.mark.parametrize("kind", ["duplicates", "constant scores", "none knows anything"])
def test_who_adds_nothing_has_no_weight(kind: str) -> None:
    truth, sessions = world(2)
    blend, weighing = weigh(hostile(2, truth)[kind], make_validation(sessions))
    assert len(blend.members()) == 1
    assert (weighing.way, weighing.value) == ("alone", max(weighing.members.values()))


def test_a_member_alone_ranks_as_it_does_without_a_blend() -> None:
    truth, sessions = world(3)
    steep = truth * 200  # whose probabilities are nought but for a few items
    blend, weighing = weigh({"a": steep, "constant": np.ones_like(truth)}, make_validation(sessions))
    assert weighing.weights == {"a": 1.0, "constant": 0.0}
    np.testing.assert_array_equal(blend.score(sessions), Told(steep).score(sessions))
    some = [np.array([5, 1], dtype=np.int32)] * len(sessions)
    np.testing.assert_array_equal(blend.score_items(sessions, some), blend.score(sessions)[:, [5, 1]])


@pytest.mark.parametrize("exclude", ["none", "last", "all"])
@pytest.mark.parametrize("most", [20, 60, ITEMS])
def test_ranks_from_ballots_are_those_of_the_pool(exclude: Any, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endcap.models.pooled_ranks._BEST", most)
    truth, sessions = world(4)
    validation, tables = make_validation(sessions, exclude), hostile(4, truth)["other scales"]
    scales = {"a": Scale("logits", 1e6), "b": Scale("logits", 1e-5), "few": Scale("votes"), "shifted": Scale()}
    ballots, logs = PooledRanks(len(tables), len(validation), ITEMS), []
    rng, unknown = np.random.default_rng(0), 0
    rows = validation.row
    for label, table in tables.items():
        scores = Told(table).score(validation.queries)
        each = scales[label].logs(scores)
        each[~np.isfinite(scores)] = -np.inf
        validation.mask(each, np.arange(len(validation.queries)))
        each = each[rows]
        for place in range(len(rows)):
            others = (rows == rows[place]) & (np.arange(len(rows)) != place)
            each[place, validation.targets[others]] = -np.inf
        logs.append(each)
    ballots.add(np.arange(len(validation)), validation.targets, logs, compute_floor(ITEMS))
    for _ in range(25):
        weights = rng.dirichlet(np.full(len(tables), 0.5)) * rng.integers(0, 2, len(tables))
        if not weights.any():
            continue
        expected = validation.ranks(pool(tables)._make_pool(scales, dict(zip(tables, weights, strict=True))))
        ranks, missing = ballots.ranks(weights.tolist())
        np.testing.assert_array_equal(ranks, np.where((expected <= 20) & ~missing, expected, 0))
        unknown += int(missing.sum())
    assert (unknown > 0) == (most == 20)


def test_ranks_that_ballots_do_not_know_are_found_for_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endcap.models.pooled_ranks._BEST", 20)
    truth, sessions = world(6, sessions=200)
    rng, validation = np.random.default_rng(60), make_validation(sessions)
    tables = {label: (truth + rng.normal(0, 4, truth.shape)).astype(np.float32) for label in "abc"}
    blend, weighing = weigh(tables, validation)
    assert len(blend.members()) > 1
    assert validation.measure(blend) == pytest.approx(weighing.value, abs=1e-12)
