"""Logs of A/B tests that tell a story, without shoppers: for screens, pages and commands."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from endcap.experiments.ab_log import AbLog
from endcap.store import Store
from tests.ab.states import EPOCH, START, VERSIONS, make_evidence, make_policy

EFFECTS = (0.0, -0.01, 0.08)


def tell_story(store: Store, epochs: int = 4, *, start: datetime = START, why: str = "three losses") -> datetime:
    """Three challengers: the third is better, and the first leaves in the second epoch. Returns the last moment."""
    policy, log = make_policy(draws=1_000), AbLog(store, "home")
    log.begin(("6", "packages/home/a"), VERSIONS, policy, start, by="ann", why=why)
    now = start
    for number in range(epochs):
        for part in (0.5, 1.0):
            now = start + (number + part) * EPOCH
            state = log.find_last().after  # type: ignore[union-attr]
            effects = tuple(EFFECTS[int(each.version) - 7] for each in state.taking_part)
            evidence = make_evidence(state, now, effects, error=0.03 / (number + part) ** 0.5)
            sums = 10_000.0 * (number + part)
            told = tuple(
                replace(each, score=sums * 0.1 * each.estimate.effect, information=sums, variance=sums, stable_rate=0.1)
                for each in evidence.challengers
            )
            if (number, part) == (1, 0.5):
                harmed = replace(told[0].effects[0], upper=-0.01, effect=-0.05)
                told = (replace(told[0], effects=(harmed, *told[0].effects[1:])), *told[1:])
            log.look(replace(evidence, challengers=told, refusals={"forged": 3}), policy, now)
    return now
