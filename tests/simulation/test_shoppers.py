"""The shoppers of the simulated shop: what is promised of their tastes, visits and arms."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from endcap.simulation.shoppers import ShopperHabits, SimulatedShoppers

HABITS = ShopperHabits(people=60_000, visits_per_day=20_000)


def test_the_same_seed_gives_the_same_visits():
    first, second = (SimulatedShoppers(HABITS, effect=0.1, seed=4).draw_day(0) for _ in range(2))
    for entry in fields(first):
        np.testing.assert_array_equal(getattr(first, entry.name), getattr(second, entry.name))


@pytest.mark.parametrize("effect", [-0.2, 0.05])
def test_the_other_arm_changes_clicks_buyers_and_revenue_by_the_effect(effect):
    shop = SimulatedShoppers(ShopperHabits(), effect=effect, seed=1)
    visits = shop.draw_day(0)
    clicks, buyers = visits.clicks.sum(axis=1), visits.buyers.sum(axis=1)
    assert clicks[1] / clicks[0] - 1 == pytest.approx(effect, abs=0.01)
    assert buyers[1] / buyers[0] - 1 == pytest.approx(effect, abs=0.03)
    assert visits.revenue.any(axis=1).all()
    assert clicks[0] / visits.exposures.sum() == pytest.approx(0.1, rel=0.03)


def test_an_arm_without_an_effect_gets_the_same_clicks_and_orders():
    visits = SimulatedShoppers(HABITS, seed=1).draw_day(0)
    np.testing.assert_array_equal(visits.clicks[0], visits.clicks[1])
    np.testing.assert_array_equal(visits.revenue[0], visits.revenue[1])


def test_clicks_of_one_shopper_have_the_stated_correlation():
    shop = SimulatedShoppers(ShopperHabits(places=0.0, daily_swing=0.0), seed=2)
    clicks = shop.draw_day(0).clicks[0]
    rate = clicks.mean() / 3
    # Var(sum of 3) = 3 v (1 + 2 c), with v = rate (1 - rate).
    correlation = (clicks.var() / (3 * rate * (1 - rate)) - 1) / 2
    assert correlation == pytest.approx(0.1, abs=0.01)


def test_each_shopper_comes_once_a_day_and_some_come_back():
    shop = SimulatedShoppers(HABITS, seed=3)
    first, second = shop.draw_day(0).shopper, shop.draw_day(1).shopper
    assert len(np.unique(first)) == len(first) == 20_000
    assert np.isin(second, first).mean() == pytest.approx(1 / 3, abs=0.02)


def test_a_sale_and_the_week_move_the_rates():
    shop = SimulatedShoppers(ShopperHabits(weekly_swing=0.2, sales=(1,)), seed=3)
    usual, sale = shop.draw_day(0).clicks[0].mean(), shop.draw_day(1).clicks[0].mean()
    assert sale > 1.3 * usual


def test_the_champions_score_predicts_clicks_without_bias():
    shop = SimulatedShoppers(ShopperHabits(daily_swing=0.0), seed=5)
    visits = shop.draw_day(0)
    score = shop.score(visits)
    assert score.mean() == pytest.approx(visits.clicks[0].sum() / visits.exposures.sum(), rel=0.02)
    high = score > np.quantile(score, 0.8)
    assert score[high].mean() == pytest.approx(visits.clicks[0][high].mean() / 3, rel=0.04)


def test_a_bot_is_one_more_shopper_with_as_many_rankings_as_asked_for():
    shop = SimulatedShoppers(HABITS, seed=1)
    both = shop.draw_day(0).join(shop.draw_bot(0, 60_000))
    is_bot = both.shopper == HABITS.people
    assert both.exposures[is_bot].sum() == 60_000
    assert (np.diff(both.time) >= 0).all()
