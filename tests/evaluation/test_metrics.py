from __future__ import annotations

from pathlib import Path

import ir_measures
import numpy as np
import pytest

from endcap.evaluation.metrics import ItemPopularity, RemainingItems, compute_metrics, list_metrics
from endcap.evaluation.model_metrics import ModelMetrics, measure_model
from endcap.evaluation.ranks import rank_predictions
from endcap.evaluation.scoring import EvaluatedModel
from endcap.features.sessions import Sessions
from endcap.models import Validation
from endcap.spec.recommender import Exclude
from tests.evaluation.conftest import AfterLast, every, random_sessions

NONE = -np.inf
CUTOFFS = [1, 5, 20]


def overall(found: ModelMetrics) -> dict[str, float]:
    """Every metric over all predictions, by name."""
    means = found.sums.sum(axis=0) / found.weights.sum(axis=0)[found.weight_of]
    return {**dict(zip(found.names, means.tolist(), strict=True)), **found.coverage}


def test_by_hand() -> None:
    """After 0 the list is 3, 1, 2; what follows is 1, 2, 1, 4, four events of three items."""
    table = [[NONE, 5, 4, 6, NONE]] + [[NONE] * 5] * 4
    training = Sessions.of([[0, 0, 0, 0], [1, 1], [3]])
    found = measure_model(
        EvaluatedModel(AfterLast(table)),
        every(Sessions.of([[0, 1, 2, 1, 4]])),
        [1, 2, 5],
        ItemPopularity.of(training, 5),
    )
    first = found.segments["prefix"]["1"]
    assert first["predictions"] == 1
    assert [first[f"hr@{k}"] for k in (1, 2, 5)] == [0, 1, 1]
    assert [first[f"mrr@{k}"] for k in (1, 2, 5)] == [0, 1 / 2, 1 / 2]
    assert [first[f"recall@{k}"] for k in (1, 2, 5)] == [0, 1 / 3, 2 / 3]
    assert [first[f"precision@{k}"] for k in (1, 2, 5)] == [0, 1 / 2, 2 / 5]
    gain = 1 / np.log2(3) + 1 / np.log2(4)
    assert first["ndcg@5"] == pytest.approx(gain / (1 + gain))
    assert [first[f"next_ndcg@{k}"] for k in (1, 2, 5)] == pytest.approx([0, 1 / np.log2(3), 1 / np.log2(3)])
    # Items 3, 1, 2 have 1, 2 and 0 of the most popular item's 4 events; the empty lists after it do not count.
    assert [first[f"popularity_bias@{k}"] for k in (1, 2, 5)] == pytest.approx([0.25, 0.375, 0.25])
    assert overall(found)["popularity_bias@5"] == pytest.approx(0.25)
    assert [overall(found)[f"coverage@{k}"] for k in (1, 2, 5)] == [0.2, 0.4, 0.6]
    assert overall(found)["hr@5"] == 1 / 4
    assert found.predictions == 4
    assert list(found.segments["prefix"]) == ["1", "2", "3-4"]
    assert list(found.segments["session"]) == ["5-9"]


def test_segments_divide_the_predictions_by_prefix_and_by_session_length() -> None:
    """The list is always the one item 1: sessions of two and of three events hit it once each."""
    table = [[NONE, 1, NONE]] * 3
    test = Sessions.of([[0, 1], [2, 2, 1], [0], [2] * 12])
    found = measure_model(EvaluatedModel(AfterLast(table)), every(test), [1], ItemPopularity.of(test, 3)).segments
    told = {
        division: {name: (row["predictions"], row["hr@1"]) for name, row in rows.items()}
        for division, rows in found.items()
    }
    assert told == {
        "prefix": {"1": (3, 1 / 3), "2": (2, 1 / 2), "3-4": (2, 0), "5-9": (5, 0), "10+": (2, 0)},
        "session": {"2": (1, 1), "3-4": (2, 1 / 2), "10+": (11, 0)},
    }


def independent(competitor: EvaluatedModel, test: Sessions, cutoffs: list[int]) -> dict[str, float]:
    """The same metrics by ir-measures, on qrels and runs written out in words."""
    rest_qrels, next_qrels, run = [], [], []
    lists = np.concatenate([block.listed for block in rank_predictions(competitor, every(test), max(cutoffs))])
    number = 0
    for session in range(len(test)):
        items = test.items[test.offsets[session] : test.offsets[session + 1]].tolist()
        for end in range(1, len(items)):
            query = str(number)
            rest_qrels += [ir_measures.Qrel(query, str(item), 1) for item in set(items[end:])]
            next_qrels.append(ir_measures.Qrel(query, str(items[end]), 1))
            listed = [item for item in lists[number].tolist() if item >= 0]
            run += [ir_measures.ScoredDoc(query, str(item), -float(place)) for place, item in enumerate(listed)]
            number += 1
    measures = {
        "hr": (ir_measures.Success, next_qrels),
        "mrr": (ir_measures.RR, next_qrels),
        "next_ndcg": (ir_measures.nDCG, next_qrels),
        "recall": (ir_measures.R, rest_qrels),
        "precision": (ir_measures.P, rest_qrels),
        "ndcg": (ir_measures.nDCG, rest_qrels),
    }
    found = {}
    for name, (measure, qrels) in measures.items():
        wanted = [measure @ cutoff for cutoff in cutoffs]
        values = ir_measures.calc_aggregate(wanted, qrels, run)
        found |= {f"{name}@{cutoff}": float(values[one]) for cutoff, one in zip(cutoffs, wanted, strict=True)}
    return found


def agrees(competitor: EvaluatedModel, test: Sessions, cutoffs: list[int]) -> None:
    ours = overall(measure_model(competitor, every(test), cutoffs, ItemPopularity.of(test, competitor.model.n_items)))
    theirs = independent(competitor, test, cutoffs)
    assert len(theirs) == 6 * len(cutoffs)
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("exclude", ["none", "last", "seen"])
def test_agreement_with_an_independent_library(exclude: Exclude) -> None:
    generator = np.random.default_rng(7)
    table = generator.integers(0, 4, (40, 40)).astype(float)
    table[generator.random((40, 40)) < 0.5] = NONE
    agrees(EvaluatedModel(AfterLast(table), exclude), random_sessions(8, 300, 40), CUTOFFS)


def test_agreement_with_an_independent_library_on_a_real_log_and_model(shared_data: Path) -> None:
    import pandas as pd

    from endcap.models import Fitting, make
    from endcap.spec.model import SequentialRulesSpec

    def read(name: str) -> pd.DataFrame:
        (file,) = (shared_data / "serenade_example").glob(name)
        return pd.read_csv(file, sep="\t").sort_values(["SessionId", "Time"], kind="stable")

    train, test = read("train*"), read("test*")
    index = {item: place for place, item in enumerate(train.ItemId.value_counts().index)}
    test = test[test.ItemId.isin(index.keys())]
    fitted, asked = (
        Sessions.of(frame.ItemId.map(index).groupby(frame.SessionId).agg(list).tolist()) for frame in (train, test)
    )
    model = make(SequentialRulesSpec())
    model.fit(fitted, len(index), Fitting())
    agrees(EvaluatedModel(model, "last"), asked, [5, 10, 20])


def test_the_mean_over_predictions_is_what_each_prediction_gives() -> None:
    test = random_sessions(3, 60, 20)
    competitor = EvaluatedModel(AfterLast(np.random.default_rng(4).random((20, 20))))
    popularity = ItemPopularity.of(test, 20)
    rows = [
        compute_metrics(block, RemainingItems(test), [5], popularity)
        for block in rank_predictions(competitor, every(test), 5)
    ]
    found = measure_model(competitor, every(test), [5], popularity)
    means = np.concatenate(rows).mean(axis=0)
    assert [overall(found)[name] for name in list_metrics([5])] == pytest.approx(means.tolist())
    for rows in found.segments.values():
        assert sum(row["predictions"] for row in rows.values()) == found.predictions


def test_what_training_watches_is_what_evaluation_reports() -> None:
    rng = np.random.default_rng(5)
    # Scores of few values: ties are the rule.
    test, model = random_sessions(3, 60, 40), AfterLast(rng.integers(0, 6, (40, 40)).astype(np.float64))
    asked, wanted, _ = test.prefixes()
    for exclude in ("none", "last", "seen"):
        found = measure_model(EvaluatedModel(model, exclude), every(test), [20], ItemPopularity.of(test, 40))
        assert Validation(asked, wanted, exclude).measure(model) == pytest.approx(overall(found)["next_ndcg@20"])
