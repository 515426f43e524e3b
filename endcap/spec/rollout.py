"""The policy of a rollout: how a new version's share rises, and what promotes the version or takes it back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from endcap.spec.base import (
    Duration,
    Mistake,
    Name,
    Strict,
    check,
    find_repeats,
    format_duration,
    select_known,
    suggest,
)
from endcap.spec.rollout_metrics import (
    AnyGuardrailSpec,
    ConversionSpec,
    CtrSpec,
    EmptyAnswersGuardrailSpec,
    ErrorsGuardrailSpec,
    FallbacksGuardrailSpec,
    LatencyGuardrailSpec,
    MetricSpec,
    RevenueSpec,
)

USUAL_MARGIN = 0.03
"""What a version may be worse by default, as a share of the stable version's value."""
_PartOfAll = Annotated[float, Field(gt=0.0, le=0.5)]
_SmallShare = Annotated[float, Field(ge=0.0, le=0.2)]


class ShareStep(Strict):
    """A larger share, and the risk that must be excluded before it."""

    share: Annotated[float, Field(gt=0.0, lt=1.0)]
    """Of the shoppers."""
    worst: Annotated[float, Field(gt=-1.0, lt=0.0)]
    """The lower bound of the effect on the deciding metric must lie above this: -0.5 is half of the metric lost."""


_USUAL_STEPS = tuple(
    ShareStep(share=share, worst=worst) for share, worst in ((0.05, -0.5), (0.1, -0.35), (0.25, -0.25), (0.5, -0.15))
)


class PromotionGuard(Strict):
    """What watches the champion after its promotion."""

    previous_share: _SmallShare = 0.02
    """The share of the shoppers who keep meeting the version before it, for comparison; 0: none."""
    lasts: Duration = Field(default="30d", validate_default=True)
    """How long the previous version keeps its share. History is watched as long as the champion serves."""
    on_breach: Literal["alert", "rollback"] = "alert"
    """What happens if only the champion's own history, and no concurrent arm, shows that shoppers do less."""


class RolloutSpec(Strict):
    """How a new version reaches the shoppers. Without this section the version gets `serving.canary.share`."""

    promote: Literal["no_harm", "superior"] = "no_harm"
    """no_harm: the version is promoted once it is shown to be worse by less than `margin`; superior: once it is shown
    to be better."""
    margin: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Of no_harm: what the version may be worse, as a share of the stable version's value. Left out: 0.03."""
    promote_by: Name | None = None
    """The name of the metric that decides on shares and on the promotion. Left out: the first. Each of the other
    metrics can only take the version back."""
    metrics: Annotated[list[MetricSpec], Field(min_length=1)] = [
        CtrSpec(kind="ctr", budget=0.5),
        ConversionSpec(kind="conversion", budget=0.25),
        RevenueSpec(kind="revenue", budget=0.25),
    ]
    guardrails: list[AnyGuardrailSpec] = [
        ErrorsGuardrailSpec(kind="errors"),
        LatencyGuardrailSpec(kind="latency"),
        EmptyAnswersGuardrailSpec(kind="empty_answers"),
        FallbacksGuardrailSpec(kind="fallbacks"),
    ]
    error_budget: _PartOfAll = 0.05
    """How often a version that changes nothing may be taken back, over all metrics and looks together."""
    promotion_error: _PartOfAll = 0.05
    """How often a version may be promoted that is exactly as bad as `margin` allows; of superior: that is equal."""
    first_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.01
    steps: list[ShareStep] | None = None
    """How the share rises: by the risk that is left, and not by the clock. Left out: to 0.05, 0.1, 0.25 and 0.5 above
    -0.5, -0.35, -0.25 and -0.15, as far as these lie above first_share."""
    longest: Duration = Field(default="14d", validate_default=True)
    """From the first share on. If nothing is decided by then, `at_longest` says what happens."""
    at_longest: Literal["hold", "roll_back"] = "roll_back"
    look_every: Duration = Field(default="10m", validate_default=True)
    history: Duration = Field(default="14d", validate_default=True)
    """What shoppers did in so long before the rollout says what is expected of each of them, so that it takes fewer
    shoppers to see a difference. 0s: nothing from before is read."""
    shadow: Duration | None = None
    """How long the version answers copies of requests, which nobody sees, before its first share. Left out: not."""
    approval: Literal["none", "start", "promotion"] = "none"
    """Where a person must agree: nowhere, before the first share, or before the promotion."""
    guard: PromotionGuard = PromotionGuard()
    while_running: Literal["queue", "supersede", "refresh"] = "queue"
    """What a newer version does during a rollout. queue: it waits, and a still newer one takes its place; supersede: it
    takes the running version's place and starts anew; refresh: a version of the same recipe on newer data goes on in
    the running version's place and keeps its evidence, after a shorter check for harm. One of another recipe waits."""
    hand_edited: Literal["adopt", "restore"] = "adopt"
    """What happens to a share that a person wrote into the desired state: it is kept, or put back."""
    max_crossed: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    """The share rises no further if more of the shoppers than this were seen in both arms, as after a login."""
    max_silence: Duration = Field(default="1h", validate_default=True)
    """If the newest impression is older than this, the rollout holds: the feed stands still."""
    rankings_per_day: Annotated[int, Field(ge=1, le=100_000)] = 20
    """So many rankings count for a shopper and a day. It bounds what a bot can do."""

    @check
    def _names_differ(self) -> Iterator[Mistake]:
        for section in ("metrics", "guardrails"):
            names = {number: entry.name for number, entry in select_known(getattr(self, section)).items()}
            order = list(names)
            for place in find_repeats(list(names.values())):
                allowed = "each name once: give this one a name of its own"
                at = (section, order[place], "name")
                yield Mistake(at, f"{names[order[place]]!r} again", allowed, code="duplicate")

    @check
    def _deciding_metric_is_known(self) -> Iterator[Mistake]:
        if self.promote_by is None:
            return
        names = [metric.name for metric in self.metrics]
        if self.promote_by not in names:
            hint = suggest(self.promote_by, names)
            at = ("promote_by",)
            yield Mistake(at, repr(self.promote_by), f"a metric's name: {', '.join(names)}", hint, code="unknown-name")

    @check
    def _margin_is_of_no_harm(self) -> Iterator[Mistake]:
        if self.margin is not None and self.promote == "superior":
            actual = f"{self.margin}, and rollout.promote is 'superior'"
            hint = "superior promotes a version that is better by any amount."
            yield Mistake(("margin",), actual, "no value, or rollout.promote: no_harm", hint, code="conflict")

    @check
    def _budgets_add_up(self) -> Iterator[Mistake]:
        parts = [metric.budget for metric in self.metrics]
        total = sum(part for part in parts if part is not None)
        if total > 1 + 1e-9 or (total > 1 - 1e-9 and None in parts):
            rest = ", so nothing is left for the metrics without one" if None in parts else ""
            allowed = f"parts that add up to {'less than' if None in parts else 'at most'} 1"
            at = ("metrics", max(number for number, part in enumerate(parts) if part is not None), "budget")
            yield Mistake(at, f"parts that add up to {total:.4g}{rest}", allowed, code="conflict")

    @check
    def _shares_rise(self) -> Iterator[Mistake]:
        before, at = self.first_share, "rollout.first_share"
        for number, step in select_known(self.steps or []).items():
            if step.share <= before:
                actual = f"{step.share}, and {at} is {before}"
                yield Mistake(("steps", number, "share"), actual, "a share above the one before it", code="conflict")
            before, at = step.share, f"rollout.steps[{number}].share"

    @check
    def _risk_falls(self) -> Iterator[Mistake]:
        worst = -1.0
        for number, step in select_known(self.steps or []).items():
            if step.worst <= worst:
                actual = f"{step.worst}, and the step before it has {worst}"
                allowed = "a bound above the one before it: a larger share must leave less risk"
                yield Mistake(("steps", number, "worst"), actual, allowed, code="conflict")
            worst = step.worst

    @check
    def _looks_come_within_the_rollout(self) -> Iterator[Mistake]:
        if self.look_every <= timedelta(0):
            yield Mistake(("look_every",), "0s", "a duration above 0, such as 10m", code="not-allowed")
        elif self.look_every > self.longest:
            actual = f"{format_duration(self.look_every)}, and rollout.longest is {format_duration(self.longest)}"
            yield Mistake(("look_every",), actual, "at most rollout.longest", code="conflict")

    @check
    def _longest_lets_the_deciding_metric_settle(self) -> Iterator[Mistake]:
        metric = self.deciding_metric
        if self.longest <= metric.settles_after:
            settled = format_duration(metric.settles_after)
            actual = f"{format_duration(self.longest)}, and the metric {metric.name} settles after {settled}"
            allowed = "longer than the window and the delay of the deciding metric"
            yield Mistake(("longest",), actual, allowed, code="conflict")

    @property
    def deciding_metric(self) -> MetricSpec:
        """The metric that decides on shares and on the promotion."""
        named = (metric for metric in self.metrics if metric.name == self.promote_by)
        return next(named, self.metrics[0])

    @property
    def allowed_loss(self) -> float:
        """What the lower bound of the effect must exceed for a promotion: -margin, or 0 of `superior`."""
        return 0.0 if self.promote == "superior" else -(USUAL_MARGIN if self.margin is None else self.margin)

    @property
    def share_steps(self) -> list[ShareStep]:
        """The steps, or the usual ones above the first share."""
        if self.steps is not None:
            return self.steps
        return [step for step in _USUAL_STEPS if step.share > self.first_share]

    @property
    def refresh_risk(self) -> float:
        """The bound that a refreshed version must exceed by itself: that of the first step, or the usual one."""
        return self.share_steps[0].worst if self.share_steps else _USUAL_STEPS[0].worst

    @property
    def shares(self) -> list[float]:
        """The first share and those of the steps, in their order."""
        return [self.first_share, *(step.share for step in self.share_steps)]

    @property
    def metric_budgets(self) -> dict[str, float]:
        """The probability of error that each metric may spend, by its name. They add up to at most error_budget."""
        parts = {metric.name: metric.budget for metric in self.metrics}
        rest = 1.0 - sum(part for part in parts.values() if part is not None)
        equal = rest / max(1, list(parts.values()).count(None))
        return {name: self.error_budget * (equal if part is None else part) for name, part in parts.items()}

    @property
    def guardrail_budgets(self) -> dict[str, float]:
        """The probability of error that each guardrail may spend, by its name."""
        return {guardrail.name: guardrail.budget for guardrail in self.guardrails}
