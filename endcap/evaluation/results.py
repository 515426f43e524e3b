"""All models of a verdict: metrics, intervals, and one model's differences from the others."""

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
from endcap.spec.evaluation import Evaluation
from endcap.spec.gate import P90_MS

Json = dict[str, Any]


@dataclass(frozen=True)
class ModelResults:
    """Metrics of each model, and the comparisons of one model with each other.

    `metrics` is by model and metric. `comparisons` is of the challenger, or of the model named by `own`, by the other
    model.
    """

    metrics: Mapping[str, Mapping[str, Estimate]]
    comparisons: Mapping[str, PairwiseComparison]
    evaluations: Mapping[str, ModelMetrics]

    @classmethod
    def of(
        cls,
        evaluations: Mapping[str, ModelMetrics],
        timings: Mapping[str, Doubles],
        rules: Evaluation,
        seed: int,
        own: str = CHALLENGER,
    ) -> ModelResults:
        """Put models side by side. All must have the same metrics and sessions.

        Parameters
        ----------
        evaluations
            Metrics of each model, by label.
        timings
            What the same rankings took each model, ms.
        rules
            The spec's `evaluation`, with the number of resamples and the confidence.
        seed
            Of the resampling.
        own
            The model that is compared with each other one.
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
                **_build_estimates(reference.names, bootstrap.estimate_value(places[name])),
                **_wrap_values(measured.coverage),
                P90_MS: speed.estimate_value(name),
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
                    **_build_estimates(reference.names, bootstrap.estimate_difference(own_place, places[name])),
                    **_wrap_values(differences),
                    P90_MS: speed.estimate_difference(own, name),
                },
                {
                    **_build_estimates(reference.names, bootstrap.estimate_ratio(own_place, places[name])),
                    **_wrap_values(ratios),
                    P90_MS: speed.estimate_ratio(own, name),
                },
            )
        return cls(metrics, comparisons, evaluations)

    def facts(self) -> Json:
        """Return metrics and intervals by model and metric, and segments by model, division, segment and metric."""
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
        """Return a row for each model and metric: its value, and the difference and ratio to it, each with both
        interval ends."""
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
    """The 90th percentile of a ranking's time, with intervals over the rankings that were timed."""

    def __init__(self, timings: Mapping[str, Doubles], rules: Evaluation, seed: int) -> None:
        self._ends = ((1 - rules.confidence) / 2, (1 + rules.confidence) / 2)
        self._values = {name: float(np.quantile(taken, PERCENTILE)) for name, taken in timings.items()}
        self._drawn = {
            name: np.quantile(
                np.random.default_rng(seed).choice(taken, (rules.bootstrap, len(taken))), PERCENTILE, axis=1
            )
            for name, taken in timings.items()
        }

    def estimate_value(self, name: str) -> Estimate:
        return self._estimate(self._values[name], self._drawn[name])

    def estimate_difference(self, name: str, other: str) -> Estimate:
        return self._estimate(self._values[name] - self._values[other], self._drawn[name] - self._drawn[other])

    def estimate_ratio(self, name: str, other: str) -> Estimate:
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
    """Return the estimate and both ends; null in place of infinity, which JSON has not."""
    numbers = (estimate.value, estimate.lower, estimate.upper)
    return [number if number is not None and math.isfinite(number) else None for number in numbers]
