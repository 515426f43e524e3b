"""All models of one verdict, measured on the same test sessions and resampled together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from endcap.evaluation.bootstrap import Bootstrap, Interval
from endcap.evaluation.estimates import CHALLENGER, Estimate, PairwiseComparison
from endcap.evaluation.metrics import Doubles
from endcap.evaluation.model_metrics import ModelMetrics
from endcap.evaluation.timing import PERCENTILE
from endcap.spec import recommender as spec
from endcap.spec.gate import P90_MS

Json = dict[str, Any]


@dataclass(frozen=True)
class ModelResults:
    """metrics: by model and metric. comparisons: of the challenger, or whoever `of` names, with each other model."""

    metrics: Mapping[str, Mapping[str, Estimate]]
    comparisons: Mapping[str, PairwiseComparison]
    evaluations: Mapping[str, ModelMetrics]

    @classmethod
    def of(
        cls,
        evaluations: Mapping[str, ModelMetrics],
        timings: Mapping[str, Doubles],
        rules: spec.Evaluation,
        seed: int,
        own: str = CHALLENGER,
    ) -> ModelResults:
        """Put models side by side. All have the same metrics and sessions.

        timings: of each model, what the same predictions took, ms. own: whom the others are compared with.
        """
        reference = evaluations[own]
        places = {name: number for number, name in enumerate(evaluations)}
        bootstrap = Bootstrap(
            np.stack([measured.sums for measured in evaluations.values()]),
            np.stack([measured.weights for measured in evaluations.values()]),
            reference.weight_of,
            resamples=rules.bootstrap,
            confidence=rules.confidence,
            seed=seed,
        )
        speed = RankingTimes(timings, rules, seed)
        metrics = {
            name: {
                **_build_estimates(reference.names, bootstrap.value(places[name])),
                **_wrap_values(measured.coverage),
                P90_MS: speed.value(name),
            }
            for name, measured in evaluations.items()
        }
        own_place, comparisons = places[own], {}
        for name, measured in evaluations.items():
            if name == own:
                continue
            differences = {
                metric: reference.coverage[metric] - measured.coverage[metric] for metric in measured.coverage
            }
            ratios = {
                metric: _divide(reference.coverage[metric], measured.coverage[metric]) for metric in measured.coverage
            }
            comparisons[name] = PairwiseComparison(
                {
                    **_build_estimates(reference.names, bootstrap.difference(own_place, places[name])),
                    **_wrap_values(differences),
                    P90_MS: speed.difference(own, name),
                },
                {
                    **_build_estimates(reference.names, bootstrap.ratio(own_place, places[name])),
                    **_wrap_values(ratios),
                    P90_MS: speed.ratio(own, name),
                },
            )
        return cls(metrics, comparisons, evaluations)

    def facts(self) -> Json:
        """metrics and intervals by model and metric; segments by model, division, segment and metric."""
        return {
            "metrics": {
                name: {metric: measured.value for metric, measured in values.items()}
                for name, values in self.metrics.items()
            },
            "intervals": {
                name: {
                    metric: [measured.lower, measured.upper]
                    for metric, measured in values.items()
                    if measured.lower is not None
                }
                for name, values in self.metrics.items()
            },
            "segments": {name: measured.segments for name, measured in self.evaluations.items()},
        }

    def table(self) -> list[Json]:
        """A row a model and metric: value, its interval, and the challenger's difference and ratio with theirs."""
        rows = []
        for name, values in self.metrics.items():
            for metric, value in values.items():
                row: Json = {"model": name, "metric": metric, "value": _list_numbers(value)}
                if name in self.comparisons:
                    comparison = self.comparisons[name]
                    row["difference"] = _list_numbers(comparison.difference[metric])
                    row["ratio"] = _list_numbers(comparison.ratio[metric])
                rows.append(row)
        return rows


class RankingTimes:
    """The 90th percentile of the time of a prediction, with intervals over the predictions that were timed."""

    def __init__(self, timings: Mapping[str, Doubles], rules: spec.Evaluation, seed: int) -> None:
        self._ends = ((1 - rules.confidence) / 2, (1 + rules.confidence) / 2)
        self._values = {name: float(np.quantile(taken, PERCENTILE)) for name, taken in timings.items()}
        self._drawn = {
            name: np.quantile(
                np.random.default_rng(seed).choice(taken, (rules.bootstrap, len(taken))), PERCENTILE, axis=1
            )
            for name, taken in timings.items()
        }

    def value(self, name: str) -> Estimate:
        return self._estimate(self._values[name], self._drawn[name])

    def difference(self, name: str, other: str) -> Estimate:
        return self._estimate(self._values[name] - self._values[other], self._drawn[name] - self._drawn[other])

    def ratio(self, name: str, other: str) -> Estimate:
        return self._estimate(self._values[name] / self._values[other], self._drawn[name] / self._drawn[other])

    def _estimate(self, value: float, drawn: Doubles) -> Estimate:
        lower, upper = np.quantile(drawn, self._ends)
        return Estimate(value, float(lower), float(upper))


def _build_estimates(names: Sequence[str], interval: Interval) -> dict[str, Estimate]:
    columns = (interval.estimate.tolist(), interval.lower.tolist(), interval.upper.tolist())
    return {name: Estimate(*numbers) for name, *numbers in zip(names, *columns, strict=True)}


def _wrap_values(values: Mapping[str, float]) -> dict[str, Estimate]:
    return {name: Estimate(value) for name, value in values.items()}


def _divide(numerator: float, denominator: float) -> float:
    if denominator:
        return numerator / denominator
    return math.inf if numerator else 1.0


def _list_numbers(estimate: Estimate) -> list[float | None]:
    """Estimate, lower and upper end; JSON has no infinity."""
    numbers = (estimate.value, estimate.lower, estimate.upper)
    return [number if number is not None and math.isfinite(number) else None for number in numbers]
