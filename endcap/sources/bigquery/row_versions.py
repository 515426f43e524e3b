"""Whether the rows of a view or a query changed: by its text, and by the tables that it reads in the end.

Where nobody can say, the rows count as changed. That is so if a text reads the clock, random numbers or models, calls
functions that are declared elsewhere, or reads what has no time of change: external tables, materialized views (a query
reads newer rows than they have), and tables with rows that were streamed in and are not stored yet.
"""

from __future__ import annotations

from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from endcap.errors import DataError
from endcap.sources.bigquery.client import Warehouse
from endcap.sources.bigquery.compile import TableName
from endcap.sources.bigquery.tables import Table, describe_shards, describe_table, find_shards
from endcap.sources.sql_tables import list_tables

Version = tuple[Any, ...]
_STORED = ("TABLE", "SNAPSHOT", "CLONE")
_DEEPEST = 16
"""Views within views, as BigQuery allows them."""
_MOST = 200
"""Tables behind a text. To ask for more takes longer than most queries."""
_CHANGING = (
    *(exp.Rand, exp.Uuid, exp.SessionUser, exp.CurrentUser),
    *(exp.CurrentDate, exp.CurrentDatetime, exp.CurrentTime, exp.CurrentTimestamp),
    *(exp.AIAgg, exp.AIClassify, exp.AIEmbed, exp.AIForecast, exp.AIGenerate, exp.AISimilarity, exp.AISummarizeAgg),
    *(exp.GenerateBool, exp.GenerateDouble, exp.GenerateEmbedding, exp.GenerateInt, exp.GenerateTable),
    *(exp.GenerateText, exp.MLForecast, exp.MLTranslate, exp.Predict, exp.VectorSearch),
    # Functions that sqlglot does not know, such as those that users declare.
    *(exp.Anonymous, exp.AnonymousAggFunc),
    *(exp.Parameter, exp.SessionParameter, exp.TableSample, exp.Version),
)


def find_query_version(warehouse: Warehouse, query: str) -> Version | None:
    """Return what changes when the rows of a query may have changed; None if nobody can say.

    Parameters
    ----------
    warehouse
        Where to ask. Tables without a project are of the one that pays.
    query
        The query in GoogleSQL.

    Raises
    ------
    TransientError, UserError
        As `Warehouse.call`. What BigQuery refuses to describe, such as tables behind an authorized view, is not known.
    """
    return _VersionSearch(warehouse).read_text(query, warehouse.project, 0)


def find_table_version(warehouse: Warehouse, table: Table) -> Version | None:
    """Do the same for the rows that a query sees of a table or a view."""
    return _VersionSearch(warehouse).read_table(table, 0)


class _VersionSearch:
    """A search that stops after too many tables."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse, self._tables = warehouse, 0

    def read_text(self, text: str, project: str | None, depth: int) -> Version | None:
        """project: of tables that name none. None: they are not known."""
        names = _list_names(text)
        if names is None or depth > _DEEPEST:
            return None
        versions: list[Any] = []
        for name in names:
            parts = name.split(".")
            if len(parts) == 2 and project is not None:
                parts = [project, *parts]
            version = self._read_name(TableName(*parts), depth) if len(parts) == 3 else None
            if version is None:
                return None
            versions.append((".".join(parts), version))
        return text, tuple(versions)

    def read_table(self, table: Table, depth: int) -> Version | None:
        self._tables += 1
        if self._tables > _MOST:
            return None
        if table.kind == "VIEW" and table.definition is not None:
            # Google does not say whose project a view means that names none, unless all are of one.
            project = table.name.project if table.name.project == self._warehouse.project else None
            return self.read_text(table.definition, project, depth + 1)
        return table.version if table.kind in _STORED and not table.is_streaming else None

    def _read_name(self, name: TableName, depth: int) -> Version | None:
        try:
            if not name.table.endswith("*"):
                return self.read_table(describe_table(self._warehouse, name), depth)
            names = find_shards(self._warehouse, name)
            if len(names) > _MOST:
                return None
            shards = [
                (shard.name.table, self.read_table(shard, depth)) for shard in describe_shards(self._warehouse, names)
            ]
        except DataError:
            return None
        return None if any(version is None for _, version in shards) else tuple(shards)


def _list_names(text: str) -> tuple[str, ...] | None:
    """List the tables of a text; None if the same tables may give other rows."""
    try:
        trees = [tree for tree in sqlglot.parse(text, read="bigquery") if tree is not None]
    except (SqlglotError, RecursionError):
        return None
    if len(trees) != 1 or not isinstance(trees[0], exp.Query) or trees[0].find(*_CHANGING):
        return None
    tables = list(trees[0].find_all(exp.Table))
    # What is no name is a function that gives a table.
    return list_tables(trees[0]) if all(isinstance(table.this, exp.Identifier) for table in tables) else None
