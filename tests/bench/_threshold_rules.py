"""Rollouts by thresholds, as other tools have them: windows, a count of failures, and shares by the clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from endcap.simulation.shoppers import ShopperHabits, SimulatedShoppers
from tests.bench._rollout_runs import LOOKS_PER_DAY, RolloutResult


@dataclass(frozen=True)
class ThresholdRule:
    """Shares by the clock, and failures that take the version back.

    A window of `window` looks fails if the version's click rate is below `ratio` times the stable version's. The rule
    rolls back after `failures` failed windows: in all, or if `of` is given, within the last so many.
    """

    name: str
    shares: tuple[float, ...]
    step: int
    window: int
    failures: int
    of: int | None = None
    ratio: float = 0.9
    days: float = 0.0
    """How long the last share is kept before the promotion."""


RULES = (
    # Flagger's documented example: an interval, at most 5 failed checks, stepWeight 10, maxWeight 50.
    ThresholdRule("Flagger", (0.1, 0.2, 0.3, 0.4, 0.5), step=1, window=1, failures=5),
    # Argo Rollouts' example of background analysis: 20 % more after each pause, failureLimit 3.
    ThresholdRule("Argo Rollouts", (0.2, 0.4, 0.6, 0.8), step=6, window=1, failures=4),
    # SageMaker: linear steps of 10 % with the longest wait, an alarm of 2 of 3 periods.
    ThresholdRule("SageMaker", tuple(k / 10 for k in range(1, 10)), step=6, window=1, failures=2, of=3),
)


def run_threshold_rule(rule: ThresholdRule, habits: ShopperHabits, effect: float, seed: int) -> RolloutResult:
    """Run one rollout, to its end by the rule."""
    shop = SimulatedShoppers(habits, effect=effect, seed=seed)
    looks = len(rule.shares) * rule.step + round(rule.days * LOOKS_PER_DAY)
    met = np.zeros(habits.people, np.bool_)
    failed: list[bool] = []
    sums = np.zeros((rule.window, 2, 2))
    for look in range(looks):
        if look % LOOKS_PER_DAY == 0:
            visits = shop.draw_day(look // LOOKS_PER_DAY)
            edges = np.linspace(0, len(visits.shopper), LOOKS_PER_DAY + 1).astype(int)
        row = slice(*edges[look % LOOKS_PER_DAY :][:2])
        shopper = visits.shopper[row]
        treated = shop.place_on_range[shopper] < rule.shares[min(look // rule.step, len(rule.shares) - 1)]
        met[shopper[treated]] = True
        clicks = np.where(treated, visits.clicks[1, row], visits.clicks[0, row])
        for arm in (0, 1):
            sums[look % rule.window, arm] = clicks[treated == arm].sum(), visits.exposures[row][treated == arm].sum()
        if (look + 1) % rule.window:
            continue
        rates = sums[:, :, 0].sum(axis=0) / np.maximum(sums[:, :, 1].sum(axis=0), 1)
        failed.append(bool(rates[1] < rule.ratio * rates[0]))
        if sum(failed[-rule.of :] if rule.of else failed) >= rule.failures:
            return RolloutResult("rolled-back", (look + 1) / LOOKS_PER_DAY, int(met.sum()))
    return RolloutResult("promoted", looks / LOOKS_PER_DAY, int(met.sum()))
