"""What is asked of a model beside every next item: last events alone, new and old items, how long it takes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from endcap.evaluation import timing
from endcap.evaluation.metrics import ItemPopularity
from endcap.evaluation.model_metrics import measure_model
from endcap.evaluation.ranks import rank_predictions
from endcap.evaluation.results import RankingTimes
from endcap.evaluation.scoring import EvaluatedModel
from endcap.evaluation.timing import draw_prefixes, time_rankings
from endcap.features.queries import select_targets
from endcap.features.sessions import Sessions
from endcap.spec.evaluation import Evaluation
from tests.evaluation.conftest import AfterLast, every, last, random_sessions

HOUR = 3_600_000
DAY = 24 * HOUR
CIRCLE = [[0, 3, 2], [2, 0, 3], [3, 2, 0]]
"""After each of three items comes the next one, then the one before."""


class OnePass(AfterLast):
    """Counts how it is asked."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters)
        self.asked: list[str] = []

    def score(self, sessions: Sessions) -> np.ndarray:
        self.asked.append("score")
        return super().score(sessions)

    def score_prefixes(self, sessions: Sessions) -> np.ndarray:
        self.asked.append("score_prefixes")
        return AfterLast.score(self, sessions.prefixes()[0])


def test_the_last_event_alone_is_predicted_from_all_before_it() -> None:
    test = Sessions.of([[0, 1, 2], [1], [2, 1], [0, 0, 0, 1]])
    (block,) = rank_predictions(EvaluatedModel(AfterLast(CIRCLE)), last(test), 2)
    assert (block.owner.tolist(), block.ends.tolist()) == ([0, 2, 3], [2, 1, 3])
    assert block.targets.tolist() == [2, 1, 1]
    assert block.ranks.tolist() == [1, 2, 1]
    found = measure_model(EvaluatedModel(AfterLast(CIRCLE)), last(test), [1], ItemPopularity.of(test, 3))
    assert found.predictions == 3
    assert found.sums[:, found.names.index("hr@1")].tolist() == [1, 0, 0, 1]
    # What follows is one item: recall is the hit rate.
    assert found.sums[:, found.names.index("recall@1")].tolist() == [1, 0, 0, 1]


def test_a_model_that_reads_event_by_event_passes_over_a_session_once() -> None:
    test, model = random_sessions(1, 20, 3), OnePass(CIRCLE)
    popularity = ItemPopularity.of(test, 3)
    once = measure_model(EvaluatedModel(model, "last"), every(test), [2], popularity)
    assert set(model.asked) == {"score_prefixes"}
    each = measure_model(EvaluatedModel(AfterLast(CIRCLE), "last"), every(test), [2], popularity)
    assert once.sums.tolist() == each.sums.tolist()


def test_segments_by_how_long_the_next_item_is_known() -> None:
    """Item 1 was first met at 0, item 2 at 10 days: asked for at once, after hours, days and weeks, and before that."""
    ends = [(1, 0), (1, DAY - 1), (1, DAY), (1, 8 * DAY), (1, 28 * DAY), (2, 11 * DAY), (2, 9 * DAY)]
    test = Sessions.of([[0, item] for item, _ in ends], [[moment, moment] for _, moment in ends])
    first_seen = np.array([0, 0, 10 * DAY])
    found = measure_model(
        EvaluatedModel(AfterLast(CIRCLE)), every(test), [1], ItemPopularity.of(test, 3), first_seen=first_seen
    )
    told = {name: (row["predictions"], row["hr@1"]) for name, row in found.segments["age"].items()}
    assert told == {"new": (3, 2 / 3), "1-7d": (2, 1 / 2), "7-28d": (1, 1), "older": (1, 1)}


@pytest.mark.parametrize("protocol", ["every-prefix", "leave-one-out"])
def test_prefixes_that_are_timed_are_some_of_those_predicted_from(protocol: Any) -> None:
    test = random_sessions(2, 30, 50)
    predictions = select_targets(test, protocol, "file")
    prefixes = predictions.prefixes()
    there = sorted(
        prefixes.items[begin:end].tolist() for begin, end in zip(prefixes.offsets, prefixes.offsets[1:], strict=False)
    )
    drawn = [one.items.tolist() for one in draw_prefixes(predictions, seed=1)]
    assert len(drawn) == min(timing.SAMPLE, len(there))
    if len(there) <= timing.SAMPLE:
        assert sorted(drawn) == there
    assert all(one in there for one in drawn)
    assert drawn == [one.items.tolist() for one in draw_prefixes(predictions, seed=1)]


def test_a_slow_prediction_is_seen_to_be_slow() -> None:
    class Slow(AfterLast):
        def score(self, sessions: Sessions) -> np.ndarray:
            assert len(sessions) == 1
            time.sleep(0.01)
            return super().score(sessions)

    prefixes = draw_prefixes(last(random_sessions(2, 20, 3)), 1)
    timings = {"slow": time_rankings(EvaluatedModel(Slow(CIRCLE)), prefixes, 2), "quick": np.full(len(prefixes), 1.0)}
    speed = RankingTimes(timings, Evaluation(bootstrap=100), 1)
    slow, ratio = speed.estimate_value("slow"), speed.estimate_ratio("slow", "quick")
    assert slow.lower is not None
    assert slow.upper is not None
    assert 10 <= slow.lower <= slow.value <= slow.upper < 1000
    assert ratio.value == slow.value
    assert speed.estimate_difference("quick", "slow").value == 1 - slow.value
