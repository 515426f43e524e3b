"""What moving shoppers won against an equal split."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from endcap.experiments.ab_gain import LayoutSums, estimate_gain
from endcap.experiments.closed_visits import ClosedVisits
from endcap.experiments.effect_state import EffectState
from endcap.experiments.splits import Arm

FIRST, SECOND = "challenger-1", "challenger-2"
EQUAL: dict[Arm, int] = dict.fromkeys(("stable", FIRST, SECOND), 1)
MOVED: dict[Arm, int] = {"stable": 1, FIRST: 1, SECOND: 8}


def test_equal_shares_win_nothing() -> None:
    gain = estimate_gain([LayoutSums(EQUAL, {FIRST: 3.0, SECOND: -1.0}, {FIRST: 9.0, SECOND: 9.0})])
    assert (gain.outcomes, gain.lower, gain.upper) == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)


def test_without_sums_nothing_is_known_of_other_shares() -> None:
    gain = estimate_gain([LayoutSums(MOVED, {}, {})])
    assert (gain.outcomes, gain.lower, gain.upper) == (0.0, -math.inf, math.inf)


def test_the_gain_is_share_less_equal_share_times_effect_times_exposures_times_rate() -> None:
    # 1,000 visits at a rate of 0.1: 100, 100 and 800 of them, and effects of +10 and +20 %. Each score is p (1 - p)
    # of its two arms' visits, times the difference of the rates.
    scores: dict[Arm, float] = {FIRST: 200 * 0.25 * 0.01, SECOND: 900 * (8 / 81) * 0.02}
    gain = estimate_gain([LayoutSums(MOVED, scores, {FIRST: 1.0, SECOND: 1.0})])
    expected = 1_000 * 0.1 * ((0.1 - 1 / 3) * 0.1 + (0.8 - 1 / 3) * 0.2)
    assert gain.outcomes == pytest.approx(expected)
    assert gain.lower < expected < gain.upper
    less = estimate_gain([LayoutSums(MOVED, scores, {FIRST: 1.0, SECOND: 1.0})], better=False)
    assert less.outcomes == pytest.approx(-expected)


def test_an_arm_that_left_counts_no_more() -> None:
    left: dict[Arm, int] = {"stable": 1, FIRST: 0, SECOND: 1}
    sums = LayoutSums(left, {SECOND: 50.0}, {SECOND: 10.0})
    before = LayoutSums(MOVED, {FIRST: 1.0, SECOND: 2.0}, {FIRST: 1.0, SECOND: 1.0})
    assert estimate_gain([before, sums]).outcomes == pytest.approx(estimate_gain([before]).outcomes)


def test_the_gain_is_right_in_the_mean_and_varies_as_its_band_says() -> None:
    """400 draws of the hash on one set of visits of three unequal arms, with one layout of unequal shares.

    The mean's standard error is a twentieth of the spread; the ratio of the spread to its formula has one of 3.5 %,
    and the formula is that of equal arms.
    """
    rng = np.random.default_rng(3)
    people, shares = 2_000, np.array([0.2, 0.2, 0.6])
    chance = rng.beta(1, 3, people)
    number = rng.random(people)
    outcomes = np.array([number < chance * factor for factor in (1.0, 1.1, 1.2)], float)
    truth = float((shares - 1 / 3) @ outcomes.sum(axis=1))
    weights: dict[Arm, int] = {"stable": 1, FIRST: 1, SECOND: 3}
    gains, variances = [], []
    for _ in range(400):
        arm = np.searchsorted([0.2, 0.4], rng.random(people), side="right")
        sums = LayoutSums(weights, {}, {})
        for place, name in ((1, FIRST), (2, SECOND)):
            rows = np.flatnonzero((arm == 0) | (arm == place))
            ones, p = np.ones(len(rows)), shares[place] / (shares[0] + shares[place])
            state = EffectState()
            outcome = outcomes[arm[rows], rows]
            state.add(ClosedVisits(rows, arm[rows] == place, p * ones, ones, outcome, 0.25 * ones))
            sums = replace(
                sums,
                scores={**sums.scores, name: state.sums.score},
                variances={**sums.variances, name: state.sums.variance},
            )
        gain = estimate_gain([sums], planned=1)
        gains.append(gain.outcomes)
        variances.append(gain.upper - gain.outcomes)
    spread = float(np.std(gains))
    assert np.mean(gains) == pytest.approx(truth, abs=3 * spread / 20)
    # The boundary that is tightest at this variance lies at 3.04 standard deviations for 2.5 %.
    assert np.mean(variances) / spread == pytest.approx(3.04, rel=0.12)
    assert np.mean(np.abs(np.array(gains) - truth) <= variances) > 0.97
