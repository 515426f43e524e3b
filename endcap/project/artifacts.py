"""What steps make, as small objects that print well in a terminal and in a notebook.

Each knows where it lies (`address`), what its step noted (`facts`), and hands its rows on as Arrow, pandas or Polars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from endcap.errors import NotFoundError
from endcap.project.metric_tables import build_metric_rows, build_metric_table
from endcap.store import Store
from endcap.tables import format_html_table, format_text_table

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

Json = dict[str, Any]


class Tabular:
    """Rows that can be read as Arrow, pandas or Polars."""

    def to_arrow(self) -> pa.Table:
        """Return the rows as a `pyarrow.Table`."""
        raise NotImplementedError

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a pandas frame."""
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def to_polars(self) -> pl.DataFrame:
        """Return the rows as a Polars frame. Raises UserError if Polars is not installed."""
        from endcap.events.frames import to_polars

        return to_polars(self.to_arrow())


@dataclass(frozen=True)
class Artifact:
    """An immutable artifact of the store.

    Attributes
    ----------
    address
        Where the artifact lies. A step that takes the artifact accepts the object or this text.
    summary
        The artifact in one line.
    facts
        What its step noted, as JSON values.
    store
        The store that holds it.
    """

    address: str
    summary: str
    facts: Mapping[str, Any] = field(repr=False)
    store: Store = field(repr=False, compare=False)

    title: ClassVar[str] = "Artifact"

    @property
    def folder(self) -> Path:
        """A local folder with the artifact's files. Files in a bucket are downloaded."""
        return self.store.fetch(self.address)

    def rows(self) -> list[tuple[str, Any]]:
        """Return the names and values of the printed form."""
        return [("address", self.address)]

    def __str__(self) -> str:
        lines = [
            f"{self.title}: {self.summary}",
            *(f"  {name:<12} {_format_value(value)}" for name, value in self.rows()),
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [(name, _format_value(value)) for name, value in self.rows()]
        return format_html_table(["", ""], rows, caption=f"{self.title}: {self.summary}")


class Tables(Artifact):
    """An artifact that consists of Parquet tables."""

    def tables(self) -> list[str]:
        """List the names of the tables."""
        return [file.stem for file in sorted(self.folder.glob("*.parquet"))]

    def _list_files(self, table: str) -> list[Path]:
        """List the Parquet files of a table; none if there is no such table."""
        file = self.folder / f"{table}.parquet"
        return [file] if file.is_file() else []

    def to_arrow(self, table: str = "events") -> pa.Table:
        """Return one of the tables.

        Parameters
        ----------
        table
            The table's name.

        Raises
        ------
        NotFoundError
            There is no such table. The message lists the tables.
        """
        import pyarrow.dataset as ds

        files = self._list_files(table)
        if files:
            return ds.dataset([str(file) for file in files], format="parquet").to_table()
        tables = self.tables()
        raise NotFoundError(
            f"{self.title} {self.address} has no table {table!r}; it has {', '.join(tables)}",
            code="project.table-unknown",
            table=table,
            known=tables,
        )

    def to_pandas(self, table: str = "events") -> pd.DataFrame:
        """Return one of the tables as a pandas frame; see `to_arrow`."""
        frame: pd.DataFrame = self.to_arrow(table).to_pandas()
        return frame

    def to_polars(self, table: str = "events") -> pl.DataFrame:
        """Return one of the tables as a Polars frame; see `to_arrow`."""
        from endcap.events.frames import to_polars

        return to_polars(self.to_arrow(table))


_BY_DAY = ("events", "activity")
"""Tables of a snapshot that consist of days."""


class Snapshot(Tables):
    """A checked log, which `ingest` makes.

    Its tables are `events`; `items` and `customers` if the shop has them; and `activity`, if sessions are cut by gaps
    and rows of other types were left out. It has the times of those rows.
    """

    title = "Snapshot"

    def tables(self) -> list[str]:
        by_day = [name for name in _BY_DAY if name == "events" or name in self.facts]
        return [*super().tables(), *by_day]

    def _list_files(self, table: str) -> list[Path]:
        if table not in _BY_DAY:
            return super()._list_files(table)
        from endcap.events.snapshot_days import open_snapshot

        snapshot = open_snapshot(self.store, self.address)
        return snapshot.files if table == "events" else snapshot.activity

    @property
    def bad(self) -> dict[str, dict[str, int]]:
        """How many rows were set aside, by table and reason."""
        bad: dict[str, dict[str, int]] = self.facts["bad"]
        return bad

    @property
    def left_out(self) -> dict[str, dict[str, int]]:
        """How many good rows the shop's settings leave out, by table and rule."""
        counts_left_out: dict[str, dict[str, int]] = self.facts.get("left_out", {})
        return counts_left_out

    def rows(self) -> list[tuple[str, Any]]:
        rules = {
            f"left out {table}: {rule}": n for table, counts in self.left_out.items() for rule, n in counts.items()
        }
        reasons = {f"bad {table}: {reason}": n for table, counts in self.bad.items() for reason, n in counts.items()}
        return [
            ("events", self.facts["events"]),
            ("from", format_moment(self.facts["first"])),
            ("to", format_moment(self.facts["last"])),
            *rules.items(),
            *reasons.items(),
            ("address", self.address),
        ]


class SqlTable(Artifact, Tabular):
    """The rows of a step of SQL, which `sql` makes."""

    title = "Table"

    def to_arrow(self) -> pa.Table:
        """Return the rows, in the order of their files. Raises NotFoundError if the warehouse has them."""
        import pyarrow.dataset as ds

        if "table" in self.facts:
            raise NotFoundError(
                f"the rows of {self.address} are in the warehouse's table {self.facts['table']}; read them there",
                code="project.table-unknown",
                table=self.facts["table"],
                known=[],
            )

        return ds.dataset(self.folder / "rows", format="parquet", partitioning=None).to_table()

    def rows(self) -> list[tuple[str, Any]]:
        columns = ", ".join(f"{column['name']} {column['type']}" for column in self.facts["columns"])
        return [("rows", self.facts["rows"]), ("columns", columns), ("address", self.address)]


class Dataset(Tables):
    """Sessions, items and event features, which `features` makes for all recommenders of the shop."""

    title = "Dataset"

    def rows(self) -> list[tuple[str, Any]]:
        names = ("sessions", "events", "items", "customers")
        dates = [("from", format_moment(self.facts["from"])), ("until", format_moment(self.facts["until"]))]
        content = [("content", self.facts["content"])] if "content" in self.facts else []  # release 0.1.0 lacks it
        return [*((name, self.facts[name]) for name in names), *dates, *content, ("address", self.address)]


class Trained(Artifact, Tabular):
    """A fitted model, which `train` makes and `evaluate` judges. Its rows are the epochs of the fit."""

    title = "Trained model"

    @property
    def model(self) -> Json:
        """The model's name and parameters, as a search chose them."""
        model: Json = self.facts["model"]
        return model

    @property
    def trials(self) -> list[Json]:
        """The trials of the search, for a blend those of all members; empty without a search."""
        searched = self.facts.get("search") or {}
        parts = searched.get("members", {"": searched})
        named = [(name, trial) for name, part in parts.items() for trial in part.get("trials", [])]
        return [{"member": name, **trial} if name else trial for name, trial in named]

    def to_arrow(self) -> pa.Table:
        """Return a row for each epoch: its loss, and the metric on the validation part."""
        import pyarrow as pa

        return pa.Table.from_pylist(self.facts["history"])

    def rows(self) -> list[tuple[str, Any]]:
        parameters = [(name, value) for name, value in self.model.items() if value is not None]
        return [*parameters, ("seconds", self.facts["seconds"]), ("address", self.address)]


class Verdict(Artifact, Tabular):
    """How a model compares, and what the gate decided, which `evaluate` makes. Its rows are the models' metrics."""

    title = "Verdict"

    @property
    def outcome(self) -> str:
        """The gate's decision: `passed`, `failed`, or `undecided` if there is not enough evidence."""
        from endcap.evaluation.verdict_text import read_decision

        return read_decision(self.facts)

    @property
    def passed(self) -> bool:
        """Whether the gate lets the model pass."""
        return bool(self.facts["passed"])

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """The metrics by model: `challenger`, `champion` if there is one, and each baseline by its name."""
        metrics: dict[str, dict[str, float]] = self.facts["metrics"]
        return metrics

    @property
    def conditions(self) -> list[Json]:
        """The gate's conditions, each with `passed` and the values that it compares."""
        conditions: list[Json] = self.facts["conditions"]
        return conditions

    @property
    def report(self) -> Path:
        """The report, an HTML file on this machine. Raises NotFoundError if the verdict has none."""
        from endcap.report import REPORT_FILE, find_report

        recommender = self.address.split("/")[-2]
        report = find_report(recommender, self.address, self.store)
        if report is None:
            raise NotFoundError(
                f"there is no report of {self.address}; project.evaluate() makes it",
                code="project.no-report",
                verdict=self.address,
            )
        return self.store.fetch(report) / REPORT_FILE

    def to_arrow(self) -> pa.Table:
        """Return a row for each model: its name, its metrics, and each interval as `<metric>_lower` and `_upper`."""
        import pyarrow as pa

        return pa.Table.from_pylist(build_metric_rows(self.facts))

    def __str__(self) -> str:
        from endcap.evaluation.verdict_text import describe_queries, explain_recipe, list_missing_evidence

        conditions = [f"  {'✓' if condition['passed'] else '⨯'} {condition['text']}" for condition in self.conditions]
        conditions += [f"  ? {line}" for line in list_missing_evidence(self.facts)]
        warnings = [f"  ! {warning}" for warning in self.facts["warnings"]]
        judged = describe_queries(self.facts)
        table = format_text_table(*build_metric_table(self.facts))
        notes = [f"  {note}" for note in [explain_recipe(self.facts)] if note]
        return "\n".join([f"{self.title}: {self.summary}", *conditions, judged, table, *notes, *warnings])

    def _repr_html_(self) -> str:
        from endcap.evaluation.verdict_text import explain_recipe

        notes = [note for note in (explain_recipe(self.facts), *self.facts["warnings"]) if note]
        return format_html_table(*build_metric_table(self.facts), caption=f"{self.title}: {self.summary}", notes=notes)


class Package(Artifact):
    """Everything that serving needs of one model, as data only, which `refit` makes."""

    title = "Package"

    def rows(self) -> list[tuple[str, Any]]:
        names = ("dataset", "trained", "verdict")
        return [*((name, self.facts[name]) for name in names), ("address", self.address)]


def format_moment(milliseconds: int | None) -> str:
    """Format epoch milliseconds to the minute; None stands for the log's beginning."""
    if milliseconds is None:
        return "the log's beginning"
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _format_value(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
