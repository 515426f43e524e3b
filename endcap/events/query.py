"""SQL over a shop's snapshot and dataset: read-only, and nothing but their tables."""

from __future__ import annotations

import contextlib
import fnmatch
import re
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from endcap.errors import NotFoundError, UserError
from endcap.events.snapshot_days import open_snapshot
from endcap.sources.engine import lock_engine, open_engine
from endcap.sources.sql import quote_text
from endcap.steps import STEPS
from endcap.store import Store, get_content_key

_PLAIN = "SELECT * FROM read_parquet({files}, hive_partitioning = false)"
_BY_DAY = "SELECT * FROM read_parquet({files}, hive_partitioning = true)"
_NUMBERED = (
    "SELECT file_row_number AS number, * EXCLUDE (file_row_number) "
    "FROM read_parquet({files}, file_row_number = true, hive_partitioning = false)"
)
_BAD = (
    "SELECT * FROM read_json({files}, format = 'newline_delimited', columns = {{'table': 'VARCHAR', "
    "'source': 'VARCHAR', 'line': 'BIGINT', 'reason': 'VARCHAR', 'values': 'VARCHAR', 'text': 'VARCHAR'}})"
)


@dataclass(frozen=True)
class _ArtifactTable:
    """A table by the files of an artifact: their pattern, and the query that reads them.

    Where `days` is set, the files are those that a snapshot's days have under this name; the pattern is that of older
    snapshots.
    """

    pattern: str
    reads: str
    about: str
    days: str | None = None


_SNAPSHOTS, _DATASETS = STEPS["ingest"].kind, STEPS["features"].kind
_SOURCES: dict[str, dict[str, _ArtifactTable]] = {
    _SNAPSHOTS: {
        "events": _ArtifactTable("events/*.parquet", _BY_DAY, "every event; time in ms since 1970 (UTC)", "files"),
        "activity": _ArtifactTable(
            "activity.parquet", _BY_DAY, "what else customers did, and when; sessions go on by it", "activity"
        ),
        "items": _ArtifactTable("items.parquet", _PLAIN, "the item table"),
        "customers": _ArtifactTable("customers.parquet", _PLAIN, "the customer table"),
        "bad_rows": _ArtifactTable("quarantine.jsonl", _BAD, "rows that were set aside, and why"),
    },
    _DATASETS: {
        "sessions": _ArtifactTable("sessions.parquet", _PLAIN, "sessions after the filters"),
        "session_events": _ArtifactTable("events.parquet", _PLAIN, "their events; item and customer are numbers"),
        "dataset_items": _ArtifactTable("items.parquet", _NUMBERED, "items by their number"),
        "dataset_customers": _ArtifactTable("customers.parquet", _NUMBERED, "customers by their number"),
        "test_sessions": _ArtifactTable("test_sessions.parquet", _PLAIN, "sessions of a given test part"),
        "test_session_events": _ArtifactTable("test_events.parquet", _PLAIN, "their events"),
        "owned": _ArtifactTable("owned.parquet", _PLAIN, "what customers own, by the shop's rule"),
    },
}


@dataclass(frozen=True)
class QueryTable:
    """A table that SQL may read.

    Attributes
    ----------
    name
        Its name in SQL.
    about
        What it holds.
    artifact
        The address of the snapshot or dataset that it is of.
    columns
        DuckDB's types by the names of the columns.
    rows
        How many rows it has.
    """

    name: str
    about: str
    artifact: str
    columns: dict[str, str]
    rows: int


def query(
    sql: str,
    store: Store,
    *,
    shop: str | None = None,
    snapshot: str | None = None,
    dataset: str | None = None,
    limit: int | None = None,
) -> pa.Table:
    """Return the rows of a SELECT in DuckDB's SQL.

    The tables are those of `tables`. The statement reads nothing else: no file, no address, no variable of Python. An
    artifact whose tables it does not name is not fetched. Times without a zone are UTC's.

    Parameters
    ----------
    sql
        One SELECT, also in the forms ``FROM …``, ``WITH …``, ``DESCRIBE …``, ``SUMMARIZE …`` and ``SHOW TABLES``.
    store
        The store that holds the artifacts.
    shop
        The shop whose newest snapshot and dataset are read.
    snapshot
        The address of a snapshot in place of the newest; then the newest dataset made of it.
    dataset
        The address of a dataset in place of the newest; then the snapshot that it was made of.
    limit
        The most rows that are returned; None: all.

    Raises
    ------
    UserError
        The SQL is wrong (`query.invalid`, with DuckDB's words), names an unknown table (`query.unknown-table`) or is no
        SELECT (`query.not-a-select`); an address is no snapshot or dataset (`query.wrong-artifact`).
    NotFoundError
        The shop has no snapshot or dataset here (`query.no-data`).
    StorageError
        There is no room for what does not fit in memory.

    Examples
    --------
    >>> query("select type, count(*) as n from events group by type", store, shop="demo")  # doctest: +SKIP
    """
    artifacts = _find_artifacts(store, shop, snapshot, dataset)
    _check(sql)
    table_names = {name for artifact in artifacts for name in artifact.sources}
    # A word may be something else than a table's name; then an artifact is fetched that need not be.
    words = set(re.findall(r"\w+", sql.lower()))
    names = [artifact for artifact in artifacts if words & set(artifact.sources) or not words & table_names]
    with _connect(store, names) as connection:
        try:
            relation = connection.sql(sql)
            return (relation if limit is None else relation.limit(limit)).to_arrow_table()
        except duckdb.CatalogException as error:
            if "Table with name" not in str(error):
                raise _invalid_query_error(error) from error
            raise UserError(
                f"{_first(error)} The tables are {', '.join(sorted(table_names))}",
                code="query.unknown-table",
                tables=sorted(table_names),
            ) from error
        except (duckdb.IOException, duckdb.OutOfMemoryException):
            raise  # of this machine, not of the statement
        except duckdb.Error as error:
            raise _invalid_query_error(error) from error


def tables(
    store: Store, *, shop: str | None = None, snapshot: str | None = None, dataset: str | None = None
) -> list[QueryTable]:
    """List the tables that `query` may read, with their columns. Parameters and errors are those of `query`."""
    artifacts = _find_artifacts(store, shop, snapshot, dataset)
    result = []
    with _connect(store, artifacts) as connection:
        for artifact in artifacts:
            for name, (source, _) in artifact.sources.items():
                columns = {row[0]: row[1] for row in connection.execute(f'DESCRIBE "{name}"').fetchall()}
                (rows,) = connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()  # noqa: S608 - our own name
                result.append(QueryTable(name, source.about, artifact.address, columns, rows))
    return result


def find_addresses(
    store: Store, *, shop: str | None = None, snapshot: str | None = None, dataset: str | None = None
) -> tuple[str | None, str | None]:
    """Return the snapshot and the dataset that `query` would read, each None if absent. Errors are those of `query`."""
    by_kind = {
        get_content_key(name.address).split("/")[0]: name.address
        for name in _find_artifacts(store, shop, snapshot, dataset)
    }
    return by_kind.get(_SNAPSHOTS), by_kind.get(_DATASETS)


@dataclass(frozen=True)
class ArtifactTables:
    """The tables of a snapshot or a dataset."""

    address: str
    facts: dict[str, Any]
    sources: dict[str, tuple[_ArtifactTable, list[str]]]
    """What reads each table, and the names of its files, or of its days."""


def _find_artifacts(store: Store, shop: str | None, snapshot: str | None, dataset: str | None) -> list[ArtifactTables]:
    """The snapshot and the dataset that are meant; either may be missing."""
    if snapshot is None and dataset is None and shop is None:
        raise UserError("of which data? Give a shop, a snapshot or a dataset", code="query.no-data")
    of_dataset = None if dataset is None else open_artifact_tables(store, dataset, _DATASETS)
    if snapshot is None and of_dataset is not None:
        snapshot = f"{store.root}/{get_content_key(of_dataset.facts['snapshot'])}"
        of_snapshot = open_artifact_tables(store, snapshot, _SNAPSHOTS) if _exists(store, snapshot) else None
    else:
        of_snapshot = (
            _find_newest(store, shop, _SNAPSHOTS)
            if snapshot is None
            else open_artifact_tables(store, snapshot, _SNAPSHOTS)
        )
    if dataset is None:
        of_dataset = _find_newest(store, shop or _get_shop(snapshot), _DATASETS, made_of=snapshot)
    artifacts = [artifact for artifact in (of_snapshot, of_dataset) if artifact is not None]
    if not artifacts:
        raise NotFoundError(
            f"the shop {shop} has no snapshot and no dataset in {store.root}; "
            "make them: endcap run SPEC --pipeline features",
            code="query.no-data",
            shop=shop,
            store=store.root,
        )
    return artifacts


def _find_newest(store: Store, shop: str | None, kind: str, made_of: str | None = None) -> ArtifactTables | None:
    """The newest artifact of a shop; made_of: of those that were made of this snapshot."""
    for address in reversed(store.list(f"{kind}/{shop}")):
        artifact = open_artifact_tables(store, address, kind)
        if made_of is None or get_content_key(artifact.facts["snapshot"]) == get_content_key(made_of):
            return artifact
    return None


def list_table_names(kind: str) -> list[str]:
    """List the tables that an artifact of a kind may have. kind: `snapshots` or `datasets`."""
    return list(_SOURCES[kind])


def open_artifact_tables(store: Store, address: str, kind: str) -> ArtifactTables:
    """Find the tables of an artifact by its manifest, without fetching its files.

    kind: `snapshots` or `datasets`. Raises UserError if the address is of another kind (`query.wrong-artifact`).
    """
    address = address.rstrip("/")
    if get_content_key(address).split("/")[0] != kind:
        raise UserError(
            f"{address} is not the address of one of the {kind}, such as {store.root}/{kind}/SHOP/KEY",
            code="query.wrong-artifact",
            address=address,
            kind=kind,
        )
    manifest = store.manifest(address)
    files = sorted(manifest["files"])
    facts = manifest["facts"]
    matched = {name: (source, _list_files(source, files, facts)) for name, source in _SOURCES[kind].items()}
    return ArtifactTables(address, facts, {name: table for name, table in matched.items() if table[1]})


def _list_files(source: _ArtifactTable, files: list[str], facts: dict[str, Any]) -> list[str]:
    if source.days is None or "days" not in facts:
        return fnmatch.filter(files, source.pattern)
    return [day["day"] for day in facts["days"] if day["events" if source.days == "files" else "activity"]]


def _exists(store: Store, address: str) -> bool:
    kind, shop, key = get_content_key(address).split("/")
    return store.find(f"{kind}/{shop}", key) is not None


def _get_shop(address: str | None) -> str | None:
    return None if address is None else get_content_key(address).split("/")[1]


def _check(sql: str) -> None:
    """Raises UserError where the text is not one SELECT."""
    with duckdb.connect() as connection:
        try:
            statements = connection.extract_statements(sql)
        except duckdb.Error as error:
            raise _invalid_query_error(error) from error
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            kinds = [str(statement.type).rpartition(".")[2] for statement in statements]
            raise UserError(
                f"one SELECT is allowed, which reads; this is {' and '.join(kinds) or 'no statement'}",
                code="query.not-a-select",
                statements=kinds,
            )


@contextlib.contextmanager
def _connect(store: Store, artifacts: list[ArtifactTables]) -> Iterator[Any]:
    """A connection that sees the artifacts' tables as views, and can read no other file."""
    with tempfile.TemporaryDirectory(prefix="endcap-query-") as spill, open_engine(Path(spill), "UTC") as connection:
        lock_engine(connection, [file for artifact in artifacts for file in create_views(connection, store, artifact)])
        yield connection


def create_views(
    connection: Any, store: Store, artifact: ArtifactTables, names: Collection[str] | None = None
) -> list[str]:
    """Create a view for each table of an artifact, and return the files that the views read.

    names: the tables to create views for; None: all.
    """
    read_files: list[str] = []
    folder = store.fetch(artifact.address)
    chosen = {name: table for name, table in artifact.sources.items() if names is None or name in names}
    snapshot = open_snapshot(store, artifact.address) if any(source.days for source, _ in chosen.values()) else None
    for name, (source, files) in chosen.items():
        if snapshot is not None and source.days is not None:
            paths = [str(path) for path in getattr(snapshot, source.days)]
        else:
            paths = [str(folder / file) for file in files]
        if paths:
            listed = f"[{', '.join(map(quote_text, paths))}]"
            connection.execute(f'CREATE VIEW "{name}" AS {source.reads.format(files=listed)}')
            read_files += paths
    return read_files


def _invalid_query_error(error: duckdb.Error) -> UserError:
    hint = " A query reads the tables alone." if isinstance(error, duckdb.PermissionException) else ""
    return UserError(f"the query is not valid: {error}{hint}", code="query.invalid")


def _first(error: duckdb.Error) -> str:
    return str(error).splitlines()[0].removeprefix("Catalog Error: ")
