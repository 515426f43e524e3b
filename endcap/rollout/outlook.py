"""What a rollout waits for, and how long that may take if the effect stays what it is.

A bound's distance from the effect shrinks with the square root of what the arms can tell of each other, which is the
sum of p (1 - p) over time. So the moment at which a bound passes a limit follows from how far it has come so far. That
is a guess: the effect moves, and traffic has hours and days.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from endcap.experiments.decision_parts import find_worst, format_change, format_share
from endcap.experiments.evidence import EffectEvidence
from endcap.rollout.history import RolloutHistory, format_minute, format_span


@dataclass(frozen=True)
class ExpectedStep:
    """What comes next once enough is known.

    Attributes
    ----------
    share
        The share that follows; 1 is the promotion.
    needed
        What the change of the deciding metric must be shown to exceed, on its bad side.
    when
        When that may be, UTC. None: never at the present effect, or not known yet.
    """

    share: float
    needed: float
    when: datetime | None


def expect_steps(history: RolloutHistory) -> list[ExpectedStep]:
    """Return the steps that are left, the next one first; empty if the rollout waits for something else."""
    state, policy, evidence = history.state, history.policy, history.evidence
    if state.phase not in ("rising", "holding", "paused") or state.started is None:
        return []
    steps = [(step.share, step.worst) for step in policy.share_steps if step.share > state.share]
    steps.append((1.0, policy.allowed_loss))
    name = policy.deciding_metric.name
    effect = None if evidence is None else next((entry for entry in evidence.effects if entry.metric == name), None)
    expected, share, moment = [], state.share, history.last.time
    if effect is None or evidence is None or not math.isfinite(find_worst(effect)):
        return [ExpectedStep(share, needed, None) for share, needed in steps]
    known = history.measure_information(effect.complete_until or evidence.until)
    total: float | None = known
    for following, needed in steps:
        goal = _compute_information(effect, needed, known)
        if goal is None or total is None or share <= 0:
            total = None
        else:
            seconds = max(0.0, goal - total) / (share * (1 - share))
            seconds = max(seconds, policy.look_every.total_seconds())
            total += seconds * share * (1 - share)
            moment += timedelta(seconds=seconds)
        expected.append(ExpectedStep(following, needed, None if total is None else moment))
        share = following
    return expected


def describe_wait(history: RolloutHistory) -> list[str]:
    """Return in sentences what the rollout waits for."""
    state, policy, now = history.state, history.policy, history.last.time
    if state.is_over:
        return [f"Nothing: the rollout is {state.phase}."]
    if state.phase == "promoted":
        return ["Nothing: the version serves everyone. Its own history is watched."]
    if state.phase == "guarding":
        until = state.stepped + policy.guard.lasts
        share = format_share(policy.guard.previous_share)
        return [f"Version {state.previous_version} keeps {share} of the shoppers until {format_minute(until)}."]
    if state.phase == "waiting-approval":
        return [f"A person: endcap rollout approve {state.recommender}"]
    if state.phase == "shadow" and policy.shadow is not None:
        return [f"The shadow ends at {format_minute(state.stepped + policy.shadow)}."]
    sentences = [f"A person: endcap rollout resume {state.recommender}"] if state.phase == "paused" else []
    if state.phase == "holding" and history.last.decision is not None:
        sentences.append(history.last.decision.sentence)
    for step in _select_steps(expect_steps(history)):
        goal = "The promotion" if step.share >= 1 else f"A share of {format_share(step.share)}"
        needed = f"{policy.deciding_metric.name} above {format_change(step.needed)}"
        sentences.append(f"{goal} needs {needed}: {_describe_moment(step, now)}.")
    if state.started is not None:
        outcome = "taken back" if policy.at_longest == "roll_back" else "held"
        sentences.append(f"Undecided, it is {outcome} at {format_minute(state.started + policy.longest)}.")
    return sentences


def _select_steps(steps: list[ExpectedStep]) -> list[ExpectedStep]:
    """Return the next step and the promotion."""
    return steps if len(steps) < 2 else [steps[0], steps[-1]]


def _describe_moment(step: ExpectedStep, now: datetime) -> str:
    if step.when is None:
        return "not to be told from the present effect"
    return f"about {format_span((step.when - now).total_seconds())}, if the effect stays"


def _compute_information(effect: EffectEvidence, needed: float, known: float) -> float | None:
    """Return with how much information the bound on the bad side passes a limit; None: not at the present effect."""
    value = effect.effect if effect.better else -effect.effect
    distance, room = value - find_worst(effect), value - needed
    if distance <= 0:
        return known
    return None if room <= 0 or known <= 0 else known * (distance / room) ** 2
