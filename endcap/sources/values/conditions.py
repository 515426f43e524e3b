"""Conditions of a spec on a file's rows, as SQL over a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from endcap.sources.sql import quote_text
from endcap.sources.values.numbers import list_number_checks, parse_number
from endcap.spec.condition import Conditions, RowCondition


def match_all(conditions: Conditions, located: Mapping[str, str], missing: Sequence[str], decimal: str) -> str:
    """SQL that says whether a row fits every one of these conditions, of which there is at least one.

    located: each column's text, as SQL. missing: words that stand for no value. decimal: the mark in numbers.
    It is null where that hangs on a value that is no number (`condition_checks`).
    """
    return " AND ".join(
        _match(condition, located[column], missing, decimal) for column, condition in conditions.items()
    )


def match_any(conditions: Conditions, located: Mapping[str, str], missing: Sequence[str], decimal: str) -> str:
    """The same of whether a row fits one of them or more."""
    return " OR ".join(_match(condition, located[column], missing, decimal) for column, condition in conditions.items())


def list_condition_checks(
    conditions: Conditions, located: Mapping[str, str], missing: Sequence[str], decimal: str
) -> dict[str, list[tuple[str, str]]]:
    """By column with bounds: what is wrong with a value that is no number, as conditions with reasons."""
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
    wanted = []
    if condition.present or condition.not_among or condition.prefix:
        wanted.append(f"{value} IS NOT NULL")
    if condition.among:
        # A word for no value that the spec names here is meant.
        wanted.append(f"{column} IN ({_join_texts(condition.among)})")
    if condition.not_among:
        wanted.append(f"{column} NOT IN ({_join_texts(condition.not_among)})")
    if condition.prefix:
        wanted.append(f"starts_with({column}, {quote_text(condition.prefix)})")
    holds = [f"coalesce({' AND '.join(wanted)}, false)"] if wanted else []
    bounds = _list_bounds(condition)
    if bounds:
        size = parse_number(column, decimal)
        within = " AND ".join(f"{size} {sign} {bound!r}" for sign, bound in bounds)
        holds.append(f"CASE WHEN {value} IS NULL THEN false WHEN isfinite({size}) THEN {within} END")
    return f"({' AND '.join(holds)})"


def _select_value(column: str, missing: Sequence[str]) -> str:
    """The text of a column, null where that is missing."""
    value = f"nullif(trim({column}), '')"
    return f"CASE WHEN {value} NOT IN ({_join_texts(missing)}) THEN {value} END" if missing else value


def _list_bounds(condition: RowCondition) -> list[tuple[str, float]]:
    bounds = {">=": condition.min, "<=": condition.max, ">": condition.above, "<": condition.below}
    return [(sign, bound) for sign, bound in bounds.items() if bound is not None]


def _join_texts(values: Sequence[str]) -> str:
    return ", ".join(map(quote_text, values))
