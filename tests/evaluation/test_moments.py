"""Moments of several items: figures counted again by plain loops, and what no order of lines changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from endcap.evaluation.given_candidates import GivenCandidates
from endcap.evaluation.metrics import ItemPopularity
from endcap.evaluation.model_metrics import ModelMetrics, measure_model
from endcap.evaluation.sampled_candidates import SampledCandidates
from endcap.evaluation.scoring import EvaluatedModel, VocabularyTranslation
from endcap.features.queries import select_targets
from endcap.features.sessions import Sessions
from endcap.models.validation import Validation
from endcap.spec.evaluation import SampledNegatives
from endcap.spec.recommender import Exclude
from tests.evaluation.conftest import AfterLast

ITEMS = 15
CUTOFF = 5
Moments = list[list[int]]


class OfAll(AfterLast):
    """Scores by all items of a session, in whatever order: whole numbers, so that sums are exact."""

    def score(self, sessions: Sessions) -> Any:
        scores = np.full((len(sessions), self.n_items), -np.inf, dtype=np.float32)
        for row, (begin, end) in enumerate(zip(sessions.offsets, sessions.offsets[1:], strict=False)):
            if end > begin:
                scores[row] = self.table[sessions.items[begin:end]].sum(axis=0)
        return scores


def log_of(seed: int, count: int = 60) -> list[Moments]:
    rng = np.random.default_rng(seed)
    return [
        [rng.integers(ITEMS, size=rng.integers(1, 5)).tolist() for _ in range(rng.integers(1, 5))] for _ in range(count)
    ]


def sessions_of(log: list[Moments]) -> Sessions:
    items = [[item for moment in session for item in moment] for session in log]
    return Sessions.of(items, [[time for time, moment in enumerate(one) for _ in moment] for one in log])


def model_of(seed: int, items: int = ITEMS) -> OfAll:
    """Some items have no score after some others, and many have the same."""
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 4, size=(items, items)).astype(np.float32)
    table[rng.random(table.shape) < 0.05] = -np.inf
    return OfAll(table)


def loops(
    competitor: EvaluatedModel, log: list[Moments], protocol: str, among: list[set[int]] | None = None
) -> dict[str, float]:
    """HR, MRR and NDCG of the next item: in a list without the others of its moment, each counting a share."""
    to_own = competitor.translation and competitor.translation.to_own
    sums, prefixes = {"hr": 0.0, "mrr": 0.0, "next_ndcg": 0.0}, 0
    for number, session in enumerate(log):
        for place in range(1, len(session)):
            if protocol == "leave-one-out" and place < len(session) - 1:
                continue
            prefixes += 1
            prefix, targets = [item for moment in session[:place] for item in moment], set(session[place])
            own = prefix if to_own is None else [int(to_own[item]) for item in prefix if to_own[item] >= 0]
            scores = competitor.model.score(Sessions.of([own]))[0].tolist()
            hidden = {"none": [], "last": own[-1:], "seen": own}[competitor.exclude]
            for target in targets:
                wanted = target if to_own is None else int(to_own[target])
                others = {item if to_own is None else int(to_own[item]) for item in targets - {target}}
                listed = [item for item in range(len(scores)) if item not in others and item not in hidden]
                if among is not None:
                    listed = [item for item in listed if item in among[number] or item == wanted]
                listed = [item for item in listed if scores[item] > -np.inf]
                listed.sort(key=lambda item: (-scores[item], item))
                if wanted in listed[:CUTOFF]:
                    rank = listed.index(wanted) + 1
                    gains = {"hr": 1.0, "mrr": 1 / rank, "next_ndcg": 1 / np.log2(rank + 1)}
                    sums = {name: value + gains[name] / len(targets) for name, value in sums.items()}
    return {name: value / prefixes for name, value in sums.items()} | {"predictions": prefixes}


def measured(found: ModelMetrics) -> dict[str, float]:
    totals = dict(zip(found.names, found.sums.sum(axis=0) / found.weights.sum(axis=0)[found.weight_of], strict=True))
    return {name: totals[f"{name}@{CUTOFF}"] for name in ("hr", "mrr", "next_ndcg")} | {
        "predictions": found.predictions
    }


def figures(competitor: EvaluatedModel, test: Sessions, protocol: Any = "every-prefix", **keys: Any) -> ModelMetrics:
    popularity = ItemPopularity.of(test, ITEMS)
    return measure_model(competitor, select_targets(test, protocol, "sets"), [2, CUTOFF], popularity, **keys)


@pytest.mark.parametrize("protocol", ["every-prefix", "leave-one-out"])
@pytest.mark.parametrize("exclude", ["none", "last", "seen"])
@pytest.mark.parametrize("seed", range(3))
def test_figures_are_those_of_plain_loops(protocol: Any, exclude: Exclude, seed: int) -> None:
    log, competitor = log_of(seed), EvaluatedModel(model_of(seed), exclude)
    found = measured(figures(competitor, sessions_of(log), protocol))
    assert found == pytest.approx(loops(competitor, log, protocol))


@pytest.mark.parametrize("exclude", ["none", "seen"])
def test_a_champion_of_another_vocabulary_is_measured_in_its_own(exclude: Exclude) -> None:
    own = [*(str(item) for item in reversed(range(4, ITEMS))), "other"]
    translation = VocabularyTranslation.between([str(item) for item in range(ITEMS)], own)
    log, champion = log_of(4), EvaluatedModel(model_of(5, len(own)), exclude, translation)
    assert measured(figures(champion, sessions_of(log))) == pytest.approx(loops(champion, log, "every-prefix"))


def test_given_items_compete_without_the_others_of_a_moment() -> None:
    log, rng = log_of(6), np.random.default_rng(6)
    among = [set(rng.choice(ITEMS, size=6, replace=False).tolist()) for _ in log]
    items = np.array([item for one in among for item in sorted(one)], dtype=np.int32)
    test = replace(sessions_of(log), customers=np.arange(len(log), dtype=np.int32))
    given = GivenCandidates(items, np.arange(len(log) + 1) * 6)
    competitor = EvaluatedModel(model_of(6))
    expected = loops(competitor, log, "every-prefix", among)
    assert measured(figures(competitor, test, negatives=given)) == pytest.approx(expected)


def shuffled(log: list[Moments], seed: int) -> list[Moments]:
    rng = np.random.default_rng(seed)
    return [[rng.permutation(moment).tolist() for moment in session] for session in log]


@pytest.mark.parametrize("sampled", [None, 3])
@pytest.mark.parametrize("exclude", ["none", "seen"])
def test_the_order_of_lines_at_one_time_changes_no_bit_of_a_figure(sampled: int | None, exclude: Exclude) -> None:
    log, model = log_of(7), model_of(7)

    def bits(lines: list[Moments]) -> list[bytes]:
        test, keys = sessions_of(lines), {}
        if sampled is not None:
            keys["negatives"] = SampledCandidates(test, test, ITEMS, SampledNegatives(count=sampled, draws=2), seed=1)
        found = figures(EvaluatedModel(model, exclude), test, first_seen=np.zeros(ITEMS, dtype=np.int64), **keys)
        divided = [value.tobytes() for value in found.segment_sums.values()]
        return [found.sums.tobytes(), found.weights.tobytes(), *divided]

    assert bits(log) == bits(shuffled(log, 1))


def test_what_looks_at_the_last_item_sees_the_order_of_lines() -> None:
    log = log_of(8)
    tables = AfterLast(model_of(8).table)
    for competitor in (EvaluatedModel(tables), EvaluatedModel(model_of(8), "last")):
        one, other = (measured(figures(competitor, sessions_of(lines))) for lines in (log, shuffled(log, 1)))
        assert one != other


@pytest.mark.parametrize("exclude", ["none", "last", "seen"])
def test_what_training_watches_is_what_evaluation_reports(exclude: Exclude) -> None:
    log, model = log_of(9), model_of(9)
    predictions = select_targets(sessions_of(log), "every-prefix", "sets")
    validation = Validation.of(predictions, exclude)
    found = measure_model(
        EvaluatedModel(model, exclude), predictions, [20], ItemPopularity.of(predictions.sessions, ITEMS)
    )
    reported = dict(zip(found.names, found.sums.sum(axis=0) / found.weights.sum(axis=0)[found.weight_of], strict=True))
    assert validation.measure(model) == pytest.approx(reported["next_ndcg@20"])
    # A part of the sessions is measured as if there were no others.
    some = np.isin(predictions.owner, [0, 3, 4, 17])
    few = select_targets(sessions_of([log[number] for number in (0, 3, 4, 17)]), "every-prefix", "sets")
    assert validation.take(some).measure(model) == pytest.approx(Validation.of(few, exclude).measure(model))


def test_recall_of_what_follows_takes_nothing_off_the_list() -> None:
    table = np.zeros((4, 4), dtype=np.float32)
    table[0] = [0, 3, 2, 1]
    test = Sessions.of([[0, 1, 2]], [[0, 1, 1]])
    found = measure_model(
        EvaluatedModel(AfterLast(table)), select_targets(test, "every-prefix", "sets"), [1], ItemPopularity.of(test, 4)
    )
    values = dict(zip(found.names, found.sums[0].tolist(), strict=True))
    # Each is first without the other; of the two that follow the list of one has one.
    assert (values["hr@1"], values["recall@1"], values["precision@1"]) == (1.0, 0.5, 1.0)
