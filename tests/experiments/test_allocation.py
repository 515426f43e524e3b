"""Shares of an A/B test's arms: targets, floor, dead band, cap, and what is known of an arm."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from endcap.errors import DataError
from endcap.experiments.allocation import Allocation, ArmEstimate, allocate, estimate_arm
from endcap.experiments.closed_visits import ClosedVisits
from endcap.experiments.effect_state import EffectState, EffectSums
from endcap.experiments.splits import TOTAL_WEIGHT, Arm
from endcap.spec.ab import AbSpec

FIRST, SECOND = "challenger-1", "challenger-2"
EQUAL: Mapping[Arm, int] = {"stable": 333_334, FIRST: 333_333, SECOND: 333_333}
POLICY = AbSpec.model_validate({"max_moved": 1.0})


def share(first: float, second: float, *, noise: float = 0.01, weights: Mapping[Arm, int] = EQUAL) -> Allocation:
    """The allocation after effects with a standard error of `noise`, of which half is of stable's shoppers."""
    estimates = [ArmEstimate(FIRST, first, noise**2, 0.5), ArmEstimate(SECOND, second, noise**2, 0.5)]
    return allocate(weights, estimates, POLICY, 7)


def test_a_clear_winner_gets_all_but_the_floors() -> None:
    allocation = share(0.03, 0.2)
    assert allocation.weights == {"stable": 100_000, FIRST: 100_000, SECOND: 800_000}
    assert (allocation.reason, allocation.best[SECOND]) == ("moved", 1.0)
    assert allocation.moved == pytest.approx(0.466667)


def test_draws_follow_the_joint_posterior() -> None:
    # Effects of the same size: half of the time the first is above the second, whatever they have in common. Both lie
    # three standard errors above stable, which is the best with less than 0.1 %.
    allocation = share(0.03, 0.03)
    assert allocation.best[FIRST] == pytest.approx(0.5, abs=0.006)
    assert allocation.best["stable"] < 0.003
    # A difference of 0.01 has the variance 2 (1 - 0.5) 0.01^2: one standard error, so 84.1 %. 100,000 draws are within
    # 0.0035 of it in 99.7 %.
    assert share(0.1, 0.11).best[SECOND] == pytest.approx(0.8413, abs=0.0035)
    apart = [ArmEstimate(FIRST, 0.1, 1e-4), ArmEstimate(SECOND, 0.11, 1e-4)]
    assert allocate(EQUAL, apart, POLICY, 7).best[SECOND] == pytest.approx(0.7602, abs=0.0041)


def test_the_same_seed_gives_the_same_allocation() -> None:
    assert share(0.02, 0.03) == share(0.02, 0.03)
    estimates = [ArmEstimate(FIRST, 0.02, 1e-4, 0.5), ArmEstimate(SECOND, 0.03, 1e-4, 0.5)]
    assert allocate(EQUAL, estimates, POLICY, 8).best != share(0.02, 0.03).best


def test_less_can_be_better() -> None:
    estimates = [ArmEstimate(FIRST, 0.2, 1e-4, 0.5, better=False), ArmEstimate(SECOND, -0.2, 1e-4, 0.5, better=False)]
    assert allocate(EQUAL, estimates, POLICY, 7).weights[SECOND] == 800_000


def test_nobody_moves_before_a_gain_is_shown() -> None:
    # The boundary for one of two challengers with an error of 0.1 lies above 2.3 standard errors everywhere.
    allocation = share(0.02, 0.0, noise=0.01)
    assert (allocation.reason, allocation.moved, allocation.weights) == ("unsure", 0.0, dict(EQUAL))
    assert allocation.target[FIRST] > 600_000


def test_nobody_moves_for_little() -> None:
    near: Mapping[Arm, int] = {"stable": 110_000, FIRST: 120_000, SECOND: 770_000}
    allocation = share(0.0, 0.2, weights=near)
    assert (allocation.reason, allocation.weights) == ("dead-band", dict(near))


def test_no_more_move_than_the_cap_allows() -> None:
    policy = AbSpec.model_validate({"max_moved": 0.25})
    estimates = [ArmEstimate(FIRST, 0.0, 1e-4, 0.5), ArmEstimate(SECOND, 0.2, 1e-4, 0.5)]
    allocation = allocate(EQUAL, estimates, policy, 7)
    assert allocation.reason == "capped"
    assert 0.2499 < allocation.moved <= 0.25
    assert sum(allocation.weights.values()) == TOTAL_WEIGHT
    assert allocation.weights[SECOND] == pytest.approx(583_333, abs=20)
    again = allocate(allocation.weights, estimates, policy, 7)
    assert (again.reason, again.weights) == ("moved", dict(allocation.target))


def test_without_evidence_of_an_arm_nobody_moves() -> None:
    only = [ArmEstimate(SECOND, 0.2, 1e-4, 0.5)]
    for estimates in ([], only, [*only, ArmEstimate(FIRST, 0.0, math.inf)]):
        allocation = allocate(EQUAL, estimates, POLICY, 7)
        assert (allocation.reason, allocation.weights) == ("no-evidence", dict(EQUAL))
        assert set(allocation.best.values()) == {1 / 3}


def test_an_arm_that_was_dropped_gets_nobody() -> None:
    weights: Mapping[Arm, int] = {"stable": 500_000, FIRST: 0, SECOND: 500_000}
    estimates = [ArmEstimate(FIRST, 0.5, 1e-4, 0.5), ArmEstimate(SECOND, 0.2, 1e-4, 0.5)]
    allocation = allocate(weights, estimates, POLICY, 7)
    assert allocation.weights == {"stable": 100_000, FIRST: 0, SECOND: 900_000}
    assert allocation.best == {"stable": 0.0, FIRST: 0.0, SECOND: 1.0}


def test_an_arm_at_its_floor_wins_all_the_same() -> None:
    weights: Mapping[Arm, int] = {"stable": 800_000, FIRST: 100_000, SECOND: 100_000}
    assert share(0.0, 0.2, weights=weights).weights == {"stable": 100_000, FIRST: 100_000, SECOND: 800_000}


def test_an_arm_below_the_floor_is_lifted_without_any_evidence() -> None:
    weights: Mapping[Arm, int] = {"stable": 940_000, FIRST: 50_000, SECOND: 10_000}
    allocation = allocate(weights, [], POLICY, 7)
    assert allocation.weights == {"stable": 800_000, FIRST: 100_000, SECOND: 100_000}
    assert (allocation.reason, allocation.moved) == ("moved", pytest.approx(0.14))


def test_eight_arms_have_a_smaller_floor() -> None:
    arms: list[Arm] = [
        "stable",
        *("challenger-1", "challenger-2", "challenger-3", "challenger-4"),
        *("challenger-5", "challenger-6", "challenger-7"),
    ]
    estimates = [ArmEstimate(arm, 0.2 if arm == SECOND else 0.0, 1e-4, 0.5) for arm in arms[1:]]
    allocation = allocate(dict.fromkeys(arms, 125_000), estimates, POLICY, 7)
    assert allocation.weights["stable"] == pytest.approx(1e6 / 24, abs=1)
    assert allocation.weights[SECOND] == pytest.approx(1e6 * 17 / 24, abs=1)


def test_a_floor_for_fewer_arms_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        allocate(EQUAL, [], AbSpec.model_validate({"floor": 0.4}), 7)
    assert caught.value.code == "experiments.ab-floor-too-high"


def test_two_estimates_of_an_arm_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        allocate(EQUAL, [ArmEstimate(FIRST, 0.0, 1.0), ArmEstimate(FIRST, 0.0, 1.0)], POLICY, 7)
    assert caught.value.code == "experiments.ab-estimate-repeated"


def test_an_arm_with_few_visits_is_not_known() -> None:
    assert estimate_arm(EffectSums(), FIRST).variance == math.inf
    few = EffectSums(5.0, 100.0, 90.0, 50.0, 500.0, events=20.0, pilot_visits=1000, exposures=(500.0, 500.0))
    assert estimate_arm(few, FIRST).variance == math.inf


def test_estimates_vary_together_as_their_formula_says() -> None:
    """Shops of equal arms, whose returning shoppers differ, with shares 20, 50 and 30 %: 500 draws of the hash.

    The ratio of a variance to its formula has a standard error of sqrt(2 / 500), 6.3 %; a correlation of about 0.66
    one of 0.025.
    """
    rng = np.random.default_rng(5)
    people, effects, variances, correlations = 1_500, [], [], []
    shopper = np.tile(np.arange(people), 2)
    taste = rng.beta(1, 3, people)
    outcome = (rng.random(2 * people) < taste[shopper]).astype(float)
    for _ in range(500):
        arm = np.searchsorted([0.2, 0.7], rng.random(people), side="right")[shopper]
        estimates = []
        for number, weight in ((1, 0.5), (2, 0.3)):
            rows = np.flatnonzero((arm == 0) | (arm == number))
            ones, p = np.ones(len(rows)), weight / (weight + 0.2)
            state = EffectState()
            visits = (shopper[rows], arm[rows] == number, p * ones, ones, outcome[rows], 0.25 * ones)
            state.add(ClosedVisits(*visits))
            estimates.append(estimate_arm(state.sums, FIRST if number == 1 else SECOND))
        effects.append([estimate.effect for estimate in estimates])
        variances.append([estimate.variance for estimate in estimates])
        correlations.append(math.sqrt(estimates[0].shared * estimates[1].shared))
    observed = np.cov(np.array(effects).T)
    assert np.diag(observed) == pytest.approx(np.mean(variances, axis=0), rel=0.19)
    assert np.corrcoef(np.array(effects).T)[0, 1] == pytest.approx(np.mean(correlations), abs=0.075)
    assert np.mean(correlations) == pytest.approx(math.sqrt(5 / 7 * 3 / 5), abs=0.01)
