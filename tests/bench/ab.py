"""A/B tests of several versions in a shop whose true effects are known: clicks lost, shoppers moved, bands that hold.

ENDCAP_BENCH_AB: a factor for all numbers of runs; 1 takes about 8 minutes of one core.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import binomtest

from endcap.simulation.shoppers import ShopperHabits
from tests.bench._ab_runs import AbCase, AbResult, run_ab

FACTOR = float(os.environ.get("ENDCAP_BENCH_AB", "1"))
MAIN = AbCase(effects=(0.03, 0.06))
SMALL_SHOP = ShopperHabits(people=60_000, visits_per_day=20_000)
EIGHT = (-0.05, -0.02, 0.0, 0.01, 0.02, 0.03, 0.06)
Result = dict[str, Any]


def measure() -> list[Result]:
    """Run everything. Rates come with their 95 % binomial interval."""
    results: list[Result] = []
    for part in (measure_loss, measure_rules, measure_equal_arms):
        for result in part():
            print(f"{result['name']}: {result['value']:.4g} {result['unit']} ({result['how']})", flush=True)
            results.append(result)
    return results


def run_many(case: AbCase, count: int) -> list[AbResult]:
    return [run_ab(case, seed) for seed in range(max(4, round(count * FACTOR)))]


def measure_loss() -> Iterator[Result]:
    cells = (
        ("0/+3/+6 %, CTR 10 %", MAIN, 200, 0.5),
        ("0/+3/+6 %, CTR 2 %", replace(MAIN, habits=ShopperHabits(click_rate=0.02)), 100, None),
        ("0/+3/+6 %, 20,000 shoppers a day", replace(MAIN, habits=SMALL_SHOP), 100, None),
        ("0/+3/+6 %, known a day late", replace(MAIN, late=1), 60, None),
        ("eight arms, -5 to +6 %", AbCase(effects=EIGHT), 60, None),
    )
    for name, case, count, most in cells:
        runs = run_many(case, count)
        yield from report_loss(name, runs, most)
        yield report_rate(f"{name}: effect in its band at every look", flatten(runs, "covered"), 0.95)
        gains = [run.gain for run in runs if not np.isnan(run.gain)]
        yield build_result(f"{name}: gain estimated, of the true one", float(np.mean(gains)), "", f"{len(gains)} runs")
        yield report_rate(f"{name}: gain in its band every day", [run.gain_held for run in runs], 0.95)
    changed = run_many(replace(MAIN, later=(0.06, 0.0)), 50)
    yield from report_loss("0/+3/+6 %, and 0/+6/0 % from day 6 on", changed, None)


def measure_rules() -> Iterator[Result]:
    weekly = ShopperHabits(weekly_swing=0.2)
    for name, case, count in (
        ("plain Thompson sampling", replace(MAIN, rule="thompson"), 60),
        ("epsilon-greedy on pooled rates", replace(MAIN, rule="epsilon"), 100),
        ("epsilon-greedy on pooled rates, a week's swing of 20 %", replace(MAIN, habits=weekly, rule="epsilon"), 100),
        ("a week's swing of 20 %", replace(MAIN, habits=weekly), 60),
    ):
        runs = run_many(case, count)
        yield from report_loss(name, runs, None)
        yield report_rate(f"{name}: effect in its pooled band every day", flatten(runs, "pooled"), None)
        yield report_rate(f"{name}: effect in its any-time band at every look", flatten(runs, "covered"), 0.95)


def measure_equal_arms() -> Iterator[Result]:
    for name, case, count, most in (
        ("three equal arms", AbCase(effects=(0.0, 0.0)), 200, 0.1),
        ("eight equal arms", AbCase(effects=(0.0,) * 7), 60, None),
        ("three equal arms, plain Thompson sampling", AbCase(effects=(0.0, 0.0), rule="thompson"), 50, None),
        ("three equal arms, epsilon-greedy", AbCase(effects=(0.0, 0.0), rule="epsilon"), 50, None),
    ):
        runs = run_many(case, count)
        yield report_rate(f"{name}: anybody moved in ten days", [run.days > 0 for run in runs], most, at_least=False)
        moved = float(np.mean([run.moved for run in runs]))
        yield build_result(f"{name}: shoppers moved in ten days", moved, "of all", f"{len(runs)} runs")


def report_loss(name: str, runs: Sequence[AbResult], most: float | None) -> Iterator[Result]:
    lost, equal = (float(np.mean([getattr(run, key) for run in runs])) for key in ("lost", "equal_lost"))
    how = f"{100 * lost:.2f} % against {100 * equal:.2f} %, {len(runs)} runs"
    yield build_result(f"{name}: clicks lost, of those that an equal split loses", lost / equal, "", how, most)
    moved = float(np.mean([run.moved for run in runs]))
    yield build_result(f"{name}: shoppers moved in ten days", moved, "of all", f"{len(runs)} runs")


def flatten(runs: Sequence[AbResult], key: str) -> list[bool]:
    return [flag for run in runs for flag in getattr(run, key)]


def report_rate(name: str, flags: Sequence[bool], floor: float | None, *, at_least: bool = True) -> Result:
    count = sum(flags)
    interval = binomtest(count, len(flags)).proportion_ci()
    how = f"{count} of {len(flags)}: {100 * interval.low:.1f} to {100 * interval.high:.1f} %"
    value = 100 * count / len(flags)
    return build_result(name, value, "percent", how, floor and 100 * floor, lower_is_better=not at_least)


def build_result(
    name: str, value: float, unit: str, how: str, floor: float | None = None, *, lower_is_better: bool = True
) -> Result:
    return {
        "name": f"ab: {name}",
        "value": value,
        "unit": unit,
        "floor": floor,
        "lower_is_better": lower_is_better,
        "how": how,
    }
