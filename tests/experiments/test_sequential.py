"""Boundaries and e-values against what they promise: by exhaustive enumeration, and by simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from endcap.experiments.sequential import (
    HARMS,
    compute_boundary,
    compute_sample_ratio,
    mix_wealth,
    tune_mixture,
    weigh_residuals,
)


def test_a_boundary_is_crossed_about_as_often_as_its_budget_allows_and_not_more():
    rng = np.random.default_rng(3)
    steps, runs, budget = 2_000, 4_000, 0.05
    r = tune_mixture(500.0, budget)
    boundary = np.array([compute_boundary(float(n), r, budget) for n in range(1, steps + 1)])
    walks = np.cumsum(rng.standard_normal((runs, steps), dtype=np.float32), axis=1)
    crossed = (walks > boundary).any(axis=1).mean()
    assert 0.3 * budget < crossed < budget + 3 * math.sqrt(budget * 0.95 / runs)


def test_the_tuned_boundary_is_tightest_at_its_variance():
    variance, budget = 300.0, 0.025
    tuned = compute_boundary(variance, tune_mixture(variance, budget), budget)
    for factor in (0.3, 0.6, 1.7, 3.0):
        assert compute_boundary(variance, factor * tune_mixture(variance, budget), budget) > tuned * 0.999


@pytest.mark.parametrize("harm", [-1, 1])
def test_the_mean_of_the_small_sample_e_value_is_one_if_the_arm_changes_nothing(harm):
    residuals = np.array([0.9, -0.1, 35.0, -0.4])
    probability = np.array([0.01, 0.05, 0.05, 0.5])
    mean = 0.0
    for arms in itertools.product([False, True], repeat=4):
        treated = np.array(arms)
        chance = float(np.prod(np.where(treated, probability, 1 - probability)))
        mean += chance * mix_wealth(weigh_residuals(residuals, treated, probability, harm).sum(axis=1).tolist())
    assert mean == pytest.approx(1.0, abs=1e-12)


def test_the_small_sample_e_value_shrinks_on_average_if_the_arm_is_better():
    probability = np.array([0.05, 0.1, 0.3])
    stable, better = np.array([-0.1, 0.9, -0.1]), np.array([0.9, 0.9, -0.1])
    mean = 0.0
    for arms in itertools.product([False, True], repeat=3):
        treated = np.array(arms)
        chance = float(np.prod(np.where(treated, probability, 1 - probability)))
        residuals = np.where(treated, better, stable)
        mean += chance * mix_wealth(weigh_residuals(residuals, treated, probability, -1).sum(axis=1).tolist())
    assert mean < 1.0


def test_no_shopper_multiplies_the_e_value_by_more_than_their_rarity():
    residuals, probability = np.array([-1e6, 1e6]), np.array([0.01, 0.01])
    treated = np.array([True, True])
    assert np.exp(weigh_residuals(residuals, treated, probability, -1)).max() <= 100 * (1 + 1e-9)


def test_the_mean_of_the_sample_ratio_e_value_is_one_along_any_path_of_shares():
    probability = [0.1, 0.1, 0.3, 0.5]
    mean = 0.0
    for arms in itertools.product([0, 1], repeat=4):
        chance = math.prod(p if arm else 1 - p for p, arm in zip(probability, arms, strict=True))
        counts: dict[float, tuple[int, int]] = {}
        for p, arm in zip(probability, arms, strict=True):
            shoppers, treated = counts.get(p, (0, 0))
            counts[p] = (shoppers + 1, treated + arm)
        mean += chance * compute_sample_ratio(counts)
    assert mean == pytest.approx(1.0, abs=1e-12)


def test_a_lost_tenth_of_an_arm_is_found_and_an_exact_split_is_not():
    assert compute_sample_ratio({0.05: (100_000, 5_000), 0.5: (50_000, 25_000)}) < 1
    assert compute_sample_ratio({0.05: (100_000, 4_500), 0.5: (50_000, 22_500)}) > 1000


def test_mixing_does_not_overflow():
    assert mix_wealth([2_000.0] + [0.0] * (len(HARMS) - 1)) > 1e100
