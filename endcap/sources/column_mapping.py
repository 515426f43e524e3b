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

    select: each column of the result -> SQL over the batch's columns. checks: in order, (SQL that holds for a bad row,
    reason) over the batch's columns and the result's. leaves: in the same way, what leaves a row out that is not bad,
    and the rule's name; such a row is not checked. about: SQL of the value that a reason is about, over the batch's
    columns. missing: by column of the result, SQL over the batch's that holds where a word for no value was read as
    none. shown: what rules that leave rows out look at, by its name in messages. active: of rows that a rule leaves
    out, whether they are a shopper's activity nonetheless; None: none is. times: how the batch's columns that are times
    are read. words: those that stand for no value in any column of an id.
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
    def as_they_are(self) -> dict[str, str]:
        """The columns of the result that are columns of the batch, which need no query: their names there."""
        return {name: column.name for name, column in self.select.items() if isinstance(column, GlancedColumn)}

    def sql(self, batch: str) -> str:
        """A query on the table `batch`: the result's other columns, `left` and `reason`, both null for a good row, and
        `active` where there may be such rows."""
        columns = ", ".join(f"{expression} AS {quote_name(name)}" for name, expression in self.select.items())
        taken = self.as_they_are
        left, reason = (
            f"CASE {cases} END" if cases else "NULL::VARCHAR"
            for cases in (
                " ".join(f"WHEN {condition} THEN {quote_text(name)}" for condition, name in conditions)
                for conditions in (self.leaves, [('"left" IS NOT NULL', ""), *self.checks])
            )
        )
        # Each in a query of its own: the engine would compute a column anew in each condition that names it.
        computed = f"SELECT *, {columns} FROM {batch}"  # noqa: S608 (all parts are quoted)
        judged = f'SELECT *, {left} AS "left" FROM ({computed})'  # noqa: S608 (as above)
        results = [
            *(quote_name(name) for name in self.select if name not in taken),
            '"left"',
            f"nullif({reason}, '') AS reason",
        ]
        if self.active is not None:
            results.append(f"{self.active} AS active")
        return f"SELECT {', '.join(results)} FROM ({judged})"  # noqa: S608 (as above)

    def values_sql(self, batch: str, shown: str, most: int) -> str:
        """A query on the same: the commonest values of one of `shown`, and how many rows have each."""
        rows = f"SELECT {self.shown[shown]} AS value FROM {batch}"  # noqa: S608 (as above)
        return f"SELECT value, count(*) FROM ({rows}) GROUP BY value ORDER BY 2 DESC, 1 LIMIT {most}"  # noqa: S608


def check_empty(select: Mapping[str, str], name: str, reason: str) -> list[tuple[str, str]]:
    column = select[name]
    return [] if isinstance(column, GlancedColumn) and column.whole else [(f"{name} IS NULL", reason)]


def list_where_columns(source: SourceSpec, key: str) -> list[SourceColumn]:
    """The columns that a source's own conditions are about. key: where the shop's file has the source."""
    return [SourceColumn(name, f"{key}.where") for name in source.where]


def add_where(
    plan: ColumnMapping, source: SourceSpec, located: Mapping[str, str], missing: Sequence[str], decimal: str
) -> ColumnMapping:
    """The plan that leaves out the rows which do not fit the source's own conditions.

    missing: words for no value; decimal: the mark of fractions.
    """
    if not source.where:
        return plan
    fits = match_all(source.where, located, missing, decimal)
    values = {name: located[name] for name in source.where}
    more, looked_at = check_conditions(source.where, located, missing, decimal)
    return replace(
        plan,
        checks=[*plan.checks, *more],
        about={**plan.about, **looked_at},
        leaves=[(f"NOT ({fits})", "where"), *plan.leaves],
        shown={**values, **plan.shown},
    )


def check_conditions(
    conditions: Conditions, located: Mapping[str, str], missing: Sequence[str], decimal: str
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """The checks that conditions need, and the values that their reasons are about, as of `Plan`."""
    named = list_condition_checks(conditions, located, missing, decimal)
    about = {reason: located[name] for name, checks in named.items() for _, reason in checks}
    return list(itertools.chain(*named.values())), about


def list_id_columns(column: str, key: str) -> list[SourceColumn]:
    """The column that a list of items must have. key: where the shop's file names it."""
    return [SourceColumn(column, key, required=True)]


def map_id_list(
    column: str, located: Mapping[str, str], instants: frozenset[str], decimal: str, *, whole: bool
) -> ColumnMapping:
    """The plan of a list of items: their ids alone, as `item`. whole: as of `as_id`."""
    item, spoilt = convert_to_id([located[column]], whole=whole), list_id_checks("item", [located[column]], whole=whole)
    checks = [*check_empty({"item": item}, "item", "item is empty"), *list_nested_checks("item", [column], located)]
    return ColumnMapping({"item": item}, [*checks, *spoilt], about={reason: item for _, reason in spoilt})


def list_layout_columns(
    layout: str, names: Sequence[str | None], aliases: Mapping[str, Sequence[str]] | None = None
) -> list[SourceColumn]:
    known = aliases or {}
    return [
        SourceColumn(name, f"the layout {layout}", required=True, aliases=known.get(name, ())) for name in names if name
    ]
