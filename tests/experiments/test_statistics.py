"""The evidence about an arm's effect: exact sums, the variance of the design, and bounds that hold at every look."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.errors import DataError
from endcap.experiments.closed_visits import ClosedVisits
from endcap.experiments.effect_state import EffectState
from endcap.experiments.expected_rates import ExpectedRates
from endcap.experiments.sample_ratio import SampleRatioState
from endcap.experiments.statistics import invert_effect, judge_effect
from endcap.simulation.shoppers import ShopperHabits, SimulatedShoppers

SMALL_SHOP = ShopperHabits(people=18_000, visits_per_day=6_000)
BUDGET = 0.05


def draw_visits(rng, count, people, shares=(0.01, 0.05, 0.2, 0.05)):
    place = rng.random(people)
    shopper = rng.integers(0, people, count)
    probability = np.array(shares)[np.sort(rng.integers(0, len(shares), count))]
    treated = place[shopper] < probability
    exposures = rng.integers(1, 4, count).astype(float)
    outcome = rng.binomial(exposures.astype(int), 0.3).astype(float)
    return ClosedVisits(shopper, treated, probability, exposures, outcome, rng.uniform(0.1, 0.5, count))


def assert_equal_states(first, second):
    one, two = first.to_arrays(), second.to_arrays()
    assert one.keys() == two.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, two[name], err_msg=name)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 400),
    st.integers(1, 60),
    st.lists(st.integers(0, 400), max_size=6),
)
def test_a_state_does_not_depend_on_how_visits_are_cut_into_batches(seed, count, people, cuts):
    visits = draw_visits(np.random.default_rng(seed), count, people)
    whole, parts = EffectState(), EffectState()
    whole.add(visits)
    edges = [0, *sorted(cut for cut in cuts if cut < count), count]
    for start, stop in itertools.pairwise(edges):
        parts.add(visits[start:stop])
        # What is stored between two looks loses nothing.
        stored = json.loads(json.dumps({name: values.tolist() for name, values in parts.to_arrays().items()}))
        types = {name: values.dtype for name, values in parts.to_arrays().items()}
        shapes = {name: values.shape for name, values in parts.to_arrays().items()}
        arrays = {name: np.array(values, types[name]).reshape(shapes[name]) for name, values in stored.items()}
        parts = EffectState.from_arrays(arrays)
    assert_equal_states(whole, parts)
    assert whole.sums == parts.sums


def test_a_trace_gives_the_sums_of_each_look():
    visits = draw_visits(np.random.default_rng(1), 3_000, 700)
    traced, added = EffectState(), EffectState()
    ends = [0, 10, 1_500, 3_000]
    steps = traced.trace(visits, ends)
    for step, (start, stop) in zip(steps, itertools.pairwise([0, *ends]), strict=True):
        added.add(visits[start:stop])
        assert step == added.sums


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_expected_rates_do_not_depend_on_batches_and_use_earlier_visits_alone(seed):
    rng = np.random.default_rng(seed)
    group, exposures, outcome = rng.integers(0, 3, 200), np.full(200, 3.0), rng.binomial(3, 0.2, 200).astype(float)
    whole = ExpectedRates([0.1, 0.2, 0.3]).predict(group, exposures, outcome)
    rates, cut = ExpectedRates([0.1, 0.2, 0.3]), int(rng.integers(0, 200))
    first = rates.predict(group[:cut], exposures[:cut], outcome[:cut])
    rates = ExpectedRates.from_arrays(rates.to_arrays())
    np.testing.assert_array_equal(
        whole, np.concatenate([first, rates.predict(group[cut:], exposures[cut:], outcome[cut:])])
    )
    later = outcome.copy()
    later[100:] = 0
    np.testing.assert_array_equal(ExpectedRates([0.1, 0.2, 0.3]).predict(group, exposures, later)[:101], whole[:101])


def test_the_variance_is_that_of_the_hash_for_shares_that_rise_and_fall():
    probability = np.array([0.1, 0.3, 0.2, 0.5, 0.3, 0.1])
    shopper = np.array([0, 0, 0, 1, 1, 0])
    outcome = np.array([1.0, 0.0, 2.0, 1.0, 1.0, 3.0])
    places = (np.arange(1_000) + 0.5) / 1_000
    scores = {}
    for number in (0, 1):
        own = shopper == number
        arms = places[:, None] < probability[own]
        scores[number] = ((arms - probability[own]) * (outcome[own] - 0.4)).sum(axis=1)
    state = EffectState()
    state.add(ClosedVisits(shopper, np.zeros(6, np.bool_), probability, np.ones(6), outcome, np.full(6, 0.4)))
    assert state._variance == pytest.approx(scores[0].var() + scores[1].var(), rel=1e-6)


def run_small(seed, effect=0.0, share=0.01, days=2, habits=SMALL_SHOP, looks_per_day=24):
    shop = SimulatedShoppers(habits, effect=effect, seed=seed)
    state, rates = EffectState(), ExpectedRates([habits.click_rate])
    steps = []
    for day in range(days):
        visits = shop.draw_day(day)
        treated = shop.place_on_range[visits.shopper] < share
        clicks = np.where(treated, visits.clicks[1], visits.clicks[0])
        count = len(treated)
        expected = rates.predict(np.zeros(count, np.int64), visits.exposures, clicks)
        rows = ClosedVisits(visits.shopper, treated, np.full(count, share), visits.exposures, clicks, expected)
        ends = np.linspace(0, count, looks_per_day + 1).astype(int)[1:].tolist()
        steps += [judge_effect(sums, metric="ctr", budget=BUDGET) for sums in state.trace(rows, ends)]
    return steps


def test_rollouts_of_an_equal_version_at_one_percent_are_rarely_called_harmful():
    harmed = sum(any(step.upper < 0 or step.harm >= 1 / BUDGET for step in run_small(seed)) for seed in range(200))
    # 17 of 200 is the 97.5 % quantile at a rate of 5 %.
    assert harmed <= 17


@pytest.mark.parametrize(("effect", "share"), [(-0.3, 0.05), (0.0, 0.1), (0.1, 0.5)])
def test_bounds_cover_the_true_effect_at_every_look(effect, share):
    missed = 0
    for seed in range(60):
        steps = run_small(seed, effect, share)
        missed += any(step.upper < effect for step in steps) + any(step.lower > effect for step in steps)
    # Two bounds with 5 % each: 12 of 60 is the 98 % quantile.
    assert missed <= 12


def test_a_harmful_version_is_found_and_a_better_one_shows_so():
    assert run_small(1, effect=-0.3, share=0.5)[-1].upper < 0
    assert run_small(1, effect=0.3, share=0.5)[-1].lower > 0


def test_more_is_harm_for_a_metric_of_which_less_is_better():
    steps = run_small(2, effect=0.3, share=0.5)
    shop = SimulatedShoppers(SMALL_SHOP, effect=0.3, seed=2)
    visits = shop.draw_day(0)
    treated = shop.place_on_range[visits.shopper] < 0.5
    clicks = np.where(treated, visits.clicks[1], visits.clicks[0])
    state = EffectState(better=False)
    count = len(clicks)
    state.add(ClosedVisits(visits.shopper, treated, np.full(count, 0.5), visits.exposures, clicks, np.full(count, 0.1)))
    evidence = judge_effect(state.sums, metric="returns", better=False, budget=BUDGET)
    assert evidence.lower > 0
    assert not evidence.better
    assert steps[-1].effect > 0


def test_the_champions_score_makes_bounds_tighter_without_moving_the_effect():
    shop = SimulatedShoppers(SMALL_SHOP, effect=-0.1, seed=5)
    visits = shop.draw_day(0)
    treated = shop.place_on_range[visits.shopper] < 0.2
    clicks = np.where(treated, visits.clicks[1], visits.clicks[0])
    count, widths, effects = len(clicks), [], []
    score = shop.score(visits)
    edges = np.quantile(score, np.arange(1, 20) / 20)
    alike, classes = np.zeros(count, np.int64), np.searchsorted(edges, score)
    for rates, group, known in (([0.1], alike, None), ([0.1] * 20, classes, None), ([1.0], alike, score)):
        expected = ExpectedRates(rates, weight=20).predict(group, visits.exposures, clicks, known)
        state = EffectState()
        state.add(ClosedVisits(visits.shopper, treated, np.full(count, 0.2), visits.exposures, clicks, expected))
        evidence = judge_effect(state.sums, metric="ctr", budget=BUDGET)
        widths.append(evidence.upper - evidence.effect)
        effects.append(evidence.effect)
    assert max(widths[1:]) < 0.92 * widths[0]
    assert max(abs(effect - effects[0]) for effect in effects) < widths[0] / 2


def test_a_metric_that_is_all_zero_says_nothing():
    visits = draw_visits(np.random.default_rng(1), 5_000, 2_000)
    zero = ClosedVisits(
        visits.shopper, visits.treated, visits.probability, visits.exposures, 0 * visits.outcome, 0 * visits.expected
    )
    state = EffectState()
    state.add(zero)
    evidence = judge_effect(state.sums, metric="ctr", budget=BUDGET)
    assert (evidence.lower, evidence.upper, evidence.effect) == (-math.inf, math.inf, 0.0)
    assert evidence.harm < 1


def test_visits_without_a_choice_count_for_nothing():
    visits = draw_visits(np.random.default_rng(1), 300, 50, shares=(0.0, 1.0))
    state = EffectState()
    assert state.trace(visits, [0, 300])[-1] == EffectState().sums


def test_values_that_are_no_numbers_are_refused():
    visits = draw_visits(np.random.default_rng(1), 10, 5)
    visits.outcome[3] = np.nan
    with pytest.raises(DataError, match="finite"):
        EffectState().add(visits)


def test_sample_ratio_counts_each_shopper_once_and_is_kept_exactly():
    visits = draw_visits(np.random.default_rng(4), 2_000, 300)
    whole, parts = SampleRatioState(), SampleRatioState()
    whole.add(visits.shopper, visits.treated, visits.probability)
    for start in range(0, 2_000, 130):
        rows = visits[start : start + 130]
        parts.add(rows.shopper, rows.treated, rows.probability)
        parts = SampleRatioState.from_arrays(parts.to_arrays())
    assert whole.counts == parts.counts
    assert sum(shoppers for shoppers, _ in whole.counts.values()) == len(np.unique(visits.shopper))
    assert whole.e_value == parts.e_value < 1000


def test_the_lift_over_popularity_is_the_inverse_of_popularitys_effect():
    effect, lower, upper = invert_effect(-0.2, -0.25, -0.1)
    assert effect == pytest.approx(0.25)
    assert lower == pytest.approx(1 / 0.9 - 1)
    assert upper == pytest.approx(1 / 0.75 - 1)
    assert invert_effect(0.0, -1.0, math.inf)[1:] == (-1.0, math.inf)


def test_at_a_fixed_horizon_effect_and_error_are_those_of_tea_tasting():
    tea_tasting = pytest.importorskip("tea_tasting")
    pandas = pytest.importorskip("pandas")
    shop = SimulatedShoppers(ShopperHabits(people=40_000, visits_per_day=40_000, daily_swing=0.0), effect=-0.1, seed=8)
    visits = shop.draw_day(0)
    treated = shop.place_on_range[visits.shopper] < 0.5
    clicks = np.where(treated, visits.clicks[1], visits.clicks[0])
    rate = float(clicks.sum() / visits.exposures.sum())
    state = EffectState()
    count = len(clicks)
    state.add(
        ClosedVisits(visits.shopper, treated, np.full(count, 0.5), visits.exposures, clicks, np.full(count, rate))
    )
    frame = pandas.DataFrame({"variant": treated.astype(int), "clicks": clicks, "exposures": visits.exposures})
    oracle = tea_tasting.Experiment(ctr=tea_tasting.RatioOfMeans("clicks", "exposures")).analyze(frame)["ctr"]
    evidence = judge_effect(state.sums, metric="ctr", budget=BUDGET)
    error = math.sqrt(state.sums.variance) / state.sums.information / evidence.stable_rate
    assert evidence.effect == pytest.approx(oracle.rel_effect_size, abs=0.05 * error)
    half = (oracle.effect_size_ci_upper - oracle.effect_size_ci_lower) / 2 / evidence.stable_rate
    assert error == pytest.approx(half / 1.96, rel=0.02)


@pytest.mark.parametrize("is_treated", [False, True])
def test_a_bot_with_half_of_all_rankings_moves_nothing_once_its_rankings_are_capped(is_treated):
    harmed = 0
    for seed in range(30):
        shop = SimulatedShoppers(SMALL_SHOP, seed=seed)
        day = shop.draw_day(0)
        bot = shop.draw_bot(0, 3 * SMALL_SHOP.visits_per_day)
        visits = day.join(bot)
        is_bot = visits.shopper == SMALL_SHOP.people
        counted = ~is_bot | (np.cumsum(is_bot * visits.exposures) <= 20)
        place = np.append(shop.place_on_range, 0.0 if is_treated else 0.99)
        shopper, clicks = visits.shopper[counted], visits.clicks[0][counted]
        count = len(shopper)
        treated = place[shopper] < 0.05
        state = EffectState()
        rows = ClosedVisits(
            shopper, treated, np.full(count, 0.05), visits.exposures[counted], clicks, np.full(count, 0.1)
        )
        for sums in state.trace(rows, list(range(0, count, 200))):
            evidence = judge_effect(sums, metric="ctr", budget=BUDGET)
            if evidence.upper < 0 or evidence.lower > 0:
                harmed += 1
                break
    # 30 runs at two times 5 %: 7 is the 98 % quantile.
    assert harmed <= 7
