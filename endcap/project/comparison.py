"""Several models, judged on the same predictions: what `compare` gave."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.errors import NotFoundError
from endcap.project.artifacts import Artifact, Tabular
from endcap.project.metric_tables import (
    MAIN_METRIC,
    build_comparison_table,
    build_metric_rows,
    find_best,
    find_deepest_cutoff,
)
from endcap.tables import format_html_table, format_text_table

if TYPE_CHECKING:
    import pyarrow as pa


class Comparison(Artifact, Tabular):
    """Several models side by side. Its rows are the compared models by their labels, then the baselines."""

    title = "Comparison"

    @property
    def labels(self) -> list[str]:
        """The labels of the compared models, in the order in which they were given."""
        return [label for label in self.facts["labels"] if label in self.facts["trained"]]

    @property
    def best(self) -> str:
        """The label of the model with the highest MRR at the deepest cutoff."""
        return find_best(self.facts, f"{MAIN_METRIC}@{find_deepest_cutoff(self.facts)}", self.labels)

    @property
    def trained(self) -> dict[str, str]:
        """The addresses of the trained models, by label."""
        trained: dict[str, str] = self.facts["trained"]
        return trained

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """The metrics by label."""
        metrics: dict[str, dict[str, float]] = self.facts["metrics"]
        return metrics

    @property
    def differences(self) -> dict[str, dict[str, list[float | None]]]:
        """How the metrics of each other model differ from those of the first: estimate, lower and upper end."""
        differences: dict[str, dict[str, list[float | None]]] = self.facts["differences"]
        return differences

    @property
    def warnings(self) -> list[str]:
        """What makes the figures too good or less certain."""
        return list(self.facts["warnings"])

    @property
    def report(self) -> Path:
        """The report, an HTML file on this machine. Raises NotFoundError if the comparison has none."""
        from endcap.report import REPORT_FILE, find_comparison_report

        recommender = self.address.split("/")[-2]
        report = find_comparison_report(recommender, self.address, self.store)
        if report is None:
            raise NotFoundError(
                f"there is no report of {self.address}; project.compare() makes it",
                code="project.no-report",
                verdict=self.address,
            )
        return self.store.fetch(report) / REPORT_FILE

    def to_arrow(self) -> pa.Table:
        """Return a row for each model: its label, its description and its metrics.

        Each metric's interval is `<metric>_lower` and `<metric>_upper`. Its difference from the first model is
        `<metric>_difference`, with `<metric>_difference_lower` and `<metric>_difference_upper`.
        """
        import pyarrow as pa

        rows = build_metric_rows(self.facts)
        for row in rows:
            for metric, numbers in self.differences.get(row["model"], {}).items():
                ends = (f"{metric}_difference{end}" for end in ("", "_lower", "_upper"))
                row |= dict(zip(ends, numbers, strict=True))
        names = list(dict.fromkeys(name for row in rows for name in row))
        return pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])

    def table(self) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Return columns and rows of the printed form."""
        return build_comparison_table(self.facts)

    def __str__(self) -> str:
        warnings = (f"! {warning}" for warning in self.warnings)
        return "\n".join([f"{self.title}: {self.summary}", format_text_table(*self.table()), *warnings])

    def _repr_html_(self) -> str:
        return format_html_table(*self.table(), caption=f"{self.title}: {self.summary}", notes=self.warnings)
