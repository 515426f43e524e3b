"""Rollouts decided by what shoppers do, in a shop whose true effects are known: errors, power, harm and cost.

ENDCAP_BENCH_ROLLOUTS: a factor for all numbers of runs; 1 takes about 45 minutes of one core, and all cores are used.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import binomtest

from endcap.experiments.closed_visits import ClosedVisits
from endcap.experiments.effect_state import EffectState
from endcap.experiments.expected_rates import ExpectedRates
from endcap.experiments.shopper_history import ShopperHistory
from endcap.experiments.statistics import invert_effect, judge_effect
from endcap.simulation.shoppers import ShopperHabits
from tests.bench._rollout_runs import (
    BEGIN,
    LOOKS_PER_DAY,
    RolloutCase,
    RolloutResult,
    RunningRollout,
    build_policy,
    run_case,
)
from tests.bench._threshold_rules import RULES, run_threshold_rule

FACTOR = float(os.environ.get("ENDCAP_BENCH_ROLLOUTS", "1"))
FEW_CLICKS = ShopperHabits(click_rate=0.02)
EXPOSURES_PER_DAY, PEOPLE = 10_000_000, 10_000_000
Result = dict[str, Any]


def measure() -> list[Result]:
    """Run everything. Rates come with their 95 % binomial interval."""
    results: list[Result] = []
    with ProcessPoolExecutor() as pool:
        for part in (measure_harm, measure_power, measure_thresholds, measure_cover, measure_guard, measure_errors):
            begun = time.perf_counter()
            for result in part(pool):
                print(f"{result['name']}: {result['value']:.4g} {result['unit']} ({result['how']})", flush=True)
                results.append(result)
            print(f"{part.__name__}: {time.perf_counter() - begun:.0f} s", flush=True)
    results += measure_cost()
    return results


def run_many(pool: ProcessPoolExecutor, run: Callable[[int], RolloutResult], count: int) -> list[RolloutResult]:
    runs = max(4, round(count * FACTOR))
    return list(pool.map(run, range(runs), chunksize=max(1, runs // 40)))


def measure_errors(pool: ProcessPoolExecutor) -> Iterator[Result]:
    for rate, habits in ((10, ShopperHabits()), (2, FEW_CLICKS)):
        runs = run_many(pool, partial(run_case, RolloutCase(habits)), 1000)
        yield report_rate(f"equal, CTR {rate} %, 5 days: rolled back", runs, "rolled-back", 0.05, False)
        yield report_rate(f"equal, CTR {rate} %, 5 days: called superior", runs, "guarding", 0.05, False)
    runs = run_many(pool, partial(run_case, RolloutCase(effect=-0.03, promote="no_harm")), 200)
    yield report_rate("at the margin of -3 %, CTR 10 %: promoted", runs, "guarding", 0.05, False)
    bot = RolloutCase(bot_rankings=300_000)
    runs = run_many(pool, partial(run_case, bot), 200)
    yield report_rate(
        "equal, a bot with half of all rankings, capped at 20 a day: rolled back", runs, "rolled-back", 0.05, False
    )


def measure_harm(pool: ProcessPoolExecutor) -> Iterator[Result]:
    plain = RolloutCase(effect=-0.2)
    cells = (
        ("CTR 10 %", plain, 1_200, 2_500),
        ("CTR 10 %, known after 40 minutes", replace(plain, delay=4), None, None),
        ("CTR 10 %, known after a day", replace(plain, delay=LOOKS_PER_DAY), 4_000, None),
        ("CTR 2 %", replace(plain, habits=FEW_CLICKS), 5_000, 10_000),
        ("CTR 10 %, with 14 days of history", replace(plain, history=14), None, None),
        ("CTR 10 %, with the champion's score", replace(plain, by_score=True), None, None),
    )
    means, medians = {}, {}
    for name, case, median, late in cells:
        runs = run_many(pool, partial(run_case, case), 200)
        yield report_rate(f"-20 %, {name}: rolled back", runs, "rolled-back", 0.95, True)
        met = np.array([run.shoppers for run in runs])
        means[name], medians[name] = float(met.mean()), float(np.median(met))
        for share, most in ((50, median), (90, late)):
            value = float(np.percentile(met, share))
            yield build_result(
                f"-20 %, {name}: shoppers met, p{share}", value, "shoppers", most, True, f"{len(met)} runs"
            )
    bare = list(pool.map(partial(measure_variance, plain), range(8)))
    for name, case, cell, floor in (
        ("14 days of history", replace(plain, history=14), "CTR 10 %, with 14 days of history", None),
        ("the champion's score", replace(plain, by_score=True), "CTR 10 %, with the champion's score", 25.0),
    ):
        pairs = zip(bare, pool.map(partial(measure_variance, case), range(8)), strict=True)
        less = 100 * (1 - float(np.mean([known / unknown for unknown, known in pairs])))
        how = "8 shops, 2 days at 5 %"
        yield build_result(f"{name}: less variance at a fixed share", less, "percent", None, False, how)
        for kind, values, least in (("median", medians, floor), ("mean", means, None)):
            saved = 100 * (1 - values[cell] / values["CTR 10 %"])
            how = "until the rollback, in the same shops"
            yield build_result(f"{name}: fewer shoppers met, {kind}", saved, "percent", least, False, how)


def measure_variance(case: RolloutCase, seed: int) -> float:
    """The variance of the score of clicks after two days at a share of 5 %: shoppers needed are proportional to it."""
    running = RunningRollout(replace(case, metrics=("ctr",)), seed)
    running.shares += [0.05] * 2 * LOOKS_PER_DAY
    return running.advance(0, 2 * LOOKS_PER_DAY)["ctr"][-1].variance


def measure_power(pool: ProcessPoolExecutor) -> Iterator[Result]:
    cells = (
        ("+5 %, superior, CTR 10 %, 5 days", RolloutCase(effect=0.05), 0.95),
        ("+5 %, superior, CTR 2 %, 14 days", RolloutCase(FEW_CLICKS, effect=0.05, days=14), 0.9),
        ("equal, no-harm 3 %, CTR 10 %, 5 days", RolloutCase(promote="no_harm"), 0.9),
    )
    for name, case, least in cells:
        runs = run_many(pool, partial(run_case, case), 200)
        yield report_rate(f"{name}: promoted", runs, "guarding", least, True)
        days = float(np.median([run.days for run in runs]))
        yield build_result(f"{name}: days, median", days, "days", None, True, f"{len(runs)} runs")


def measure_thresholds(pool: ProcessPoolExecutor) -> Iterator[Result]:
    habits = ShopperHabits()
    for rule in RULES:
        for days in (0.0, 5.0):
            kept = replace(rule, days=days)
            pace = "at its own pace" if not days else "last share kept for 5 days"
            for effect, name in ((0.0, "equal"), (-0.2, "-20 %")):
                runs = run_many(pool, partial(run_threshold_rule, kept, habits, effect), 200)
                yield report_rate(f"{rule.name}, {pace}, {name}: rolled back", runs, "rolled-back", None, False)
                met = float(np.median([run.shoppers for run in runs]))
                yield build_result(f"{rule.name}, {pace}, {name}: shoppers met, p50", met, "shoppers", None, True, "")


def measure_cover(pool: ProcessPoolExecutor) -> Iterator[Result]:
    runs = run_many(pool, run_baseline, 300)
    yield report_rate("lift over popularity: covered at every look of 5 days", runs, "covered", 0.95, True)


def run_baseline(seed: int) -> RolloutResult:
    """A baseline arm of 5 % on popularity, which gets 20 % fewer clicks: is its lift, 25 %, covered at every look?"""
    case = RolloutCase(effect=-0.2, metrics=("ctr",))
    running = RunningRollout(case, seed)
    for look in range(0, case.days * LOOKS_PER_DAY, LOOKS_PER_DAY):
        running.shares += [0.05] * LOOKS_PER_DAY
        for sums in running.advance(look, look + LOOKS_PER_DAY)["ctr"]:
            evidence = judge_effect(sums, metric="ctr", budget=0.025, promotion_budget=0.025, planned=running.planned)
            _, lower, upper = invert_effect(evidence.effect, evidence.lower, evidence.upper)
            if not lower <= 0.25 <= upper:
                return RolloutResult("missed", look / LOOKS_PER_DAY, 0)
    return RolloutResult("covered", case.days, 0)


def measure_guard(pool: ProcessPoolExecutor) -> Iterator[Result]:
    habits = ShopperHabits(weekly_swing=0.1, sales=(9, 23))
    worse = run_many(pool, partial(run_guard, RolloutCase(habits, effect=-0.2, days=2)), 200)
    yield report_rate(
        "after promotion, -20 %, 2 % on the previous version, 2 days: rolled back", worse, "rolled-back", 0.95, True
    )
    days = float(np.percentile([run.days for run in worse], 95))
    yield build_result(
        "after promotion, -20 %: days to the rollback, p95", days, "days", 2.0, True, f"{len(worse)} runs"
    )
    for days, count in ((30, 200), (365, 20)):
        equal = run_many(pool, partial(run_guard, RolloutCase(habits, days=days)), count)
        name = f"after promotion, equal, {days} days with weekly swing and two sales: rolled back"
        yield report_rate(name, equal, "rolled-back", 0.05, False)


def run_guard(case: RolloutCase, seed: int) -> RolloutResult:
    """A champion with 98 % of the shoppers, guarded by the previous version's 2 %."""
    policy = build_policy(case)
    running = RunningRollout(case, seed)
    for look in range(0, case.days * LOOKS_PER_DAY, LOOKS_PER_DAY):
        running.shares += [0.98] * LOOKS_PER_DAY
        steps = running.advance(look, look + LOOKS_PER_DAY)
        # A year of days would not fit into memory.
        del running.days[look // LOOKS_PER_DAY]
        for number in range(LOOKS_PER_DAY):
            now = BEGIN + (look + number + 1) * policy.look_every
            evidence = running.judge({name: sums[number] for name, sums in steps.items()}, policy, now)
            budgets = running.budgets
            harmed = [e.metric for e in evidence.effects if e.upper < 0 or e.harm >= 1 / budgets[e.metric]]
            if harmed:
                return RolloutResult("rolled-back", (look + number + 1) / LOOKS_PER_DAY, 0, ", ".join(harmed))
    return RolloutResult("open", case.days, 0)


def measure_cost() -> list[Result]:
    """A look's new visits of three metrics, after days of a rollout in a shop of 10 million exposures a day."""
    rng = np.random.default_rng(0)
    visits = EXPOSURES_PER_DAY // 3
    place = rng.random(PEOPLE)
    states, histories = [EffectState() for _ in range(3)], [ShopperHistory() for _ in range(3)]
    rates = [ExpectedRates([0.1]), ExpectedRates([0.03]), ExpectedRates([1.2])]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def look(count: int, share: float) -> float:
        shopper = rng.integers(0, PEOPLE, count)
        probability, ones = np.full(count, share), np.ones(count)
        treated = place[shopper] < share
        columns = (
            (3 * ones, rng.binomial(3, 0.1, count).astype(float)),
            (ones, rng.binomial(1, 0.03, count).astype(float)),
            (ones, rng.binomial(1, 0.03, count) * 40.0),
        )
        begun = time.perf_counter()
        for state, rate, history, (exposures, outcome) in zip(states, rates, histories, columns, strict=True):
            if not share:
                history.learn(shopper, exposures * rate.predict(np.zeros(count, np.int64), exposures, outcome), outcome)
                continue
            expected = rate.predict(np.zeros(count, np.int64), exposures, outcome, history.predict(shopper))
            state.add(ClosedVisits(shopper, treated, probability, exposures, outcome, expected))
            judge_effect(state.sums, metric="ctr", budget=0.025)
        return time.perf_counter() - begun

    for share in (0.0, 0.01, 0.05, 0.1, 0.25, 0.5):
        for _ in range(4):
            look(visits // 4, share)
    edges = np.linspace(0, visits, LOOKS_PER_DAY + 1).astype(int).tolist()
    seconds = [look(stop - start, 0.5) for start, stop in pairwise(edges)]
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    kept = sum(array.nbytes for state in [*states, *histories] for array in state.to_arrays().values()) / 2**20
    how = f"{PEOPLE:,} people, {visits // LOOKS_PER_DAY:,} new visits a look, three metrics, history, five shares"
    return [
        build_result(
            "10 million exposures a day: a look, p95", 1000 * float(np.percentile(seconds, 95)), "ms", None, True, how
        ),
        build_result("10 million exposures a day: the state", kept, "MiB", None, True, how),
        build_result("10 million exposures a day: most memory", grown, "MiB", None, True, "with the rows that fed it"),
    ]


def report_rate(name: str, runs: list[RolloutResult], end: str, floor: float | None, at_least: bool) -> Result:
    """A rate beside its floor. The interval in `how` says whether chance alone explains a miss."""
    count = sum(run.end == end for run in runs)
    interval = binomtest(count, len(runs)).proportion_ci()
    how = f"{count} of {len(runs)}: {100 * interval.low:.1f} to {100 * interval.high:.1f} %"
    return build_result(name, 100 * count / len(runs), "percent", floor and 100 * floor, not at_least, how)


def build_result(name: str, value: float, unit: str, floor: float | None, lower_is_better: bool, how: str) -> Result:
    return {
        "name": f"rollouts: {name}",
        "value": value,
        "unit": unit,
        "floor": floor,
        "lower_is_better": lower_is_better,
        "how": how,
    }
