"""How long a rollout will take, with what power, and what it will cost: closed formulas, before it starts.

`endcap.experiments.expected_path` has the formulas. A plan tells what they mean for a policy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import combinations, product
from typing import Any

from endcap.experiments.expected_path import (
    DAY,
    ExpectedSumAdder,
    PathStep,
    bound_harm,
    compute_crossing,
    follow_path,
)
from endcap.experiments.refresh_check import WHOLE_PART
from endcap.experiments.statistics import FEWEST_EVENTS
from endcap.experiments.traffic import ShopTraffic
from endcap.spec.rollout import RolloutSpec

HARM = -0.2
"""The loss for which a plan tells how many shoppers would meet it."""
GAIN = 0.05
"""What a version is supposed to bring where the policy promotes by `superior`."""
LEAST_POWER = 0.5
"""A policy is hopeless if fewer of the good versions are promoted in time, or fewer of the bad ones taken back."""
ENOUGH_POWER = 0.8
"""What a change of a hopeless policy must reach to be advised."""


@dataclass(frozen=True)
class MetricPlan:
    """What a rollout will tell of one metric.

    Attributes
    ----------
    metric
        Its name.
    rate
        Its value per shopper and day of the stable version.
    harm_power
        The probability that a version at -20 % is taken back within the longest duration, by this metric alone.
    harm_days
        After how many days half of such versions are taken back; None: never.
    harm_shoppers, harm_shoppers_most
        How many shoppers meet such a version, in half of the rollouts and in nine of ten at most. Of a version that
        is not taken back in time: those of the longest duration.
    """

    metric: str
    rate: float
    harm_power: float
    harm_days: float | None
    harm_shoppers: int
    harm_shoppers_most: int


@dataclass(frozen=True)
class RolloutPlan:
    """What a policy will do with a shop's traffic.

    Attributes
    ----------
    effect
        The effect on the deciding metric for which power and days hold: 0 of `no_harm`, 0.05 of `superior`.
    power
        The probability that a version with this effect is promoted within the longest duration.
    days, days_most
        After how many days it is promoted: in half of the rollouts, and in nine of ten; None: not within the longest
        duration.
    steps
        After how many days half of the rollouts have each share: (share, days), those that are reached.
    metrics
        One entry for each metric of the policy, the deciding one first.
    """

    effect: float
    power: float
    days: float | None
    days_most: float | None
    steps: tuple[tuple[float, float], ...]
    metrics: tuple[MetricPlan, ...]

    @property
    def strength(self) -> float:
        """The smaller of two probabilities: a good version is promoted, one at -20 % on the deciding metric is taken
        back."""
        return min(self.power, self.metrics[0].harm_power)

    @property
    def is_hopeless(self) -> bool:
        """Whether most good versions are not promoted in time, or most bad ones are not taken back."""
        return self.strength < LEAST_POWER


@dataclass(frozen=True)
class PolicyAdvice:
    """A change of the policy that helps.

    Attributes
    ----------
    changes
        Keys with their values, as `--set` takes them.
    power, harm_power
        As in `RolloutPlan`, and in `MetricPlan` of the deciding metric, with these changes.
    """

    changes: tuple[str, ...]
    power: float
    harm_power: float

    @property
    def strength(self) -> float:
        """As in `RolloutPlan`."""
        return min(self.power, self.harm_power)


def plan_rollout(policy: RolloutSpec, traffic: ShopTraffic, *, effect: float | None = None) -> RolloutPlan:
    """Plan a rollout.

    Parameters
    ----------
    policy
        The section `rollout:`.
    traffic
        How many shoppers come, and what they do.
    effect
        The effect on the deciding metric of a good version, such as 0.05; None: 0 of `no_harm`, and `GAIN` of
        `superior`.

    Notes
    -----
    What each shopper did in `RolloutSpec.history` is taken to be known.

    Each step of the path is one look, or the longest duration divided by 3,000 if that is more. Errors of the formulas
    against simulated rollouts are in docs/rollout-reference.md.
    """
    usual = GAIN if policy.promote == "superior" else 0.0
    effect = usual if effect is None else effect
    traffic = traffic.foresee(policy.history)
    deciding = policy.deciding_metric.name
    path = follow_path(policy, traffic, effect)
    settled = max(metric.settles_after for metric in policy.metrics) / DAY
    promoted = [0.0 if step.days < settled else step.promoted for step in path]
    typical, mean = (follow_path(policy, traffic, HARM, mean=mean) for mean in (False, True))
    plans = [_plan_harm(policy, traffic, metric.name, typical, mean) for metric in policy.metrics]
    reached = [
        _find_time(path, [step.reached[place] for step in path], 0.5) for place in range(len(policy.share_steps))
    ]
    begins = zip(policy.shares, [0.0, *reached], strict=True)
    return RolloutPlan(
        effect=effect,
        power=max(promoted, default=0.0),
        days=_find_time(path, promoted, 0.5),
        days_most=_find_time(path, promoted, 0.9),
        steps=tuple((share, days) for share, days in begins if days is not None),
        metrics=tuple(sorted(plans, key=lambda plan: plan.metric != deciding)),
    )


def find_advice(policy: RolloutSpec, traffic: ShopTraffic, *, effect: float | None = None) -> list[PolicyAdvice]:
    """Return changes of a hopeless policy that reach `ENOUGH_POWER`: of one key each, or of two if none suffices.

    Parameters
    ----------
    policy, traffic, effect
        As in `plan_rollout`.

    Returns
    -------
    list of PolicyAdvice
        For each key, or pair of keys, the smallest change that suffices. If nothing suffices: what comes nearest.
    """
    options = _list_options(policy)
    advice = []
    for count in (1, 2):
        for keys in combinations(options, count):
            tried = [_try(policy, traffic, effect, changes) for changes in product(*(options[key] for key in keys))]
            advice.append(next((entry for entry in tried if entry.strength >= ENOUGH_POWER), max(tried, key=_rank)))
        enough = [entry for entry in advice if entry.strength >= ENOUGH_POWER]
        if enough:
            return enough
    return sorted(advice, key=_rank)[-1:]


_Change = tuple[tuple[str, ...], Callable[[RolloutSpec], RolloutSpec]]


def _list_options(policy: RolloutSpec) -> dict[str, list[_Change]]:
    """Return changes by their key, the smallest first."""
    margins = [margin for margin in (0.04, 0.05, 0.075, 0.1, 0.15, 0.2) if -margin < policy.allowed_loss]
    days = [math.ceil(policy.longest / DAY * times) for times in (1.5, 2, 3, 4)]
    shares = [share for share in (0.05, 0.1, 0.25, 0.5) if share > policy.first_share]
    names = [metric.name for metric in policy.metrics if metric.name != policy.deciding_metric.name]
    options: dict[str, list[_Change]] = {
        "margin": [((f"rollout.margin={margin:g}",), _set("margin", margin)) for margin in margins],
        "longest": [((f"rollout.longest={count}d",), _set("longest", timedelta(days=count))) for count in days],
        "first_share": [_begin_higher(policy, share) for share in shares],
        "promote_by": [((f"rollout.promote_by={name}",), _set("promote_by", name)) for name in names],
    }
    if policy.promote == "superior":
        del options["margin"]
    return {key: changes for key, changes in options.items() if changes}


def _set(key: str, value: Any) -> Callable[[RolloutSpec], RolloutSpec]:
    return lambda policy: policy.model_copy(update={key: value})


def _try(policy: RolloutSpec, traffic: ShopTraffic, effect: float | None, changes: Sequence[_Change]) -> PolicyAdvice:
    for _, change in changes:
        policy = change(policy)
    # Fewer looks than the rollout has suffice to compare policies.
    policy = policy.model_copy(update={"look_every": max(policy.look_every, policy.longest / 300)})
    plan = plan_rollout(policy, traffic, effect=effect)
    return PolicyAdvice(tuple(name for names, _ in changes for name in names), plan.power, plan.metrics[0].harm_power)


def _rank(advice: PolicyAdvice) -> float:
    return advice.strength


def _begin_higher(policy: RolloutSpec, share: float) -> _Change:
    """Return a change to a higher first share, without the steps that it makes needless."""
    names: tuple[str, ...] = (f"rollout.first_share={share:g}",)
    steps = policy.steps
    if steps is not None:
        steps = [step for step in steps if step.share > share]
        written = ", ".join(f"{{share: {step.share:g}, worst: {step.worst:g}}}" for step in steps)
        names = (*names, f"rollout.steps=[{written}]")
    return names, lambda before: before.model_copy(update={"first_share": share, "steps": steps})


def _plan_harm(
    policy: RolloutSpec, traffic: ShopTraffic, name: str, typical: Sequence[PathStep], mean: Sequence[PathStep]
) -> MetricPlan:
    """Plan how a version at -20 % is taken back by one metric, along the shares that such a version gets."""
    of_metric = traffic.metrics[name]
    returned = _follow_harm(policy, traffic, name, typical)
    of_mean = _follow_harm(policy, traffic, name, mean)
    middle, most = (_find_place(of_mean, part) for part in (0.5, 0.9))
    return MetricPlan(
        metric=name,
        rate=of_metric.rate * of_metric.exposures,
        harm_power=returned[-1],
        harm_days=_find_time(typical, returned, 0.5),
        harm_shoppers=round(mean[-1 if middle is None else middle].met),
        harm_shoppers_most=round(mean[-1 if most is None else most].met),
    )


def _follow_harm(policy: RolloutSpec, traffic: ShopTraffic, name: str, path: Sequence[PathStep]) -> list[float]:
    """Return the probability that a version at -20 % is taken back by one metric, by each look of a path."""
    metric = next(entry for entry in policy.metrics if entry.name == name)
    of_metric, length = traffic.metrics[name], path[0].days
    budget = policy.metric_budgets[name] * (WHOLE_PART if policy.while_running == "refresh" else 1.0)
    lag = math.ceil(metric.settles_after / DAY / length)
    adder, bound = ExpectedSumAdder(traffic, of_metric, length), bound_harm(of_metric)
    returned, probability = [], 0.0
    for number in range(len(path)):
        if number >= lag:
            adder.add(path[number - lag].share)
        scale = adder.sums.information * of_metric.rate
        # No fewest number of events is needed against harm.
        sums = replace(adder.sums, events=FEWEST_EVENTS)
        probability = max(probability, compute_crossing(sums, -HARM * scale, bound, budget))
        returned.append(probability)
    return returned


def _find_place(probabilities: Sequence[float], part: float) -> int | None:
    return next((place for place, probability in enumerate(probabilities) if probability >= part), None)


def _find_time(path: Sequence[PathStep], probabilities: Sequence[float], part: float) -> float | None:
    place = _find_place(probabilities, part)
    return None if place is None else path[place].days
