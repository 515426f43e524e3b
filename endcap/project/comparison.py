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
    """Several models side by side. Its rows are the models: those compared by their labels, then the baselines."""

    title = "Comparison"

    @property
    def labels(self) -> list[str]:
        """Of the models that were compared, in the order that they were given in."""
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
        """Metrics by label."""
        metrics: dict[str, dict[str, float]] = self.facts["metrics"]
        return metrics

    @property
    def differences(self) -> dict[str, dict[str, list[float | None]]]:
        """How each other model's metrics differ from the first one's: estimate, lower and upper end."""
        differences: dict[str, dict[str, list[float | None]]] = self.facts["differences"]
        return differences

    @property
    def warnings(self) -> list[str]:
        """What flatters or weakens the figures."""
        return list(self.facts["warnings"])

    @property
    def report(self) -> Path:
        """The report, an HTML file on this machine. Raises NotFoundError where none was made."""
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
        """A row a model: its label and description, its metrics, and of each the interval as `<metric>_lower`,
        `_upper`, and the difference from the first model as `<metric>_difference`, `…_difference_lower`, `…_upper`."""
        import pyarrow as pa

        rows = build_metric_rows(self.facts)
        for row in rows:
            for metric, numbers in self.differences.get(row["model"], {}).items():
                ends = (f"{metric}_difference{end}" for end in ("", "_lower", "_upper"))
                row |= dict(zip(ends, numbers, strict=True))
        names = list(dict.fromkeys(name for row in rows for name in row))
        return pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])

    def table(self) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Columns and rows of the printed form."""
        return build_comparison_table(self.facts)

    def __str__(self) -> str:
        warnings = (f"! {warning}" for warning in self.warnings)
        return "\n".join([f"{self.title}: {self.summary}", format_text_table(*self.table()), *warnings])

    def _repr_html_(self) -> str:
        return format_html_table(*self.table(), caption=f"{self.title}: {self.summary}", notes=self.warnings)
