"""What the methods of a project give: small objects that print well, in a terminal and in a notebook.

Each knows where it lies (`address`), what its step noted (`facts`), and hands its rows on as Arrow, pandas or Polars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from endcap.errors import NotFoundError
from endcap.project.table import html_table, text_table
from endcap.runs import Run
from endcap.runs.text import duration, time_text
from endcap.spec.recommender import P90_MS
from endcap.store import Store

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from endcap.batch import Made
    from endcap.deploy import Deployment
    from endcap.registry import Version

Json = dict[str, Any]


class Tabular:
    """Rows, in the library of the caller's choice."""

    def to_arrow(self) -> pa.Table:
        """The rows as a `pyarrow.Table`."""
        raise NotImplementedError

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a pandas frame."""
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def to_polars(self) -> pl.DataFrame:
        """The rows as a Polars frame. Raises UserError where Polars is not installed."""
        from endcap.events.frames import to_polars

        return to_polars(self.to_arrow())


@dataclass(frozen=True)
class Artifact:
    """An immutable artifact of the store.

    Attributes
    ----------
    address
        Where it lies: a step that takes it accepts the object or this text.
    summary
        One line on it.
    facts
        What its step noted, as JSON values.
    """

    address: str
    summary: str
    facts: Mapping[str, Any] = field(repr=False)
    store: Store = field(repr=False, compare=False)

    title: ClassVar[str] = "Artifact"

    @property
    def folder(self) -> Path:
        """A local folder with the artifact's files; of a bucket they are fetched."""
        return self.store.fetch(self.address)

    def rows(self) -> list[tuple[str, Any]]:
        """What the printed form shows: names and values."""
        return [("address", self.address)]

    def __str__(self) -> str:
        lines = [f"{self.title}: {self.summary}", *(f"  {name:<12} {_shown(value)}" for name, value in self.rows())]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [(name, _shown(value)) for name, value in self.rows()]
        return html_table(["", ""], rows, caption=f"{self.title}: {self.summary}")


class Tables(Artifact):
    """An artifact of Parquet tables."""

    def tables(self) -> list[str]:
        """Names of its tables."""
        files = sorted(self.folder.glob("*.parquet")) + [path for path in self.folder.iterdir() if path.is_dir()]
        return [file.stem for file in files]

    def to_arrow(self, table: str = "events") -> pa.Table:
        """One of its tables. Raises NotFoundError for a name that it does not have."""
        import pyarrow.dataset as ds

        folder = self.folder
        for place in (folder / f"{table}.parquet", folder / table):
            if place.exists():
                return ds.dataset(place, format="parquet").to_table()
        there = self.tables()
        raise NotFoundError(
            f"{self.title} {self.address} has no table {table!r}; it has {', '.join(there)}",
            code="project.table-unknown",
            table=table,
            known=there,
        )

    def to_pandas(self, table: str = "events") -> pd.DataFrame:
        """The same as a pandas frame."""
        frame: pd.DataFrame = self.to_arrow(table).to_pandas()
        return frame

    def to_polars(self, table: str = "events") -> pl.DataFrame:
        """The same as a Polars frame."""
        from endcap.events.frames import to_polars

        return to_polars(self.to_arrow(table))


class Snapshot(Tables):
    """A checked log: what `ingest` made. Tables: `events`, and `items` and `customers` where the shop has them."""

    title = "Snapshot"

    @property
    def bad(self) -> dict[str, dict[str, int]]:
        """Rows that were set aside: how many, by table and reason."""
        bad: dict[str, dict[str, int]] = self.facts["bad"]
        return bad

    def rows(self) -> list[tuple[str, Any]]:
        reasons = {f"bad {table}: {reason}": n for table, counts in self.bad.items() for reason, n in counts.items()}
        return [
            ("events", self.facts["events"]),
            ("from", _moment(self.facts["first"])),
            ("to", _moment(self.facts["last"])),
            *reasons.items(),
            ("address", self.address),
        ]


class Dataset(Tables):
    """Sessions, items and event features: what `features` made, for all recommenders of the shop."""

    title = "Dataset"

    def rows(self) -> list[tuple[str, Any]]:
        names = ("sessions", "events", "items", "customers")
        dates = [("from", _moment(self.facts["from"])), ("until", _moment(self.facts["until"]))]
        return [*((name, self.facts[name]) for name in names), *dates, ("address", self.address)]


class Trained(Artifact, Tabular):
    """A fitted model that is ready to be judged: what `train` made. Its rows are the epochs of the fit."""

    title = "Trained model"

    @property
    def model(self) -> Json:
        """The model's name and parameters, as a search chose them."""
        model: Json = self.facts["model"]
        return model

    @property
    def trials(self) -> list[Json]:
        """The trials of the search, of all members of a blend; empty where nothing was searched."""
        searched = self.facts.get("search") or {}
        parts = searched.get("members", {"": searched})
        named = [(name, trial) for name, part in parts.items() for trial in part.get("trials", [])]
        return [{"member": name, **trial} if name else trial for name, trial in named]

    def to_arrow(self) -> pa.Table:
        """A row an epoch: its loss, and how the validation part was ranked."""
        import pyarrow as pa

        return pa.Table.from_pylist(self.facts["history"])

    def rows(self) -> list[tuple[str, Any]]:
        parameters = [(name, value) for name, value in self.model.items() if value is not None]
        return [*parameters, ("seconds", self.facts["seconds"]), ("address", self.address)]


class Verdict(Artifact, Tabular):
    """How the model compares, and what the gate decided: what `evaluate` made. Its rows are the models' metrics."""

    title = "Verdict"

    @property
    def passed(self) -> bool:
        """The gate's word."""
        return bool(self.facts["passed"])

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Metrics by model: `challenger`, `champion` where there is one, and each baseline by its name."""
        metrics: dict[str, dict[str, float]] = self.facts["metrics"]
        return metrics

    @property
    def conditions(self) -> list[Json]:
        """The gate's conditions, each with `passed` and its values."""
        conditions: list[Json] = self.facts["conditions"]
        return conditions

    @property
    def report(self) -> Path:
        """The report of this verdict, an HTML file on this machine. Raises NotFoundError where none was made."""
        from endcap.report import FILE, find_report

        recommender = self.address.split("/")[-2]
        report = find_report(recommender, self.address, self.store)
        if report is None:
            raise NotFoundError(
                f"there is no report of {self.address}; project.evaluate() makes it",
                code="project.no-report",
                verdict=self.address,
            )
        return self.store.fetch(report) / FILE

    def to_arrow(self) -> pa.Table:
        """A row a model: its name, its metrics, and the interval of each metric as `<metric>_lower`, `_upper`."""
        import pyarrow as pa

        return pa.Table.from_pylist(metric_rows(self.facts))

    def __str__(self) -> str:
        conditions = [f"  {'✓' if one['passed'] else '⨯'} {one['text']}" for one in self.conditions]
        warnings = [f"  ! {warning}" for warning in self.facts["warnings"]]
        judged = f"{self.facts['predictions']:,} predictions of {self.facts['sessions']:,} test sessions"
        table = text_table(*metric_table(self.facts))
        return "\n".join([f"{self.title}: {self.summary}", *conditions, judged, table, *warnings])

    def _repr_html_(self) -> str:
        return html_table(
            *metric_table(self.facts), caption=f"{self.title}: {self.summary}", notes=self.facts["warnings"]
        )


class Package(Artifact):
    """All that serving needs of one model, data only: what `refit` made."""

    title = "Package"

    def rows(self) -> list[tuple[str, Any]]:
        names = ("dataset", "trained", "verdict")
        return [*((name, self.facts[name]) for name in names), ("address", self.address)]


@dataclass(frozen=True)
class Registered:
    """A version of the registry: what `register` made of a package."""

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
            (one.version, one.state, ", ".join(one.aliases), _moment(one.created), one.tags.get("dataset", ""), one.why)
            for one in self
        ]

    def to_arrow(self) -> pa.Table:
        """A row a version."""
        import pyarrow as pa

        return pa.Table.from_pylist([dict(zip(self.columns, row, strict=True)) for row in self._rows()])

    def __str__(self) -> str:
        return text_table(self.columns, self._rows())

    def _repr_html_(self) -> str:
        return html_table(self.columns, self._rows(), caption="Versions")


@dataclass(frozen=True)
class Deployed:
    """What should serve now: what `deploy` wrote. state: None where a version still waits. outcome: a cluster's."""

    state: Deployment | None
    summary: str
    outcome: str = ""

    def __str__(self) -> str:
        return "\n".join(line for line in (f"Deployment: {self.summary}", self.outcome) if line)

    def _repr_html_(self) -> str:
        state = self.state
        targets = [] if state is None else [("stable", state.stable, None), ("canary", state.canary, state.canary)]
        rows = [(name, one.version, share and share.share, one.package) for name, one, share in targets if one]
        return html_table(["variant", "version", "share", "package"], rows, caption=f"Deployment: {self.summary}")


@dataclass(frozen=True)
class Lists(Tabular):
    """Every customer's list, of each version that serves: what `recommend` made. Its rows are the first version's."""

    made: Sequence[Made]
    published: bool
    summary: str
    store: Store = field(repr=False, compare=False)

    @property
    def address(self) -> str:
        """Of the first version's lists, the champion's."""
        return self.made[0].address

    def to_arrow(self) -> pa.Table:
        """A row a customer: `customer`, `items` best first, `scores`, `model_version`, `made`."""
        import pyarrow.dataset as ds

        return ds.dataset(self.store.fetch(self.address), format="parquet", exclude_invalid_files=True).to_table()

    def __str__(self) -> str:
        return f"Lists: {self.summary}"

    def _repr_html_(self) -> str:
        rows = [(one.version, one.facts["customers"], one.facts["k"], one.address) for one in self.made]
        return html_table(["version", "customers", "items each", "address"], rows, caption=f"Lists: {self.summary}")


class Runs(list[Run], Tabular):
    """Runs of pipelines, newest first."""

    columns: ClassVar = ("run", "pipeline", "state", "started", "took", "by", "gave")

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                run.name,
                run.pipeline,
                run.state,
                time_text(run.started),
                "" if run.seconds is None else duration(run.seconds),
                run.by,
                run.gave,
            )
            for run in self
        ]

    def to_arrow(self) -> pa.Table:
        """A row a run."""
        import pyarrow as pa

        return pa.Table.from_pylist([dict(zip(self.columns, row, strict=True)) for row in self._rows()])

    def __str__(self) -> str:
        return text_table(self.columns, self._rows())

    def _repr_html_(self) -> str:
        return html_table(self.columns, self._rows(), caption="Runs")


@dataclass(frozen=True)
class PipelineRun:
    """A run that has ended well: what `run` gave. results: what each step made, by the step's name."""

    run: Run
    results: Mapping[str, str]

    def __str__(self) -> str:
        return str(self.run)

    def _repr_html_(self) -> str:
        rows = [(step.name, step.seconds, step.summary, step.result) for step in self.run.steps]
        columns = ["step", "seconds", "", "result"]
        return html_table(columns, rows, caption=f"Run {self.run.name}: {self.run.state}")


@dataclass(frozen=True)
class Ranking(Tabular):
    """Items, best first, as the service would answer.

    Attributes
    ----------
    ids
        Item ids.
    scores
        The model's, None for a fallback: an item that fills the list up, which the model has no opinion on.
    unknown
        Items of the request that the model does not know.
    removed
        What rules took away, where the request says `explain`.
    items
        The attributes of the ranked items, where the shop has an item table.
    """

    ids: list[str]
    scores: list[float | None]
    unknown: int = 0
    removed: list[Json] = field(default_factory=list)
    items: pa.Table | None = field(default=None, repr=False, compare=False)

    def to_arrow(self) -> pa.Table:
        """A row an item: `place` from 1, `item`, `score`, and the item's attributes."""
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

    def __str__(self) -> str:
        return text_table(*self._table())

    def _repr_html_(self) -> str:
        return html_table(*self._table())


@dataclass(frozen=True)
class Comparison(Tabular):
    """Several models, judged on the same predictions: what `compare` gave. verdicts: by the models' labels."""

    verdicts: Mapping[str, Verdict]

    @property
    def best(self) -> str:
        """The label of the model with the highest MRR at the deepest cutoff."""
        metric = metric_table(next(iter(self.verdicts.values())).facts)[0][2]
        return max(self.verdicts, key=lambda label: self.verdicts[label].metrics["challenger"][metric])

    def to_arrow(self) -> pa.Table:
        """A row a model, those compared first, then the champion and the baselines."""
        import pyarrow as pa

        return pa.Table.from_pylist([row for facts in self._facts() for row in metric_rows(facts)])

    def _facts(self) -> list[Json]:
        """The figures of each model once: those compared by their labels, then what was judged beside them."""
        facts: list[Json] = []
        seen: set[str] = set()
        for label, verdict in self.verdicts.items():
            facts.append(_only(verdict.facts, {"challenger": label}))
        for verdict in self.verdicts.values():
            beside = {name: name for name in verdict.metrics if name.split("/")[0] != "challenger" and name not in seen}
            if beside:
                seen |= beside.keys()
                facts.append(_only(verdict.facts, beside))
        return facts

    @property
    def warnings(self) -> list[str]:
        """What flatters or weakens the figures, each warning once."""
        return list(dict.fromkeys(warning for one in self.verdicts.values() for warning in one.facts["warnings"]))

    def _table(self) -> tuple[list[str], list[tuple[Any, ...]]]:
        tables = [metric_table(facts) for facts in self._facts()]
        return tables[0][0], [row for _, rows in tables for row in rows]

    def __str__(self) -> str:
        return "\n".join([text_table(*self._table()), *(f"! {warning}" for warning in self.warnings)])

    def _repr_html_(self) -> str:
        return html_table(*self._table(), caption=f"Best by MRR: {self.best}", notes=self.warnings)


def metric_table(facts: Mapping[str, Any]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Columns and rows of a verdict: a row a model, metrics at the deepest cutoff, the interval of its MRR."""
    models = facts["metrics"]
    cutoff = max(int(name.partition("@")[2] or 0) for values in models.values() for name in values)
    names = [f"{name}@{cutoff}" for name in ("hr", "mrr", "ndcg", "recall", "coverage")]
    columns = ["model", *names, P90_MS, f"{facts['confidence']:.0%} of mrr@{cutoff}"]
    rows = []
    for name, metrics in models.items():
        lower, upper = facts["intervals"][name][f"mrr@{cutoff}"]
        rows.append((name, *(metrics[metric] for metric in (*names, P90_MS)), f"{lower:.4f} to {upper:.4f}"))
    return columns, rows


def metric_rows(facts: Mapping[str, Any]) -> list[Json]:
    """All metrics of a verdict with their intervals, a row a model."""
    rows = []
    for name, metrics in facts["metrics"].items():
        row: Json = {"model": name}
        for metric, value in metrics.items():
            row[metric] = value
            if metric in facts["intervals"][name]:
                row[f"{metric}_lower"], row[f"{metric}_upper"] = facts["intervals"][name][metric]
        rows.append(row)
    return rows


def _only(facts: Mapping[str, Any], names: Mapping[str, str]) -> Json:
    kept = {key: {names[name]: facts[key][name] for name in names} for key in ("metrics", "intervals")}
    return {**facts, **kept}


def _moment(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "the log's beginning"
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
