from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from endcap.evaluation import ranks
from endcap.evaluation.candidate_counts import warn_of_candidates
from endcap.evaluation.metrics import ItemPopularity
from endcap.evaluation.model_metrics import measure_model
from endcap.evaluation.protocol import EvaluationProtocol
from endcap.evaluation.ranks import rank_predictions
from endcap.evaluation.sampled_candidates import SampledCandidates
from endcap.evaluation.scoring import EvaluatedModel, VocabularyTranslation
from endcap.features.sessions import Sessions
from endcap.features.view import open_view
from endcap.spec.evaluation import SampledNegatives
from endcap.store import Store
from tests.evaluation.conftest import AfterLast, every, random_sessions
from tests.features.logs import dataset, event, recommender

NONE = -np.inf


def of_customers(sessions: Sessions, customers: list[int]) -> Sessions:
    return dataclasses.replace(sessions, customers=np.array(customers, dtype=np.int32))


def test_draws_are_distinct_items_that_neither_session_nor_customer_met() -> None:
    training = of_customers(Sessions.of([[0, 1], [3, 4], [2], [9]]), [7, -1, 7, 5])
    test = of_customers(Sessions.of([[5, 6, 5], [8, 9]]), [7, -1])
    drawn = SampledCandidates(test, training, 20, SampledNegatives(count=8, draws=100), seed=1)
    wanted = every(test)
    found = drawn.select(wanted)
    assert found.shape == (100, 3, 8)
    left = [set(range(20)) - {0, 1, 2, 5, 6}] * 2 + [set(range(20)) - {8, 9}]
    for row, allowed in enumerate(left):
        assert set(found[:, row].ravel().tolist()) == allowed
        assert all(len(set(one)) == 8 for one in found[:, row].tolist())
        # Uniform: each is drawn about 100 * 8 / size times; 5 standard errors.
        counts = np.bincount(found[:, row].ravel(), minlength=20)[sorted(allowed)]
        share = 8 / len(allowed)
        assert np.abs(counts - 100 * share).max() < 5 * np.sqrt(100 * share * (1 - share))
    assert (found[:, 0] != found[:, 1]).any()
    # One at a time they are the same; by another seed they are not.
    alone = np.concatenate([drawn.select(wanted.take(slice(row, row + 1))) for row in range(3)], axis=1)
    assert alone.tolist() == found.tolist()
    assert dataclasses.replace(drawn, seed=2).select(wanted).tolist() != found.tolist()


def test_where_few_were_never_met_all_of_them_compete() -> None:
    test = Sessions.of([[0, 1, 2]])
    found = SampledCandidates(test, test, 5, SampledNegatives(count=9, draws=1), seed=1).select(every(test))
    assert sorted(found[0, 0].tolist()) == [-1] * 7 + [3, 4]


@pytest.mark.parametrize(
    ("sampled", "cutoffs", "facts", "warnings"),
    [
        (1, [1], {"least": 1, "most": 1, "fewer": 0, "share": 2 / 5, "within": 0}, 1),
        (2, [1], {"least": 1, "most": 2, "fewer": 1, "share": 8 / 15, "within": 0}, 2),
        (99, [1, 2], {"least": 1, "most": 2, "fewer": 3, "share": 8 / 15, "within": 1}, 3),
    ],
)
def test_the_verdict_says_among_how_many_items_the_next_ones_were_ranked(
    store: Store, sampled: int, cutoffs: list[int], facts: dict[str, float], warnings: int
) -> None:
    """Of five items the test session of c1 leaves two, and that of c2, who had two before, one."""
    day = 86_400_000
    rows = [event("s1", item, place, "c2") for place, item in enumerate("ab")]
    rows += [event("s2", item, day + place) for place, item in enumerate("cde")]
    rows += [event("s3", item, 9 * day + place, "c1") for place, item in enumerate("abc")]
    rows += [event("s4", item, 9 * day + place, "c2") for place, item in enumerate("cd")]
    wanted = recommender(
        split={"by": "time", "test": "1d", "validation": "0s"},
        evaluation={"negatives": {"count": sampled, "draws": 2}, "cutoffs": cutoffs},
        gate=[],
    )
    folder = dataset(store, rows)
    found = EvaluationProtocol(wanted, open_view(folder, wanted), folder).count_candidates()
    assert found["targets"] == 3
    assert {name: found[name] for name in facts} == pytest.approx(facts)
    assert len(warn_of_candidates(wanted.evaluation, found)) == warnings


def test_a_customer_s_other_test_sessions_are_met_too() -> None:
    training, test = (of_customers(Sessions.of(items), [7] * len(items)) for items in ([[0]], [[1, 2], [3, 4]]))
    drawn = SampledCandidates(test, training, 7, SampledNegatives(count=9, draws=1), seed=1)
    assert sorted(drawn.select(every(test))[0, 0].tolist())[-2:] == [5, 6]
    assert drawn.count(every(test)).tolist() == [2, 2]


def test_figures_are_the_mean_over_draws_and_between_those_of_all_items_and_of_none() -> None:
    rng = np.random.default_rng(4)
    test, model = random_sessions(3, 60, 40), AfterLast(rng.integers(0, 9, (40, 40)))
    popularity = ItemPopularity.of(test, 40)

    def means(sampled: int, draws: int) -> dict[str, float]:
        negatives = SampledCandidates(test, test, 40, SampledNegatives(count=sampled, draws=draws), seed=1)
        found = measure_model(EvaluatedModel(model), every(test), [5], popularity, negatives=negatives)
        assert found.predictions == int((test.lengths - 1).clip(0).sum())
        return dict(zip(found.names, found.sums.sum(axis=0) / found.weights.sum(axis=0)[found.weight_of], strict=True))

    one, five, many = means(10, 1), means(10, 5), means(39, 1)
    assert one["mrr@5"] != five["mrr@5"]
    assert one["mrr@5"] == pytest.approx(five["mrr@5"], abs=0.06)
    assert many["mrr@5"] < five["mrr@5"] < 1
    # Drawn once, every item that was not met: as if the met ones were struck from the catalogue, but for the target.
    expected = []
    for block in rank_predictions(EvaluatedModel(model), every(test), 40):
        for row, owner in enumerate(block.owner.tolist()):
            met = set(test.items[test.offsets[owner] : test.offsets[owner + 1]].tolist()) - {int(block.targets[row])}
            rank = [item for item in block.listed[row].tolist() if item not in met].index(int(block.targets[row])) + 1
            expected.append(1 / rank if rank <= 5 else 0.0)
    assert many["mrr@5"] == pytest.approx(np.mean(expected))


def test_candidates_are_ranked_in_a_model_s_own_vocabulary_and_ties_by_it() -> None:
    """The model's items are c, a, z; the test's a, b, c, d. All that it knows ties, and c comes first to it."""
    translation = VocabularyTranslation.between(["a", "b", "c", "d"], ["c", "a", "z"])
    competitor = EvaluatedModel(AfterLast(np.ones((3, 3))), translation=translation)
    test = Sessions.of([[0, 0], [0, 1]])
    negatives = SampledCandidates(test, test, 4, SampledNegatives(count=4, draws=1), seed=1)
    (block,) = rank_predictions(competitor, every(test), 3, negatives=negatives)
    # First the target a against b, c, d; then b against c and d, where the model knows c alone.
    assert block.listed.tolist() == [[2, 0, -1], [2, -1, -1]]
    assert block.ranks.tolist() == [2, 0]


def test_blocks_draw_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    test, model = random_sessions(3, 30, 20), AfterLast(np.random.default_rng(1).random((20, 20)))
    negatives = SampledCandidates(test, test, 20, SampledNegatives(count=5, draws=2), seed=1)

    def measure() -> object:
        found = measure_model(
            EvaluatedModel(model, "last"), every(test), [3], ItemPopularity.of(test, 20), negatives=negatives
        )
        return found.sums.round(9).tolist(), found.weights.round(9).tolist(), found.coverage

    once = measure()
    monkeypatch.setattr(ranks, "SCORE_BYTES", 20 * 4 * 3)
    assert measure() == once
