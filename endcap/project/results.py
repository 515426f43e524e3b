"""What the methods of a project give that is no artifact of one step: versions, runs, rankings, lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from endcap.project.artifacts import Json, Tabular, format_moment
from endcap.runs import Run
from endcap.runs.text import format_duration, format_time
from endcap.store import Store
from endcap.store.schemas import report_malformed
from endcap.tables import format_html_table, format_text_table

if TYPE_CHECKING:
    import pyarrow as pa

    from endcap.batch import VersionLists
    from endcap.deploy import Deployment
    from endcap.registry import Version


@dataclass(frozen=True)
class Registered:
    """A version in the registry, which `register` makes of a package."""

    version: Version
    summary: str

    @property
    def number(self) -> str:
        """The version's number, as the registry counts."""
        return self.version.version

    def __str__(self) -> str:
        return f"Version: {self.summary}"

    def _repr_html_(self) -> str:
        return Versions([self.version])._repr_html_()


class Versions(list["Version"], Tabular):
    """The versions of a recommender, oldest first."""

    columns: ClassVar = ("version", "state", "aliases", "created", "dataset", "why")

    def _rows(self) -> list[tuple[Any, ...]]:
        return [
            (
                version.version,
                version.state,
                ", ".join(version.aliases),
                format_moment(version.created),
                version.tags.get("dataset", ""),
                version.why,
            )
            for version in self
        ]

    def to_arrow(self) -> pa.Table:
        """Return a row for each version."""
        import pyarrow as pa

        return pa.Table.from_pylist([dict(zip(self.columns, row, strict=True)) for row in self._rows()])

    def __str__(self) -> str:
        return format_text_table(self.columns, self._rows())

    def _repr_html_(self) -> str:
        return format_html_table(self.columns, self._rows(), caption="Versions")


@dataclass(frozen=True)
class Deployed:
    """What should serve now, which `deploy` writes.

    Attributes
    ----------
    state
        The desired state; None if the version still waits for approval.
    summary
        The state in one line.
    outcome
        What happened in the cluster; empty without one.
    """

    state: Deployment | None
    summary: str
    outcome: str = ""

    def __str__(self) -> str:
        return "\n".join(line for line in (f"Deployment: {self.summary}", self.outcome) if line)

    def _repr_html_(self) -> str:
        state = self.state
        rows: list[tuple[str, str, float | None, str]] = []
        rows += [] if state is None else [("stable", state.stable.version, None, state.stable.package)]
        rows += (
            [] if state is None else [(name, arm.version, arm.share, arm.package) for name, arm in state.arms.items()]
        )
        return format_html_table(
            ["variant", "version", "share", "package"], rows, caption=f"Deployment: {self.summary}"
        )


@dataclass(frozen=True)
class Lists(Tabular):
    """Every customer's list for each version that serves, which `recommend` makes.

    Its rows are those of the first version.
    """

    versions: Sequence[VersionLists]
    published: bool
    summary: str
    store: Store = field(repr=False, compare=False)

    @property
    def address(self) -> str:
        """The address of the first version's lists, which is the champion."""
        return self.versions[0].address

    def to_arrow(self) -> pa.Table:
        """Return a row for each customer: `customer`, `items` (best first), `scores`, `model_version`, `made`."""
        import pyarrow.dataset as ds

        return ds.dataset(self.store.fetch(self.address), format="parquet", exclude_invalid_files=True).to_table()

    def __str__(self) -> str:
        return f"Lists: {self.summary}"

    def _repr_html_(self) -> str:
        rows = [(lists.version, lists.facts["customers"], lists.facts["k"], lists.address) for lists in self.versions]
        return format_html_table(
            ["version", "customers", "items each", "address"], rows, caption=f"Lists: {self.summary}"
        )


@dataclass(frozen=True)
class Description:
    """What a shop's data say, which `describe` returns.

    Attributes
    ----------
    facts
        The whole description, as JSON values.
    """

    facts: Json = field(repr=False)

    @property
    def warnings(self) -> list[str]:
        """What to look at, the most severe first."""
        return [warning["text"] for warning in self.facts["warnings"]]

    def _tables(self) -> Mapping[str, Any]:
        from endcap.description import build_tables

        with report_malformed("descriptions", str(self.facts.get("dataset") or self.facts.get("snapshot"))):
            return build_tables(self.facts)

    def __str__(self) -> str:
        parts = ["\n".join(f"! {warning}" for warning in self.warnings)] if self.warnings else []
        for caption, table in self._tables().items():
            lines = format_text_table(table.columns, table.rows).splitlines()
            parts.append("\n".join([caption, *(f"  {line}" for line in lines)]))
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        warnings = (
            format_html_table(["What to look at"], [[warning] for warning in self.warnings]) if self.warnings else ""
        )
        every = self._tables().items()
        return warnings + "".join(
            format_html_table(table.columns, table.rows, caption=caption) for caption, table in every
        )


class Runs(list[Run], Tabular):
    """Runs of pipelines, newest first."""

    columns: ClassVar = ("run", "pipeline", "state", "started", "took", "by", "gave")

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                run.name,
                run.pipeline,
                run.state,
                format_time(run.started),
                "" if run.seconds is None else format_duration(run.seconds),
                run.by,
                run.gave,
            )
            for run in self
        ]

    def to_arrow(self) -> pa.Table:
        """Return a row for each run."""
        import pyarrow as pa

        return pa.Table.from_pylist([dict(zip(self.columns, row, strict=True)) for row in self._rows()])

    def __str__(self) -> str:
        return format_text_table(self.columns, self._rows())

    def _repr_html_(self) -> str:
        return format_html_table(self.columns, self._rows(), caption="Runs")


@dataclass(frozen=True)
class PipelineRun:
    """A run that ended well, which `run` returns.

    Attributes
    ----------
    run
        The run's record.
    results
        What each step made, by the step's name.
    """

    run: Run
    results: Mapping[str, str]

    def __str__(self) -> str:
        return str(self.run)

    def _repr_html_(self) -> str:
        rows = [(step.name, step.seconds, step.summary, step.result) for step in self.run.steps]
        columns = ["step", "seconds", "", "result"]
        return format_html_table(columns, rows, caption=f"Run {self.run.name}: {self.run.state}")


@dataclass(frozen=True)
class Ranking(Tabular):
    """Items, best first, as the service would answer.

    Attributes
    ----------
    ids
        The item ids.
    scores
        The model's scores; None for a fallback, an item that fills up the list without a score of the model.
    unknown
        How many items of the request the model does not know.
    removed
        The items that rules removed, if the request has `explain`.
    items
        The attributes of the ranked items, if the shop has an item table.
    reason
        Why some items are fallbacks, such as ``unknown-customer``; empty if none is.
    """

    ids: list[str]
    scores: list[float | None]
    unknown: int = 0
    removed: list[Json] = field(default_factory=list)
    items: pa.Table | None = field(default=None, repr=False, compare=False)
    reason: str = ""

    def to_arrow(self) -> pa.Table:
        """Return a row for each item: `place` from 1, `item`, `score`, and the item's attributes."""
        import pyarrow as pa

        size = len(self.ids)
        table = pa.table(
            {
                "place": pa.array(range(1, size + 1), pa.int32()),
                "item": pa.array(self.ids, pa.string()),
                "score": pa.array(self.scores, pa.float32()),
            }
        )
        if self.items is not None:
            for name in self.items.column_names:
                if name not in ("item", "events", "first_seen"):
                    table = table.append_column(name, self.items[name])
        return table

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        table = self.to_arrow()
        return table.column_names, [list(row.values()) for row in table.to_pylist()]

    def _notes(self) -> list[str]:
        from endcap.fallback_reasons import REASONS

        if not self.reason:
            return []
        return [f"{self.scores.count(None):,} of {len(self.ids):,} are fallbacks: {REASONS[self.reason]}"]

    def __str__(self) -> str:
        return "\n".join([format_text_table(*self._table()), *self._notes()])

    def _repr_html_(self) -> str:
        return format_html_table(*self._table(), notes=self._notes())
