"""What shoppers did before a rollout: taken visit by visit, a factor on what is expected, and nothing else."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.experiments.closed_visits import ClosedVisits
from endcap.experiments.effect_state import EffectState
from endcap.experiments.expected_rates import ExpectedRates, UsualOutcome
from endcap.experiments.exposures import ExposureReader
from endcap.experiments.metric_state import MetricState
from endcap.experiments.shopper_history import ShopperHistory
from endcap.experiments.splits import TrafficSplit, hash_salt
from endcap.experiments.statistics import judge_effect
from endcap.simulation.shoppers import ShopperHabits, SimulatedShoppers
from tests.experiments.reports import (
    DAY,
    HOUR,
    SALT,
    SIGNER,
    START,
    act,
    at,
    buy,
    count,
    make_policy,
    make_ranking,
    see,
    take,
)

SHOP = ShopperHabits(people=18_000, visits_per_day=6_000)
BEGINS = ExposureReader(SIGNER, "canary", SALT, begins=START + DAY, history=DAY)
SPLIT = TrafficSplit(hash_salt(SALT), canary=500_000)


def draw_past(rng, count, people):
    taste = rng.gamma(1.0, 1.0, people)
    shopper = rng.integers(0, people, count)
    expected = rng.uniform(0.05, 0.3, count)
    return shopper, expected, rng.poisson(expected * taste[shopper]).astype(float)


def compute_slowly(shopper, expected, outcome):
    """The factor before each visit, from the definition."""
    factors = []
    for row in range(len(shopper)):
        pairs, weights, squares, expected_squares, total = [], 0.0, 0.0, 0.0, 0.0
        for visit in range(row):
            same = np.flatnonzero(shopper[:visit] == shopper[visit])
            residual = outcome[visit] - expected[visit]
            pairs.append(residual * (outcome[same].sum() - expected[same].sum()))
            weights += expected[visit] * expected[same].sum()
            squares, expected_squares = squares + residual**2, expected_squares + expected[visit] ** 2
            total += expected[visit]
        factor = 1.0
        if weights > 0 and sum(pairs) > 3 * math.sqrt(sum(pair**2 for pair in pairs)):
            spread = sum(pairs) / weights
            noise = max(squares - spread * expected_squares, 0.1 * squares) / total
            own = np.flatnonzero(shopper[:row] == shopper[row])
            factor = (noise + spread * outcome[own].sum()) / (noise + spread * expected[own].sum())
        factors.append(factor)
    return factors


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 300), max_size=4))
@settings(max_examples=10, deadline=None)
def test_factors_follow_their_definition_for_any_batches_and_numbers_of_shoppers(seed, cuts):
    rng = np.random.default_rng(seed)
    shopper, expected, outcome = draw_past(rng, 300, 25)
    whole = ShopperHistory()
    factors = whole.learn(shopper, expected, outcome)
    np.testing.assert_allclose(factors, compute_slowly(shopper, expected, outcome), rtol=1e-5)
    other = rng.permutation(25)
    steps, parts = ShopperHistory(), []
    edges = [0, *sorted(cuts), 300]
    for start, stop in itertools.pairwise(edges):
        rows = slice(start, stop)
        parts.append(steps.learn(other[shopper[rows]], expected[rows], outcome[rows]))
        steps = ShopperHistory.from_arrays(steps.to_arrays())
    np.testing.assert_array_equal(factors, np.concatenate(parts))
    np.testing.assert_array_equal(whole.predict(np.arange(25)), steps.predict(other))


def test_shoppers_who_do_not_differ_keep_the_factor_1():
    rng = np.random.default_rng(3)
    shopper, expected = rng.integers(0, 500, 5_000), np.full(5_000, 0.1)
    history = ShopperHistory()
    history.learn(shopper, expected, rng.poisson(expected).astype(float))
    np.testing.assert_array_equal(history.predict(np.arange(600)), 1.0)


def run_days(seed, effect, *, past=0, learns=False, days=3, share=0.3):
    """Sums of clicks after some days. learns: the history goes on during the rollout."""
    shop = SimulatedShoppers(SHOP, effect=effect, seed=seed)
    history, before, rates, state = ShopperHistory(), ExpectedRates([0.1]), ExpectedRates([0.1]), EffectState()
    for day in range(-past, days):
        visits = shop.draw_day(day)
        treated = (shop.place_on_range[visits.shopper] < share) & (day >= 0)
        clicks = np.where(treated, visits.clicks[1], visits.clicks[0])
        group = np.zeros(len(treated), np.int64)
        if day < 0 or learns:
            expected = before.predict(group, visits.exposures, clicks) * visits.exposures
            factors = history.learn(visits.shopper, expected, clicks)
        else:
            factors = history.predict(visits.shopper)
        expected = rates.predict(group, visits.exposures, clicks, factors)
        probability = np.full(len(treated), share if day >= 0 else 0.0)
        state.add(ClosedVisits(visits.shopper, treated, probability, visits.exposures, clicks, expected))
    return state.sums


def test_history_from_before_takes_variance_out_and_leaves_the_effect():
    plain = [run_days(seed, -0.2) for seed in range(20)]
    known = [run_days(seed, -0.2, past=14) for seed in range(20)]
    learnt = [run_days(seed, -0.2, learns=True, days=9) for seed in range(10)]
    saved = 1 - np.mean([sums.variance for sums in known]) / np.mean([sums.variance for sums in plain])
    assert saved > 0.15

    def measure(runs):
        return np.mean([judge_effect(sums, metric="ctr", budget=0.05).effect for sums in runs])

    assert measure(known) == pytest.approx(-0.2, abs=0.01)
    # A history that goes on would hide a part of the harm.
    assert measure(learnt) > -0.175


def test_a_usual_outcome_is_known_from_earlier_visits_alone():
    usual = UsualOutcome()
    np.testing.assert_array_equal(usual.predict(np.array([0.0, 30.0, 0.0, 50.0])), [np.inf, np.inf, 30.0, 30.0])
    np.testing.assert_array_equal(usual.predict(np.array([0.0])), [40.0])


def test_rankings_from_before_the_rollout_count_for_history_alone():
    state = MetricState(make_policy(), "canary", begins=at(DAY))
    old = TrafficSplit(hash_salt("earlier"), canary=10)
    shoppers = [f"s{number}" for number in range(40)]
    seen, clicks = [], []
    for number, shopper in enumerate(shoppers):
        for hour in range(10):
            moment = hour * HOUR + number
            split = (old, None)[hour % 2]
            ranking = make_ranking(shopper, moment, split=split, arm=("stable", "baseline")[hour % 2])
            seen.append(see(ranking, moment + 1, shopper=shopper, customer="anna"))
            if number < 10:
                clicks.append(act(f"c{number}-{hour}", moment + 2, ranking_id=ranking))
    # A token of another shopper is no history either, and what comes from before is not counted as refused.
    seen.append(see(make_ranking("s0", HOUR, split=None, arm="stable"), HOUR + 1, shopper="s1"))
    take(state, seen, clicks, [buy("o1", 2 * HOUR, 40.0, shopper="s0")], reader=BEGINS)
    state.close(at(DAY + HOUR))
    assert (state.newest, state.crossed, state.sample_ratio, dict(+state.refusals)) == (None, 0.0, 1.0, {})
    assert count(state)["ctr"] == ({"stable": 0, "canary": 0}, {"stable": 0, "canary": 0})
    now = [make_ranking(shopper, DAY + 2 * HOUR, split=SPLIT) for shopper in shoppers]
    rows = [see(ranking, DAY + 2 * HOUR + 1, shopper=shopper) for ranking, shopper in zip(now, shoppers, strict=True)]
    take(state, rows, reader=BEGINS)
    state.close(at(3 * DAY))
    assert sum(count(state)["ctr"][0].values()) == len(shoppers)
    # An open visit from before the rollout ends with its begin, so that the purchase metrics lose nobody.
    assert sum(count(state)["conversion"][0].values()) == len(shoppers)
    clicked, others = (state._joins[0]._history.predict(np.array(numbers)) for numbers in ([0, 5], [20, 39]))
    assert clicked.min() > 2 > 1 > others.max()
