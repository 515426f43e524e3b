"""Operational guardrails at 300 requests a second: seconds until a fault is noticed, and false alarms in a day.

Windows of 10 s. Requests reach an arm by a coin. Latencies are drawn by bucket of the predictor's histogram.
ENDCAP_BENCH_GUARDRAILS: a factor for all numbers of runs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, lognorm

from endcap.experiments.guardrails import GuardrailMonitor
from endcap.experiments.operational_counts import ArmCounts, OperationsWindow
from endcap.spec.rollout import RolloutSpec
from endcap_serving.predictor.metrics import SECONDS

FACTOR = float(os.environ.get("ENDCAP_BENCH_GUARDRAILS", "1"))
BEGIN = datetime(2026, 11, 2, tzinfo=UTC)
WINDOW = 10.0
RATE = 300
EDGES = (*SECONDS, math.inf)
DAY = 8640
"""Windows of a day."""


@dataclass(frozen=True)
class FaultCase:
    """An arm and its fault.

    begins: the window in which the fault begins. slow: what the arm's times are multiplied by. tail: only times of the
    slowest 2 % are, which follow a Pareto distribution.
    """

    share: float
    errors: float = 0.001
    slow: float = 1.0
    tail: bool = False
    begins: int = 0
    bursts: bool = False
    windows: int = 120


def draw_chances(scale: float, tail: bool) -> NDArray[np.float64]:
    """Return the probability of each bucket. p99 is 80 ms at a scale of 1."""
    edges = np.array(EDGES)
    if not tail:
        shares = lognorm.cdf(edges / scale, 0.6, scale=0.08 / math.exp(0.6 * 2.3263))
    else:
        # Half of the slow 2 % lie above 80 ms: the scale of the tail is 80 ms by the square root of 2.
        slow = np.where(edges > 0.0566 * scale, 1 - (0.0566 * scale / edges) ** 2, 0.0)
        shares = 0.98 * lognorm.cdf(edges, 0.3, scale=0.015) + 0.02 * slow
    return np.diff(shares, prepend=0.0)


def simulate_windows(case: FaultCase, seed: int) -> Any:
    """Yield the windows of a case."""
    random = np.random.default_rng(seed)
    base, faulty = draw_chances(1.0, case.tail), draw_chances(case.slow, case.tail)
    times, errors = np.ones(case.windows), np.zeros(case.windows)
    if case.bursts:
        # About four an hour, of 10 s to 2 minutes: up to 30 % of requests fail in both arms, or all take up to 5 times.
        for _ in range(random.poisson(case.windows / 90)):
            begin, length = int(random.integers(case.windows)), int(random.integers(1, 13))
            if random.random() < 0.5:
                errors[begin : begin + length] += random.uniform(0.01, 0.3)
            else:
                times[begin : begin + length] *= random.uniform(1.5, 5.0)
    number = np.arange(case.windows)
    swing = 1 + 0.5 * np.sin(2 * np.pi * number / DAY) if case.bursts else np.ones(case.windows)
    total = random.poisson(RATE * WINDOW * swing)
    requests = random.binomial(total, case.share)
    is_faulty = number >= case.begins
    slowed = is_faulty & (case.slow > 1)
    arms = {}
    for arm, count, rate, chances in (
        ("stable", total - requests, np.full(case.windows, 0.001), np.zeros(case.windows, np.bool_)),
        ("canary", requests, np.where(is_faulty, case.errors, 0.001), slowed),
    ):
        failed = random.binomial(count, np.minimum(0.99, rate + errors))
        seconds = np.empty((case.windows, len(EDGES)), np.int64)
        usual = times == 1.0
        for rows, shares in ((usual & ~chances, base), (chances, faulty)):
            seconds[rows] = random.multinomial((count - failed)[rows], shares / shares.sum())
        for row in np.flatnonzero(~usual & ~chances).tolist():
            shares = draw_chances(times[row], case.tail)
            seconds[row] = random.multinomial(count[row] - failed[row], shares / shares.sum())
        columns = (count, failed, count, random.binomial(count, 0.004), random.binomial(count, 0.1))
        arms[arm] = list(zip(*(column.tolist() for column in columns), seconds.tolist(), strict=True))
    for row, entries in enumerate(zip(arms["stable"], arms["canary"], strict=True)):
        counts = {
            arm: ArmCounts(*entry[:5], dict(zip(EDGES, entry[5], strict=True)))
            for arm, entry in zip(arms, entries, strict=True)
        }
        begin = BEGIN + timedelta(seconds=WINDOW * row)
        yield OperationsWindow(begin, begin + timedelta(seconds=WINDOW), counts)


def find_breach(case: FaultCase, seed: int) -> tuple[str, float]:
    """Return the guardrail that is broken first, and the seconds from the fault on; ``("", inf)`` without a breach."""
    policy = RolloutSpec()
    budgets = policy.guardrail_budgets
    monitor = GuardrailMonitor(policy.guardrails, "canary")
    for number, window in enumerate(simulate_windows(case, seed)):
        monitor.add(window)
        # A breach stays, so that without a fault it is enough to look now and then.
        is_look = number >= case.begins if case.errors > 0.001 or case.slow > 1 else number % 360 == 359
        for evidence in monitor.judge() if is_look else ():
            if evidence.e_value >= 1 / budgets[evidence.guardrail]:
                return evidence.guardrail, (number + 1 - case.begins) * WINDOW
    return "", math.inf


def measure() -> list[dict[str, Any]]:
    """Run everything."""
    results: list[dict[str, Any]] = []
    with ProcessPoolExecutor() as pool:
        for name, case, floor in (
            ("5 % errors, 5 % share", FaultCase(0.05, errors=0.05), 60.0),
            ("5 % errors, 1 % share", FaultCase(0.01, errors=0.05), 120.0),
            ("5 % errors after an hour, 5 % share", FaultCase(0.05, errors=0.05, begins=360, windows=480), None),
            ("5 % errors after an hour, 1 % share", FaultCase(0.01, errors=0.05, begins=360, windows=480), None),
            ("all times doubled, 5 % share", FaultCase(0.05, slow=2.0), 60.0),
            ("all times doubled, 1 % share", FaultCase(0.01, slow=2.0), 300.0),
            ("times of the slowest 2 % doubled, 5 % share", FaultCase(0.05, slow=2.0, tail=True, windows=360), None),
            ("times of the slowest 2 % doubled, 1 % share", FaultCase(0.01, slow=2.0, tail=True, windows=360), None),
        ):
            breaches = run_many(pool, partial(find_breach, case), 200)
            seconds = np.array([value for _, value in breaches])
            for quantile in (50, 95):
                value = float(np.quantile(seconds, quantile / 100, method="higher"))
                wanted = floor if quantile == 95 else None
                results.append(make_result(f"{name}: noticed, p{quantile}", value, "s", wanted, f"{len(seconds)} runs"))
        for share in (0.01, 0.05, 0.5):
            quiet = FaultCase(share, bursts=True, windows=DAY)
            breaches = run_many(pool, partial(find_breach, quiet), 200)
            false = sum(1 for guardrail, _ in breaches if guardrail)
            upper = float(beta.ppf(0.975, false + 1, len(breaches) - false)) if false < len(breaches) else 1.0
            how = f"{len(breaches)} days with shared bursts, upper bound {100 * upper:.2g} %"
            rate = 100 * false / len(breaches)
            results.append(make_result(f"no fault for a day, {100 * share:g} % share: false", rate, "%", 1.0, how))
    return results


def make_result(name: str, value: float, unit: str, floor: float | None, how: str) -> dict[str, Any]:
    print(f"{name}: {value:.4g} {unit} ({how})", flush=True)
    return {"name": name, "value": value, "unit": unit, "floor": floor, "lower_is_better": True, "how": how}


def run_many(pool: ProcessPoolExecutor, run: Callable[[int], tuple[str, float]], count: int) -> list[tuple[str, float]]:
    return list(pool.map(run, range(max(4, round(count * FACTOR))), chunksize=4))
