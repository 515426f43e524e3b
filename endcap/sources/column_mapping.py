"""How a file's columns become a table's columns, and what makes a row bad, as SQL over a batch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from endcap.sources.locate import SourceColumn
from endcap.sources.sql import quote_name, quote_text
from endcap.sources.values.conditions import list_condition_checks, match_all
from endcap.sources.values.glance import GlancedColumn
from endcap.sources.values.ids import convert_to_id, list_id_checks, list_nested_checks
from endcap.sources.values.times import TimeFormat
from endcap.spec.condition import Conditions
from endcap.spec.source import SourceSpec

WITHOUT_ITEM = "without_item"
"""The rule that leaves out rows of a list without an element, and of a log whose rows need not be about an item."""
TIME, KEPT = "§time", "§kept"
"""Columns of a published item table's rows beside its own: their time (epoch ms), and whether they are of it."""
DAY = "§day"
"""A column of a published log's rows where their time is a day and what passed of it."""


@dataclass(frozen=True)
class ColumnMapping:
    """How a batch becomes rows of a table.

    Attributes
    ----------
    select
        SQL over the batch's columns for each column of the result.
    checks
        Pairs in order: SQL that holds for a bad row, over columns of the batch and the result, and the reason.
    leaves
        Pairs of the same form for rows that a rule leaves out, with the rule's name. Such rows are not checked.
    about
        SQL of the value that a reason is about, over the batch's columns.
    missing
        For columns of the result, SQL that holds where a word for "no value" became null.
    shown
        SQL of the values that the rules of `leaves` examine, by their name in messages.
    active
        SQL: whether a row that a rule leaves out is still a shopper's activity. None: no such row is.
    times
        The time format of each of the batch's columns that holds times.
    words
        Words that mean "no value" in columns of ids.
    """

    select: Mapping[str, str]
    checks: Sequence[tuple[str, str]]
    leaves: Sequence[tuple[str, str]] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    shown: Mapping[str, str] = field(default_factory=dict)
    active: str | None = None
    times: Mapping[str, TimeFormat] = field(default_factory=dict)
    words: Sequence[str] = ()

    @property
    def passthrough_columns(self) -> dict[str, str]:
        """Columns of the result that are columns of the batch, with their names there. They need no query."""
        return {name: column.name for name, column in self.select.items() if isinstance(column, GlancedColumn)}

    def sql(self, batch: str) -> str:
        """Return a query on the table `batch`.

        It gives the result's other columns; `left` and `reason`, which are null for a good row; and `active` if a row
        may be activity.
        """
        columns = ", ".join(f"{expression} AS {quote_name(name)}" for name, expression in self.select.items())
        passthrough = self.passthrough_columns
        exclusion, reason = (
            f"CASE {cases} END" if cases else "NULL::VARCHAR"
            for cases in (
                " ".join(f"WHEN {condition} THEN {quote_text(name)}" for condition, name in conditions)
                for conditions in (self.leaves, [('"left" IS NOT NULL', ""), *self.checks])
            )
        )
        # Each in a query of its own: the engine would compute a column anew in each condition that names it.
        computed = f"SELECT *, {columns} FROM {batch}"  # noqa: S608 (all parts are quoted)
        excluded = f'SELECT *, {exclusion} AS "left" FROM ({computed})'  # noqa: S608 (as above)
        results = [
            *(quote_name(name) for name in self.select if name not in passthrough),
            '"left"',
            f"nullif({reason}, '') AS reason",
        ]
        if self.active is not None:
            results.append(f"{self.active} AS active")
        return f"SELECT {', '.join(results)} FROM ({excluded})"  # noqa: S608 (as above)

    def count_values_sql(self, batch: str, name: str, limit: int) -> str:
        """Return a query on the same table for the commonest values of one of `shown`, with their numbers of rows."""
        rows = f"SELECT {self.shown[name]} AS value FROM {batch}"  # noqa: S608 (as above)
        return f"SELECT value, count(*) FROM ({rows}) GROUP BY value ORDER BY 2 DESC, 1 LIMIT {limit}"  # noqa: S608


def check_empty(select: Mapping[str, str], name: str, reason: str) -> list[tuple[str, str]]:
    column = select[name]
    return [] if isinstance(column, GlancedColumn) and column.whole else [(f"{name} IS NULL", reason)]


def list_where_columns(source: SourceSpec, key: str) -> list[SourceColumn]:
    """List the columns that a source's own conditions use. key: the place of the source in the shop's file."""
    return [SourceColumn(name, f"{key}.where") for name in source.where]


def add_where(
    mapping: ColumnMapping, source: SourceSpec, located: Mapping[str, str], missing: Sequence[str], decimal: str
) -> ColumnMapping:
    """Extend a mapping so that it leaves out rows that do not match the source's own conditions.

    missing: words for "no value". decimal: the decimal mark.
    """
    if not source.where:
        return mapping
    condition = match_all(source.where, located, missing, decimal)
    values = {name: located[name] for name in source.where}
    checks, looked_at = check_conditions(source.where, located, missing, decimal)
    return replace(
        mapping,
        checks=[*mapping.checks, *checks],
        about={**mapping.about, **looked_at},
        leaves=[(f"NOT ({condition})", "where"), *mapping.leaves],
        shown={**values, **mapping.shown},
    )


def check_conditions(
    conditions: Conditions, located: Mapping[str, str], missing: Sequence[str], decimal: str
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Return the checks that conditions need and the values of their reasons, as in `ColumnMapping`."""
    checks_by_column = list_condition_checks(conditions, located, missing, decimal)
    examined = {reason: located[name] for name, checks in checks_by_column.items() for _, reason in checks}
    return list(itertools.chain(*checks_by_column.values())), examined


def list_id_columns(column: str, key: str) -> list[SourceColumn]:
    """List the only column of a list of ids. key: the place in the shop's file that names it."""
    return [SourceColumn(column, key, required=True)]


def map_id_list(
    column: str, located: Mapping[str, str], instants: frozenset[str], decimal: str, *, whole: bool
) -> ColumnMapping:
    """Map a list of items to the column `item`. whole: as in `convert_to_id`."""
    item, checks_of_ids = (
        convert_to_id([located[column]], whole=whole),
        list_id_checks("item", [located[column]], whole=whole),
    )
    checks = [*check_empty({"item": item}, "item", "item is empty"), *list_nested_checks("item", [column], located)]
    return ColumnMapping({"item": item}, [*checks, *checks_of_ids], about={reason: item for _, reason in checks_of_ids})


def list_layout_columns(
    layout: str, names: Sequence[str | None], aliases: Mapping[str, Sequence[str]] | None = None
) -> list[SourceColumn]:
    aliases_of = aliases or {}
    return [
        SourceColumn(name, f"the layout {layout}", required=True, aliases=aliases_of.get(name, ()))
        for name in names
        if name
    ]
