"""A champion beside its shop's past: with a weekly swing and sales false alerts are rare, and true ones come soon."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from endcap.experiments.champion_history import BLOCK, DAY, WEEK, ChampionHistory

DAY_MS = DAY * BLOCK
BEFORE, AFTER = 14, 30
"""Days before the promotion, as a rollout reads them by default, and after it."""
RUNS = 60


def draw_rates(
    rng: np.random.Generator, rate: float, sales: Sequence[int] | NDArray[np.int64] = ()
) -> NDArray[np.float64]:
    """Rates of a shop's blocks with swings within a day and a week, days that differ by 2 %, and sales of +50 %."""
    block = np.arange((BEFORE + AFTER) * DAY)
    rates = rate * (1 + 0.1 * np.sin(2 * np.pi * block / DAY)) * (1 + 0.2 * np.sin(2 * np.pi * block / WEEK))
    rates *= np.repeat(np.exp(0.02 * rng.standard_normal(BEFORE + AFTER)), DAY)
    for day in sales:
        rates[day * DAY : (day + 1) * DAY] *= 1.5
    return rates


def record(rng: np.random.Generator, rates: NDArray[np.float64], rankings: int) -> ChampionHistory:
    history = ChampionHistory()
    exposures = np.full(len(rates), float(rankings // DAY))
    # Shoppers differ, so clicks vary by more than a binomial's variance.
    spread = np.sqrt(1.2 * exposures * rates * (1 - rates))
    clicks = np.maximum(np.round(exposures * rates + spread * rng.standard_normal(len(rates))), 0)
    history.add(np.arange(len(rates)) * BLOCK, exposures, clicks)
    return history


def is_breach(history: ChampionHistory, until: float) -> bool:
    evidence = history.judge("ctr", BEFORE * DAY_MS, round(until * DAY_MS))
    return evidence.weeks > 0 and evidence.cusum >= evidence.limit


@pytest.mark.parametrize("rate", [0.1, 0.02])
def test_a_month_has_no_false_alert_and_a_drop_of_a_fifth_is_seen_within_a_day(rate: float) -> None:
    rng = np.random.default_rng(7)
    months_with_alert = seen = 0
    for _ in range(RUNS):
        sales = rng.choice(BEFORE + AFTER, 2, replace=False)
        rates = draw_rates(rng, rate, sales)
        history = record(rng, rates, 300_000)
        months_with_alert += any(is_breach(history, BEFORE + day) for day in range(1, AFTER + 1))
        # A sale that begins with the drop hides it from whoever knows only the past.
        begin = BEFORE + 1 + rng.random() * (AFTER - 3)
        while np.isin(sales, [int(begin), int(begin) + 1]).any():
            begin = BEFORE + 1 + rng.random() * (AFTER - 3)
        rates[np.arange(len(rates)) >= begin * DAY] *= 0.8
        seen += is_breach(record(rng, rates, 300_000), begin + 1)
    # At most one false alert in 30 days, and 95 % seen: here with room for chance.
    assert months_with_alert <= 0.05 * RUNS
    assert seen >= 0.95 * RUNS


def test_a_small_shop_is_told_less_and_no_past_tells_nothing() -> None:
    rng = np.random.default_rng(7)
    small = record(rng, draw_rates(rng, 0.02), 3_000).judge("ctr", BEFORE * DAY_MS, 20 * DAY_MS)
    large = record(rng, draw_rates(rng, 0.02), 300_000).judge("ctr", BEFORE * DAY_MS, 20 * DAY_MS)
    assert small.limit > 2 * large.limit
    new = record(rng, draw_rates(rng, 0.1), 300_000).judge("ctr", 0, 7 * DAY_MS)
    assert (new.weeks, new.blocks, new.cusum) == (0, 0, 0.0)


def test_less_of_what_is_bad_is_no_breach_and_more_is() -> None:
    rng = np.random.default_rng(7)
    rates = np.full((BEFORE + AFTER) * DAY, 0.05)
    rates[(BEFORE + 2) * DAY :] *= 1.3
    returns = record(rng, rates, 300_000)
    until = (BEFORE + 4) * DAY_MS
    assert returns.judge("returns", BEFORE * DAY_MS, until, better=True).cusum == 0
    evidence = returns.judge("returns", BEFORE * DAY_MS, until, better=False)
    assert evidence.cusum >= evidence.limit
    assert evidence.change == pytest.approx(0.3, abs=0.05)


def test_the_sums_do_not_depend_on_batches() -> None:
    rng = np.random.default_rng(7)
    time = np.sort(rng.integers(0, 40 * DAY_MS, 5_000))
    outcome, ones = rng.exponential(40.0, 5_000), np.ones(5_000)
    whole, cut = ChampionHistory(), ChampionHistory()
    whole.add(time, ones, outcome)
    for rows in np.array_split(np.arange(5_000), 17):
        cut.add(time[rows], ones[rows], outcome[rows])
    span = (20 * DAY_MS, 40 * DAY_MS)
    assert whole.judge("revenue", *span) == cut.judge("revenue", *span)
