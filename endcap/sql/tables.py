"""The tables that a statement may read: files, outputs of earlier steps of SQL, the run's snapshot and dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from endcap.errors import UserError
from endcap.events.query import ArtifactTables, create_views, list_table_names, open_artifact_tables
from endcap.sources.source_index import SourceIndex
from endcap.sources.sql import quote_name, quote_text
from endcap.spec.bigquery_source import BigQuery
from endcap.spec.sql_step import SqlInput, SqlSpec
from endcap.sql.input_sources import READ_PARQUET, SourceTable
from endcap.sql.plan import InputTable
from endcap.steps import SQL, STEPS
from endcap.store import Store, get_content_key

Json = dict[str, Any]
Progress = Callable[[str], None]
ROWS = "rows"
"""The folder of an artifact that holds a table's Parquet files."""
_ARTIFACTS = {"snapshot": STEPS["ingest"].kind, "dataset": STEPS["features"].kind}
"""The kinds of artifacts of a run whose tables a statement may read, by their names in the table of steps."""


class ViewedTable(InputTable, Protocol):
    """A table that DuckDB reads as a view."""

    @property
    def is_parquet(self) -> bool:
        """Whether the view's rows are those of its files, which are Parquet, so that others can read these."""

    def create(self, connection: Any, scratch: Path) -> list[str]:
        """Create the table as a view, and return the files that it reads. scratch: a folder for converted files."""

    def check_unchanged(self) -> None:
        """Raise DataError if the table changed since the search."""


@dataclass(frozen=True)
class StepTable:
    """The output of an earlier step of SQL."""

    name: str
    step: str
    address: str
    store: Store
    is_parquet = True

    def key(self) -> Any:
        return ["table", get_content_key(self.address)]

    def facts(self) -> Json:
        return {"step": self.step, "artifact": self.address}

    def create(self, connection: Any, scratch: Path) -> list[str]:
        files = sorted(str(file) for file in (self.store.fetch(self.address) / ROWS).rglob("*.parquet"))
        reader = READ_PARQUET.format(files=f"[{', '.join(map(quote_text, files))}]")
        connection.execute(f"CREATE VIEW {quote_name(self.name)} AS {reader}")
        return files

    def check_unchanged(self) -> None:
        """An artifact does not change."""


@dataclass(frozen=True)
class ArtifactTable:
    """A table of the run's snapshot or dataset."""

    name: str
    artifact: ArtifactTables
    store: Store
    is_parquet = False

    def key(self) -> Any:
        return ["artifact", self.name, get_content_key(self.artifact.address)]

    def facts(self) -> Json:
        return {"artifact": self.artifact.address}

    def create(self, connection: Any, scratch: Path) -> list[str]:
        return create_views(connection, self.store, self.artifact, [self.name])

    def check_unchanged(self) -> None:
        """An artifact does not change."""


def list_known_names(spec: SqlSpec, artifacts: Sequence[str]) -> list[str]:
    """List the names of tables that a statement may read, before anything has run.

    artifacts: names of what the steps before make, such as `snapshot`.
    """
    of_run = [name for kind in _ARTIFACTS if kind in artifacts for name in list_table_names(_ARTIFACTS[kind])]
    return [*spec.inputs, *(name for name in of_run if name not in spec.inputs)]


def list_needed(names: Sequence[str], spec: SqlSpec) -> list[str]:
    """Return the artifacts of a run whose tables are among these names, by the words of the table of steps."""
    free = set(names) - set(spec.inputs)
    return [word for word, kind in _ARTIFACTS.items() if free & set(list_table_names(kind))]


def find_tables(
    step: str,
    spec: SqlSpec,
    names: Sequence[str],
    store: Store,
    tables: Mapping[str, str],
    artifacts: Mapping[str, str],
    index: SourceIndex,
    progress: Progress,
) -> tuple[list[ViewedTable], list[str]]:
    """Find the tables that a statement reads.

    Parameters
    ----------
    step
        The step's name, for messages.
    spec
        The step's spec.
    names
        The tables that the statement names.
    store
        The store of the artifacts.
    tables
        Addresses of what earlier steps of SQL made, by the steps' names.
    artifacts
        Addresses of the run's snapshot and dataset, by these words.
    index
        What is known of files.
    progress
        Takes a line when files are copied.

    Returns
    -------
    tuple
        The tables among `names` that exist, and the names of all tables that the statement could read.

    Raises
    ------
    UserError
        An input is the output of a step that has not run (`sql.table-not-made`).
    DataError
        Files of an input do not exist, or cannot be read.
    """
    of_run: dict[str, ViewedTable] = {}
    for kind, address in artifacts.items():
        artifact = open_artifact_tables(store, address, _ARTIFACTS[kind])
        of_run |= {name: ArtifactTable(name, artifact, store) for name in artifact.sources}
    inputs: list[ViewedTable] = []
    for name in names:
        source = spec.inputs.get(name)
        if source is None:
            inputs += [of_run[name]] if name in of_run else []
        elif source.step is None:
            inputs.append(SourceTable.find(step, name, source, index, progress))
        else:
            inputs.append(_find_output(step, name, source.step, get_table(source.step, tables), store, index, progress))
    return inputs, [*spec.inputs, *(name for name in of_run if name not in spec.inputs)]


def _find_output(
    step: str, name: str, maker: str, address: str, store: Store, index: SourceIndex, progress: Progress
) -> StepTable | SourceTable:
    """Find what a step of SQL made: rows in the store, or a table of the warehouse."""
    table = find_warehouse_table(store.manifest(address)["facts"])
    if table is None:
        return StepTable(name, maker, address, store)
    return SourceTable.find(step, name, SqlInput(bigquery=table), index, progress)


def find_warehouse_table(facts: Mapping[str, Any]) -> BigQuery | None:
    """Return the table of the warehouse that a step of SQL wrote by its facts; None if its rows are in the store."""
    return BigQuery(table=facts["table"], project=facts["project"]) if "table" in facts else None


def get_table(step: str, tables: Mapping[str, str]) -> str:
    """Return the address of what a step of SQL made. Raises UserError if it has not run (`sql.table-not-made`)."""
    if step not in tables:
        raise UserError(
            f"the step {step} has made no table yet; run the pipeline, which runs it first (steps of SQL that have "
            f"run: {', '.join(tables) or 'none'}), or call project.sql({step!r})",
            code="sql.table-not-made",
            step=step,
            made=sorted(tables),
        )
    return tables[step]


def is_table(address: str) -> bool:
    """Return whether an address is that of the output of a step of SQL."""
    return get_content_key(address).split("/")[0] == SQL.kind
