from __future__ import annotations

import math
from typing import Any

import pytest

from endcap.evaluation.estimates import Estimate, PairwiseComparison
from endcap.evaluation.gate import ConditionOutcome, decide_conditions
from endcap.spec.gate import Condition

METRICS = {
    "challenger": {
        "mrr@20": Estimate(0.30, 0.28, 0.32),
        "hr@20": Estimate(0.6, 0.5, 0.7),
        "coverage@20": Estimate(0.4),
        "popularity_bias@20": Estimate(0.2, 0.1, 0.3),
    },
    "champion": {"mrr@20": Estimate(0.29, 0.27, 0.31)},
    "popularity": {"mrr@20": Estimate(0.1), "hr@20": Estimate(0.5), "popularity_bias@20": Estimate(0.9)},
    "vsknn": {"mrr@20": Estimate(0.2), "hr@20": Estimate(0.4), "popularity_bias@20": Estimate(0.1)},
}
COMPARISONS = {
    "champion": PairwiseComparison({"mrr@20": Estimate(0.01, -0.01, 0.03)}, {"mrr@20": Estimate(1.03, 0.97, 1.1)}),
    "popularity": PairwiseComparison({"mrr@20": Estimate(0.2), "hr@20": Estimate(0.1)}, {"mrr@20": Estimate(math.inf)}),
    "vsknn": PairwiseComparison(
        {"mrr@20": Estimate(0.1), "popularity_bias@20": Estimate(0.1)}, {"mrr@20": Estimate(1.5)}
    ),
}
BASELINES = ["popularity", "vsknn"]


def outcome(*, champion: bool = True, **condition: Any) -> ConditionOutcome:
    metrics = {name: values for name, values in METRICS.items() if champion or name != "champion"}
    (found,) = decide_conditions([Condition(**condition)], metrics, COMPARISONS, BASELINES)
    return found


@pytest.mark.parametrize(
    ("condition", "number", "passed", "text"),
    [
        ({"metric": "mrr@20", "min": 0.3}, 0.30, True, "mrr@20 is 0.3, at least 0.3"),
        ({"metric": "mrr@20", "min": 0.29, "bound": "lower"}, 0.28, False, "mrr@20 (lower end) is 0.28, not at least"),
        ({"metric": "mrr@20", "max": 0.31, "bound": "lower"}, 0.32, False, "mrr@20 (upper end) is 0.32, not at most"),
        ({"metric": "mrr@20", "against": "champion", "min": 0.0}, 0.01, True, "mrr@20 minus champion's is 0.01"),
        ({"metric": "mrr@20", "against": "champion", "min": 0.0, "bound": "lower"}, -0.01, False, "is -0.01, not"),
        ({"metric": "mrr@20", "against": "champion", "min": 1.05, "compare": "ratio"}, 1.03, False, "over champion's"),
        (
            {"metric": "mrr@20", "against": "champion", "min": -0.05, "compare": "relative", "bound": "lower"},
            0.97 - 1,
            True,
            "relative to champion's (lower end) is -0.03, at least -0.05",
        ),
        ({"metric": "mrr@20", "against": "best-baseline", "min": 0.05}, 0.1, True, "mrr@20 minus vsknn's is 0.1"),
        ({"metric": "hr@20", "against": "best-baseline", "min": 0.05}, 0.1, True, "hr@20 minus popularity's is 0.1"),
        ({"metric": "popularity_bias@20", "against": "best-baseline", "max": 0.0}, 0.1, False, "minus vsknn's is 0.1"),
        ({"metric": "mrr@20", "against": "popularity", "min": 0.3}, 0.2, False, "minus popularity's is 0.2, not"),
    ],
)
def test_each_condition_names_its_number(condition: dict[str, Any], number: float, passed: bool, text: str) -> None:
    found = outcome(**condition)
    assert (found.number, found.passed) == (pytest.approx(number), passed)
    assert text in found.text


def test_without_a_champion_its_conditions_are_passed_and_say_so() -> None:
    found = outcome(champion=False, metric="mrr@20", against="champion", min=0.0)
    assert (found.passed, found.number, found.note) == (True, None, "no champion yet")


def test_against_a_champion_that_is_not_judged_conditions_fail_and_say_why() -> None:
    metrics = {name: values for name, values in METRICS.items() if name != "champion"}
    conditions = [Condition(metric="mrr@20", against="champion", min=-9.0), Condition(metric="mrr@20", min=0.1)]
    first, second = decide_conditions(conditions, metrics, COMPARISONS, BASELINES, unjudged="its class is gone")
    assert (first.passed, first.number, second.passed) == (False, None, True)
    assert "its class is gone" in first.note


def test_a_metric_without_an_interval_is_held_by_its_estimate_and_says_so() -> None:
    found = outcome(metric="coverage@20", min=0.3, bound="lower")
    assert (found.passed, found.number) == (True, 0.4)
    assert "no interval" in found.text


def test_an_infinite_ratio_passes_and_is_null_in_json() -> None:
    found = outcome(metric="mrr@20", against="popularity", compare="ratio", min=2.0)
    assert found.passed
    assert found.to_json()["number"] is None
