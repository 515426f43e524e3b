"""What a report shows, as the steps stored it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from endcap.evaluation.estimates import CHALLENGER, CHAMPION
from endcap.spec.model_summary import format_title

Json = Mapping[str, Any]
MAIN_METRIC = "mrr"
"""The metric that selects the best other model."""


@dataclass(frozen=True)
class ReportedValue:
    """A number and the ends of its interval, as far as they are stored."""

    value: float | None
    lower: float | None = None
    upper: float | None = None

    @classmethod
    def of(cls, numbers: Sequence[float | None] | None) -> Self:
        """Read a row of the verdict's table: estimate, lower and upper end."""
        return cls(*numbers) if numbers else cls(None)

    @property
    def sign(self) -> int:
        """1 or -1 if the whole interval lies on that side of 0, else 0."""
        if self.lower is None or self.upper is None:
            return 0
        return (self.lower > 0) - (self.upper < 0)


@dataclass(frozen=True)
class ReportFacts:
    """One verdict or comparison.

    Attributes
    ----------
    models
        The challenger first, then the champion if there is one, then the members of a blend (`challenger/vsknn`), then
        the baselines.
    verdict
        Facts of the verdict or the comparison.
    trained
        Facts of the trained model; empty if nothing is known of it.
    values
        By model and metric.
    differences
        The challenger's from each other model.
    samples
        See `endcap.evaluation.samples`.
    lineage
        What made the run, by name.
    data
        What its data say (`endcap.description.describe`); None if that is not known.
    """

    recommender: str
    created: str
    verdict: Json
    trained: Json
    models: Sequence[str]
    values: Mapping[str, Mapping[str, ReportedValue]]
    differences: Mapping[str, Mapping[str, ReportedValue]]
    samples: Json | None = None
    lineage: Mapping[str, str] = field(default_factory=dict)
    data: Json | None = None
    comparison: bool = False
    """Models were compared without a gate: differences are from the first one."""

    @classmethod
    def of(cls, recommender: str, verdict: Json, trained: Json, report: Json, data: Json | None = None) -> Self:
        """Collect the facts of a verdict. What an older verdict does not have is empty.

        Parameters
        ----------
        recommender
            Its name.
        verdict, trained
            Manifests of a verdict and of its model.
        report
            The verdict's table and samples.
        data
            The description of the verdict's data.
        """
        values: dict[str, dict[str, ReportedValue]] = {}
        differences: dict[str, dict[str, ReportedValue]] = {}
        for row in report["table"]:
            values.setdefault(row["model"], {})[row["metric"]] = ReportedValue.of(row["value"])
            if row["model"] != CHALLENGER:
                differences.setdefault(row["model"], {})[row["metric"]] = ReportedValue.of(row.get("difference"))
        first = [name for name in (CHALLENGER, CHAMPION) if name in values]
        models = [*first, *(name for name in values if name not in first)]
        facts, training = verdict["facts"], trained.get("facts", {})
        places = {name: facts.get(name, "") for name in ("snapshot", "dataset", "trained")}
        lineage = {**places, "verdict": verdict.get("address", ""), "MLflow run": facts.get("mlflow_run", "")}
        lineage |= {name: str(version) for name, version in training.get("environment", {}).items()}
        return cls(
            recommender,
            verdict.get("created", ""),
            facts,
            training,
            models,
            values,
            differences,
            report.get("samples"),
            {name: value for name, value in lineage.items() if value},
            data,
        )

    @classmethod
    def of_comparison(
        cls, recommender: str, manifest: Json, trained: Mapping[str, Json], report: Json, data: Json | None = None
    ) -> Self:
        """Collect the facts of a comparison from its manifest, its models' manifests by label, and its table and
        samples."""
        facts = manifest["facts"]
        values: dict[str, dict[str, ReportedValue]] = {}
        for row in report["table"]:
            values.setdefault(row["model"], {})[row["metric"]] = ReportedValue.of(row["value"])
        differences = {
            label: {metric: ReportedValue.of(numbers) for metric, numbers in of_it.items()}
            for label, of_it in facts["differences"].items()
        }
        places = {name: facts.get(name, "") for name in ("snapshot", "dataset")}
        lineage = {**places, "comparison": manifest.get("address", "")}
        lineage |= {f"trained: {label}": address for label, address in facts["trained"].items()}
        learnt = {label: manifest_of_model["facts"] for label, manifest_of_model in trained.items()}
        return cls(
            recommender,
            manifest.get("created", ""),
            facts,
            _merge_histories(learnt),
            facts["labels"],
            values,
            differences,
            report.get("samples"),
            {name: value for name, value in lineage.items() if value},
            data,
            comparison=True,
        )

    def title(self, label: str, *, short: bool = False) -> str:
        """Return how a model is called (`endcap.spec.model_summary`)."""
        return format_title(label, self.verdict.get("models", {}), short=short)

    @property
    def compared(self) -> Sequence[str]:
        """Labels of the models that were trained for a comparison, without the baselines."""
        return [label for label in self.models if label in self.verdict["trained"]]

    @property
    def other_models(self) -> Sequence[str]:
        return self.models[1:]

    @property
    def rivals(self) -> Sequence[str]:
        """The other models without the challenger's own members."""
        return [name for name in self.other_models if not name.startswith(f"{CHALLENGER}/")]

    @property
    def model(self) -> str:
        """The name of the trained model."""
        return str(self.trained.get("model", {}).get("name", CHALLENGER))

    @property
    def cutoff(self) -> int:
        """The deepest cutoff that was measured."""
        return max(cutoffs) if (cutoffs := self.cutoffs) else 0

    @property
    def cutoffs(self) -> list[int]:
        metrics = self.values[self.models[0]]
        return sorted({int(at) for _, _, at in (name.partition("@") for name in metrics) if at.isdecimal()})

    def at(self, metric: str) -> str:
        """Return the metric at the deepest cutoff: `mrr` as `mrr@20`."""
        return f"{metric}@{self.cutoff}"

    @property
    def opponent(self) -> str | None:
        """The model that the challenger is compared with at the top: the champion, else the best baseline."""
        if CHAMPION in self.models:
            return CHAMPION
        metric = self.at(MAIN_METRIC)
        known = [name for name in self.rivals if self.values[name].get(metric, ReportedValue(None)).value is not None]
        return max(known, key=lambda name: self.values[name][metric].value or 0.0, default=None)

    @property
    def confidence(self) -> str:
        return format_percent(self.verdict.get("confidence", 0.95))


def _merge_histories(learnt: Mapping[str, Json]) -> Json:
    """Merge what several trainings stored, as a blend's history: each quantity is `label/quantity`."""
    rows: dict[float, dict[str, Any]] = {}
    for label, facts in learnt.items():
        for row in facts.get("history", []):
            named = {name if name == "epoch" else f"{label}/{name}": value for name, value in row.items()}
            rows.setdefault(row["epoch"], {}).update(named)
    settings = {label: facts.get("found") or {} for label, facts in learnt.items()}
    return {"history": [rows[epoch] for epoch in sorted(rows)], "found": {"members": settings}}


def format_percent(share: float) -> str:
    """Format a share: 0.95 as `95 %`, 0.999 as `99.9 %`."""
    return f"{100 * share:.4g} %"
