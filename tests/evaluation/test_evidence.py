"""What a gate needs before it decides."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from endcap.evaluation.estimates import Estimate, PairwiseComparison, compute_half_width
from endcap.evaluation.evidence import find_missing_evidence
from endcap.evaluation.gate import ConditionOutcome, decide_conditions, decide_gate
from endcap.spec.gate import Condition, Evidence
from endcap.spec.split import GivenSplit, LeaveOneOutSplit, TimeSplit

SPLIT = TimeSplit()


def decided(condition: dict[str, Any], found: Estimate, other: float = 0.2) -> ConditionOutcome:
    """A condition on a challenger of 0.3, where the comparison with `vsknn` gives an estimate."""
    compared = PairwiseComparison({"mrr@20": found}, {"mrr@20": found})
    metrics = {"challenger": {"mrr@20": found}, "vsknn": {"mrr@20": Estimate(other)}}
    if condition.get("compare") == "relative":
        compared = PairwiseComparison({}, {"mrr@20": found.subtract(-1.0)})
    (outcome,) = decide_conditions([Condition(metric="mrr@20", **condition)], metrics, {"vsknn": compared}, ["vsknn"])
    return outcome


def find_missing(outcome: ConditionOutcome, *, sessions: int = 1000, **evidence: Any) -> list[str]:
    return find_missing_evidence(Evidence(**evidence), sessions, [outcome], SPLIT)


DIFFERENCE, RATIO, RELATIVE = (
    {"against": "vsknn", "compare": compare, "min": 0.0} for compare in ("difference", "ratio", "relative")
)


@pytest.mark.parametrize(
    ("condition", "found", "share"),
    [
        (DIFFERENCE, Estimate(0.01, -0.03, 0.05), 0.2),
        (RATIO | {"min": 1.0}, Estimate(1.05, 0.85, 1.25), 0.2),
        (RELATIVE, Estimate(0.05, -0.15, 0.25), 0.2),
        ({"min": 0.1}, Estimate(0.1, 0.08, 0.12), 0.2),
        (DIFFERENCE | {"max": 0.0, "min": None}, Estimate(0.01, -0.03, 0.05), 0.2),
    ],
    ids=["difference", "ratio", "relative", "by itself", "at most"],
)
@pytest.mark.parametrize("bound", ["estimate", "lower"])
def test_an_interval_about_the_limit_must_be_narrow_enough(
    condition: dict[str, Any], found: Estimate, share: float, bound: str
) -> None:
    outcome = decided({**condition, "bound": bound}, found)
    assert outcome.half_width == pytest.approx(share)
    assert find_missing(outcome, max_half_width=0.21) == []
    (told,) = find_missing(outcome, max_half_width=0.1)
    # A width that is twice what is asked takes four times the sessions.
    assert re.findall(r"(\d[\d,]*) test sessions would be enough, and there are (\d[\d,]*)", told) == [
        ("4,000", "1,000")
    ]
    assert "20 %" in told
    assert "split.test larger" in told
    assert decide_gate([outcome], [told]) == "undecided"


@pytest.mark.parametrize(
    ("condition", "found", "passed"),
    [
        (RATIO | {"min": 1.5}, Estimate(26.0, 21.0, 32.0), True),
        (RATIO | {"min": 1.5}, Estimate(math.inf, math.inf, math.inf), True),
        (DIFFERENCE, Estimate(0.3, 0.1, 0.5), True),
        (DIFFERENCE, Estimate(-0.3, -0.5, -0.1), False),
        (DIFFERENCE, Estimate(0.0, 0.0, 0.0), True),
        (RELATIVE | {"min": -0.05}, Estimate(0.4, -0.04, 0.9), True),
    ],
)
def test_an_interval_on_one_side_of_the_limit_decides_at_any_width(
    condition: dict[str, Any], found: Estimate, passed: bool
) -> None:
    outcome = decided(condition, found, other=0.001)
    assert outcome.passed == passed
    assert find_missing(outcome, max_half_width=0.001) == []


def test_a_value_of_nothing_has_no_share() -> None:
    outcome = decided(DIFFERENCE, Estimate(0.01, -0.01, 0.03), other=0.0)
    assert outcome.half_width == math.inf
    assert outcome.to_json()["half_width"] is None
    (told,) = find_missing(outcome, max_half_width=1000.0)
    assert "test sessions would do" not in told
    assert compute_half_width("difference", Estimate(0.0, 0.0, 0.0), 0.0) == 0.0
    assert compute_half_width("ratio", Estimate(2.0, 1.0, math.inf), 0.1) == math.inf
    assert compute_half_width(None, Estimate(0.5), 0.5) is None


@pytest.mark.parametrize(
    ("split", "remedy"),
    [(SPLIT, "split.test"), (GivenSplit(by="given"), "part: test"), (LeaveOneOutSplit(by="leave-one-out"), "sessions")],
)
def test_too_few_sessions_decide_nothing_and_the_remedy_is_the_splits(split: Any, remedy: str) -> None:
    outcome = decided(DIFFERENCE, Estimate(0.3, 0.1, 0.5))
    (told,) = find_missing_evidence(Evidence(), 99, [outcome], split)
    assert re.findall(r"\d+", told) == ["99", "100"]
    assert remedy in told
    assert find_missing_evidence(Evidence(), 100, [outcome], split) == []
    assert find_missing_evidence(Evidence(), 1, [], split) == [], "without conditions nothing is decided"


def test_too_little_evidence_is_told_before_a_condition_that_fails() -> None:
    failed = decided(DIFFERENCE, Estimate(-0.3, -0.5, -0.1))
    assert decide_gate([failed], []) == "failed"
    assert decide_gate([failed], find_missing(failed, sessions=3)) == "undecided"


def test_the_time_of_a_prediction_is_narrowed_by_no_session() -> None:
    (outcome,) = decide_conditions(
        [Condition(metric="p90_ms", max=10.0)], {"challenger": {"p90_ms": Estimate(9.0, 2.0, 30.0)}}, {}, []
    )
    assert find_missing(outcome, max_half_width=0.01) == []
