"""SQL for a spec's conditions on the rows of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from endcap.sources.sql import quote_text
from endcap.sources.values.numbers import list_number_checks, parse_number
from endcap.spec.condition import Conditions, RowCondition


def match_all(conditions: Conditions, located: Mapping[str, str], missing: Sequence[str], decimal: str) -> str:
    """Return SQL that holds if a row matches all of these conditions. There must be at least one.

    located: SQL of each column's text. missing: words for "no value". decimal: the decimal mark of numbers. The result
    is null if it depends on a value that should be a number and is not (`list_condition_checks`).
    """
    return " AND ".join(
        _match(condition, located[column], missing, decimal) for column, condition in conditions.items()
    )


def match_any(conditions: Conditions, located: Mapping[str, str], missing: Sequence[str], decimal: str) -> str:
    """Return SQL that holds if a row matches at least one of these conditions. Parameters are those of `match_all`."""
    return " OR ".join(_match(condition, located[column], missing, decimal) for column, condition in conditions.items())


def list_condition_checks(
    conditions: Conditions, located: Mapping[str, str], missing: Sequence[str], decimal: str
) -> dict[str, list[tuple[str, str]]]:
    """List conditions, with reasons, for values that are no numbers, by column with bounds."""
    checks = {}
    for column, condition in conditions.items():
        if _list_bounds(condition):
            sql = located[column]
            is_number = f"coalesce(isfinite({parse_number(sql, decimal)}), false)"
            wrong = f"{_select_value(sql, missing)} IS NOT NULL AND NOT {is_number}"
            checks[column] = list_number_checks(sql, wrong, column, decimal)
    return checks


def _match(condition: RowCondition, column: str, missing: Sequence[str], decimal: str) -> str:
    value = _select_value(column, missing)
    if condition.present is False:
        return f"({value} IS NULL)"
    tests = []
    if condition.present or condition.not_among or condition.prefix:
        tests.append(f"{value} IS NOT NULL")
    if condition.among:
        # A word for no value that the spec names here is meant.
        tests.append(f"{column} IN ({_join_texts(condition.among)})")
    if condition.not_among:
        tests.append(f"{column} NOT IN ({_join_texts(condition.not_among)})")
    if condition.prefix:
        tests.append(f"starts_with({column}, {quote_text(condition.prefix)})")
    holds = [f"coalesce({' AND '.join(tests)}, false)"] if tests else []
    bounds = _list_bounds(condition)
    if bounds:
        size = parse_number(column, decimal)
        within = " AND ".join(f"{size} {sign} {bound!r}" for sign, bound in bounds)
        holds.append(f"CASE WHEN {value} IS NULL THEN false WHEN isfinite({size}) THEN {within} END")
    return f"({' AND '.join(holds)})"


def _select_value(column: str, missing: Sequence[str]) -> str:
    """Return SQL of a column's text, null if that means "no value"."""
    value = f"nullif(trim({column}), '')"
    return f"CASE WHEN {value} NOT IN ({_join_texts(missing)}) THEN {value} END" if missing else value


def _list_bounds(condition: RowCondition) -> list[tuple[str, float]]:
    bounds = {">=": condition.min, "<=": condition.max, ">": condition.above, "<": condition.below}
    return [(sign, bound) for sign, bound in bounds.items() if bound is not None]


def _join_texts(values: Sequence[str]) -> str:
    return ", ".join(map(quote_text, values))
