"""What personalisation brings: the champion against the baseline's popularity, in all, by place and by surface."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

import numpy as np

from endcap.experiments.evidence import EffectEvidence
from endcap.experiments.exposures import Exposures, Refusal, hash_text
from endcap.experiments.metric_join import MetricJoin, count_milliseconds
from endcap.experiments.metric_state import MetricState
from endcap.experiments.outcomes import Outcomes
from endcap.experiments.statistics import invert_effect
from endcap.spec.rollout import RolloutSpec
from endcap.spec.rollout_metrics import CtrSpec, MetricSpec

PLACES: tuple[tuple[int, int | None], ...] = ((0, 1), (1, 2), (2, 3), (3, 6), (6, 10), (10, None))
"""From which place on and before which one clicks are told apart, counted from 0."""
MOST_SURFACES = 16
ERROR = 0.025
"""On each side of a band: it covers the true lift at every look together with 95 %."""


@dataclass(frozen=True)
class Lift:
    """What the champion brings over popularity on one metric.

    Attributes
    ----------
    metric
        The metric's name; of a place, which places, counted from 1; of a surface, its name, empty where none was named.
    effect, lower, upper
        The relative difference, such as 0.25 for a quarter more than popularity has, and its band. The band covers the
        true lift at every look together with 95 %, each for itself. It is -1 to ``inf`` where nothing is known.
    better
        Whether more of the metric is better.
    shoppers, exposures, outcomes
        Of `stable` and `baseline`, as in `EffectEvidence`.
    """

    metric: str
    effect: float
    lower: float
    upper: float
    better: bool
    shoppers: Mapping[str, int]
    exposures: Mapping[str, int]
    outcomes: Mapping[str, float]

    @property
    def is_below(self) -> bool:
        """Whether the champion is shown to be worse than popularity."""
        return self.upper < 0 if self.better else self.lower > 0

    @classmethod
    def of(cls, effect: EffectEvidence) -> Self:
        """Turn the effect of the baseline, against the champion, around."""
        lift, lower, upper = invert_effect(effect.effect, effect.lower, effect.upper)
        counts = (effect.shoppers, effect.exposures, effect.outcomes)
        return cls(effect.metric, lift, lower, upper, effect.better, *counts)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; None for what is not known."""
        numbers = {"effect": self.effect, "lower": self.lower, "upper": self.upper}
        return {**asdict(self), **{name: value if math.isfinite(value) else None for name, value in numbers.items()}}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned."""
        unknown = {"effect": math.inf, "lower": -math.inf, "upper": math.inf}
        return cls(**{**document, **{name: value for name, value in unknown.items() if document[name] is None}})


@dataclass(frozen=True)
class LiftTable:
    """All lifts at one moment.

    Attributes
    ----------
    metrics
        Of each metric of the policy, over all places and surfaces.
    places
        Of clicks on some places, of all rankings that were seen.
    surfaces
        Of clicks on one surface each.
    """

    metrics: tuple[Lift, ...] = ()
    places: tuple[Lift, ...] = ()
    surfaces: tuple[Lift, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        parts = {"metrics": self.metrics, "places": self.places, "surfaces": self.surfaces}
        return {name: [lift.to_json() for lift in lifts] for name, lifts in parts.items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned."""
        parts = ("metrics", "places", "surfaces")
        return cls(**{name: tuple(Lift.from_json(lift) for lift in document[name]) for name in parts})


class LiftState:
    """The metrics of the baseline's shoppers beside the champion's, look by look.

    As with `MetricState`, the state after any looks equals that of one look at everything.

    Parameters
    ----------
    policy
        Says which metrics there are, and how many rankings of a shopper and day count.
    since
        Rankings that were made before do not count: another champion answered.
    """

    def __init__(self, policy: RolloutSpec, since: datetime) -> None:
        clicks = next((metric for metric in policy.metrics if isinstance(metric, CtrSpec)), CtrSpec(kind="ctr"))
        everywhere = clicks.model_copy(update={"name": "clicks", "first": None, "after": 0})
        places = [everywhere.model_copy(update=_select_places(*place)) for place in PLACES]
        self._since = count_milliseconds(since)
        self._surface_policy = _make_policy(policy, [everywhere])
        self._metrics = _start(_make_policy(policy, policy.metrics))
        self._places = _start(_make_policy(policy, places))
        self._surfaces: dict[int, MetricState] = {}
        self._names: dict[int, str] = {0: ""}
        self._outcomes: Outcomes | None = None
        """Those that a surface which is seen for the first time may still need."""
        self._longest = round(everywhere.settles_after.total_seconds() * 1000)
        self.refusals: Counter[Refusal] = Counter()

    @property
    def newest(self) -> datetime | None:
        """When the newest report was received; None without any."""
        return self._metrics.newest

    def take(self, exposures: Exposures, outcomes: Outcomes, surfaces: Iterable[str] = ()) -> None:
        """Take new records, in any order. surfaces: the names that may stand behind hashes in `exposures`."""
        self._names |= {hash_text(name): name for name in surfaces}
        exposures = exposures.select(exposures.time >= self._since)
        for state in (self._metrics, self._places):
            state.take(exposures, outcomes)
        for surface in self._order_surfaces(exposures):
            if surface not in self._surfaces and len(self._surfaces) < MOST_SURFACES:
                self._surfaces[surface] = _start(self._surface_policy)
                if self._outcomes is not None:
                    self._surfaces[surface].take(exposures.select(np.zeros(len(exposures), np.bool_)), self._outcomes)
        for surface, state in self._surfaces.items():
            state.take(exposures.select(exposures.surface == surface), outcomes)
        self._outcomes = outcomes if self._outcomes is None else self._outcomes.join(outcomes)

    def close(self, until: datetime) -> None:
        """Judge all visits whose windows are over at `until`; see `MetricState.close`."""
        for state in (self._metrics, self._places, *self._surfaces.values()):
            state.close(until)
        if self._outcomes is not None:
            oldest = count_milliseconds(until) - self._longest - MetricJoin.early
            self._outcomes = self._outcomes.select(self._outcomes.time > oldest)

    def judge(self) -> LiftTable:
        """Return the lifts."""
        places, metrics = self._places.judge(), self._metrics.judge()
        self.refusals = Counter(self._metrics.refusals)
        surfaces = {self._names.get(surface, ""): state.judge()[0] for surface, state in self._surfaces.items()}
        return LiftTable(
            tuple(Lift.of(effect) for effect in metrics),
            tuple(Lift.of(effect) for effect in places),
            tuple(Lift.of(_rename(effect, name)) for name, effect in sorted(surfaces.items())),
        )

    @staticmethod
    def _order_surfaces(exposures: Exposures) -> list[int]:
        """Return the surfaces in the order in which they were met."""
        surfaces, first = np.unique(exposures.surface, return_index=True)
        return [int(surface) for surface in surfaces[np.argsort(first)]]


def _start(policy: RolloutSpec) -> MetricState:
    # The champion's rate is well known, so the baseline's effect is measured against it, and turned around.
    return MetricState(policy, "baseline", "stable")


def _make_policy(policy: RolloutSpec, metrics: Iterable[MetricSpec]) -> RolloutSpec:
    """Return a policy by which each band has `ERROR` on each side."""
    judged = [metric.model_copy(update={"budget": None}) for metric in metrics]
    changes = {"metrics": judged, "promote_by": None, "error_budget": ERROR * len(judged), "promotion_error": ERROR}
    return policy.model_copy(update=changes)


def _select_places(after: int, first: int | None) -> dict[str, Any]:
    name = f"{after + 1}+" if first is None else str(first) if first == after + 1 else f"{after + 1}-{first}"
    return {"name": name, "after": after, "first": first}


def _rename(effect: EffectEvidence, name: str) -> EffectEvidence:
    return EffectEvidence(**{**vars(effect), "metric": name})
