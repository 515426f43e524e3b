"""Guardrails of an arm: what breaks them, how soon, and what does not."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from endcap.experiments.evidence import GuardrailEvidence
from endcap.experiments.fault_process import FaultProcess, compare_rates, compare_to_limit
from endcap.experiments.guardrails import GuardrailMonitor, choose_threshold, find_quantile
from endcap.experiments.operational_counts import ArmCounts, OperationsWindow
from endcap.experiments.score_drift import bin_scores, choose_edges, compute_psi, smooth_shares, weigh_drift
from endcap.spec.rollout import RolloutSpec
from endcap.spec.rollout_metrics import (
    ErrorsGuardrailSpec,
    FallbacksGuardrailSpec,
    LatencyGuardrailSpec,
    ScoreDriftGuardrailSpec,
)
from tests.bench.guardrails import FaultCase, find_breach, simulate_windows

BEGIN = datetime(2026, 11, 2, tzinfo=UTC)
ERRORS = ErrorsGuardrailSpec(kind="errors")
DRIFT = ScoreDriftGuardrailSpec(kind="score_drift")


def make_window(
    number: int, stable: ArmCounts | None, canary: ArmCounts | None, seconds: float = 10
) -> OperationsWindow:
    begin = BEGIN + timedelta(seconds=seconds * number)
    arms = {name: counts for name, counts in (("stable", stable), ("canary", canary)) if counts is not None}
    return OperationsWindow(begin, begin + timedelta(seconds=seconds), arms)


def find_one(monitor: GuardrailMonitor, name: str) -> GuardrailEvidence:
    (evidence,) = (entry for entry in monitor.judge() if entry.guardrail == name)
    return evidence


@pytest.mark.parametrize(
    ("case", "name", "limit"),
    [
        (FaultCase(0.05, errors=0.05), "errors", 60),
        (FaultCase(0.01, errors=0.05), "errors", 120),
        (FaultCase(0.05, slow=2.0), "latency", 60),
        (FaultCase(0.01, slow=2.0), "latency", 300),
    ],
)
def test_a_fault_is_noticed_in_time(case: FaultCase, name: str, limit: float) -> None:
    breaches = [find_breach(case, seed) for seed in range(200)]
    assert {guardrail for guardrail, _ in breaches} == {name}
    assert np.quantile([seconds for _, seconds in breaches], 0.95, method="higher") <= limit


def test_bursts_that_both_arms_share_take_nobody_back() -> None:
    cases = [FaultCase(share, bursts=True, windows=1500) for share in (0.01, 0.05, 0.5)]
    assert [find_breach(case, seed) for seed, case in enumerate(cases)] == [("", math.inf)] * 3


@pytest.mark.parametrize(("rate", "limit"), [(0.004, 0.005), (0.05, 0.005), (0.4, 0.005), (0.9, 0.05)])
def test_a_rate_at_its_limit_is_worth_at_most_one_on_average(rate: float, limit: float) -> None:
    # The arm has the largest rate that is allowed: at 3 times the stable version's, or at the limit.
    random = np.random.default_rng(1)
    stable_rate = rate / 3
    values = []
    for _ in range(4000):
        events, stable = random.binomial(30, max(rate, limit)), random.binomial(300, stable_rate)
        values.append(np.exp(compare_rates(int(events), 30, limit, 3.0, int(stable), 300)))
    means, errors = np.mean(values, axis=0), np.std(values, axis=0) / math.sqrt(len(values))
    assert (means <= 1 + 4 * errors).all()


def test_a_mixture_over_beginnings_keeps_its_error_and_sees_a_late_fault() -> None:
    random = np.random.default_rng(2)
    highest = []
    for _ in range(200):
        process = FaultProcess()
        peak = 0.0
        for events in random.binomial(30, 0.005, 500):
            process.advance(compare_to_limit(int(events), 30, 0.005), 10)
            peak = max(peak, process.e_value)
        highest.append(peak >= 20)
    assert np.mean(highest) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 200)
    late = FaultProcess()
    for _ in range(3 * 8640):
        late.advance(compare_to_limit(0, 150, 0.005), 10)
    assert late.e_value < 1
    for _ in range(6):
        late.advance(compare_to_limit(8, 150, 0.005), 10)
    assert late.e_value > 400


def test_the_parts_of_the_wealth_add_up_to_one() -> None:
    process = FaultProcess()
    for _ in range(500):
        process.advance([0.0, 0.0], 7 * 3600.0)
        assert process.e_value == pytest.approx(1.0)


def test_a_source_that_is_away_is_no_breach_and_no_evidence() -> None:
    monitor = GuardrailMonitor(RolloutSpec().guardrails, "canary")
    failing = ArmCounts(requests=100, errors=100, rankings=100, empty=100, fallbacks=100)
    for number in range(50):
        monitor.add(make_window(number, None, failing))
        monitor.add(make_window(number, ArmCounts(requests=3000, rankings=3000), None))
    assert {(entry.e_value, entry.events) for entry in monitor.judge()} == {(1.0, 0)}


def test_a_breach_between_two_looks_stays() -> None:
    monitor = GuardrailMonitor([ERRORS], "canary")
    for number in range(5):
        monitor.add(make_window(number, ArmCounts(requests=3000, errors=3), ArmCounts(requests=30, errors=10)))
    broken = find_one(monitor, "errors")
    for number in range(5, 500):
        monitor.add(make_window(number, ArmCounts(requests=3000, errors=3), ArmCounts(requests=30)))
    assert find_one(monitor, "errors") == broken
    assert broken.e_value >= 400
    assert broken.observed == pytest.approx(1 / 3)
    assert broken.reference == 0.005


def test_fallbacks_of_many_new_shoppers_are_held_against_those_of_the_same_seconds() -> None:
    monitor = GuardrailMonitor([FallbacksGuardrailSpec(kind="fallbacks")], "canary")
    for number in range(200):
        stable = ArmCounts(rankings=2000, fallbacks=400)
        monitor.add(make_window(number, stable, ArmCounts(rankings=100, fallbacks=25)))
    assert find_one(monitor, "fallbacks").e_value < 1
    for number in range(200, 230):
        monitor.add(make_window(number, stable, ArmCounts(rankings=100, fallbacks=95)))
    assert find_one(monitor, "fallbacks").e_value >= 400


def test_a_version_that_answers_everyone_is_held_against_its_own_history() -> None:
    latency = LatencyGuardrailSpec(kind="latency")
    monitor = GuardrailMonitor([ERRORS, latency], "stable", against=None)
    windows = list(simulate_windows(FaultCase(0.5, windows=400), 3))
    for window in windows:
        monitor.add(window)
    assert all(entry.e_value < 400 for entry in monitor.judge())
    for window in simulate_windows(FaultCase(0.5, slow=2.0, windows=20), 4):
        slow = replace(window.arms["canary"], errors=100)
        monitor.add(replace(window, arms={"stable": slow}))
    assert all(entry.e_value >= 400 for entry in monitor.judge())


def test_a_monitor_goes_on_from_what_it_wrote() -> None:
    policy = [*RolloutSpec().guardrails, DRIFT]
    windows = list(simulate_windows(FaultCase(0.05, errors=0.02, windows=120), 5))
    whole, first = GuardrailMonitor(policy, "canary"), GuardrailMonitor(policy, "canary")
    for window in windows[:60]:
        first.add(window)
    second = GuardrailMonitor(policy, "canary")
    second.restore(json.loads(json.dumps(first.to_json(), allow_nan=False)))
    for window in windows:
        whole.add(window)
    for window in windows[60:]:
        second.add(window)
    assert second.judge() == whole.judge()
    assert second.to_json() == whole.to_json()


def test_scores_that_move_break_the_drift_guardrail_and_others_do_not() -> None:
    edges = [*np.round(np.linspace(-3, 3, 40), 3).tolist(), math.inf]

    def draw(mean: float, random: np.random.Generator) -> ArmCounts:
        counts = np.bincount(np.searchsorted(edges, random.normal(mean, 1, 100)), minlength=len(edges))
        return ArmCounts(top_scores=dict(zip(edges, counts.tolist(), strict=True)))

    random = np.random.default_rng(6)
    monitor = GuardrailMonitor([DRIFT], "canary")
    for number in range(60 * 24):
        monitor.add(make_window(number, None, draw(0.3 * math.sin(number / 200), random), seconds=60))
    steady = find_one(monitor, "score-drift")
    assert steady.e_value < 1
    assert steady.observed < 0.25
    for number in range(60 * 24, 60 * 26):
        monitor.add(make_window(number, None, draw(1.2, random), seconds=60))
    moved = find_one(monitor, "score-drift")
    assert moved.e_value >= 400
    assert moved.observed > 0.25


def test_drift_at_its_limit_is_worth_at_most_one_on_average() -> None:
    reference = np.full(5, 0.2)
    shares = np.array([0.35, 0.25, 0.2, 0.13, 0.07])
    limit = compute_psi(shares, reference)
    random = np.random.default_rng(7)
    forecast = smooth_shares(random.multinomial(500, shares).astype(float))
    draws = random.multinomial(500, shares, 60).astype(float)
    values = [math.exp(weigh_drift(counts, forecast, reference, limit)) for counts in draws]
    assert np.mean(values) <= 1
    strong = random.multinomial(500, [0.6, 0.2, 0.1, 0.07, 0.03]).astype(float)
    assert weigh_drift(strong, smooth_shares(strong), reference, limit) > 20


def test_bins_hold_equal_parts_and_the_last_one_all_the_rest() -> None:
    histogram = {float(edge): 10 for edge in range(100)} | {math.inf: 0}
    edges = choose_edges(histogram)
    assert len(edges) == 10
    assert edges[-1] == math.inf
    assert bin_scores(histogram, edges).tolist() == [100.0] * 10


def test_the_threshold_is_the_edge_nearest_to_the_quantile() -> None:
    histogram = {0.01: 900, 0.02: 80, 0.03: 12, 0.05: 7, math.inf: 1}
    assert choose_threshold(histogram, 0.01, 0.0, histogram) == 0.03
    assert choose_threshold(histogram, 0.01, 0.04, histogram) == 0.05
    assert choose_threshold(histogram, 0.01, 0.0, [0.02, 0.05]) == 0.02
    assert choose_threshold({0.01: 500, math.inf: 500}, 0.01, 0.0, histogram) is None
    assert choose_threshold({0.01: 50, math.inf: 0}, 0.01, 0.0, histogram) is None
    assert find_quantile(histogram, 0.5) == pytest.approx(0.01 * 500 / 900)
    assert find_quantile({}, 0.5) == 0.0
