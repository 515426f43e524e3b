"""Conditions of a spec on a file's rows, as SQL over a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from endcap.events.numbers import number
from endcap.events.sql import text
from endcap.spec.condition import Condition, Conditions


def all_hold(conditions: Conditions, located: Mapping[str, str], missing: Sequence[str], decimal: str) -> str:
    """SQL, true or false, that says whether a row fits every one of these conditions, of which there is at least one.

    located: each column's text, as SQL. missing: words that stand for no value. decimal: the mark in numbers.
    """
    return " AND ".join(_holds(one, located[column], missing, decimal) for column, one in conditions.items())


def any_holds(conditions: Conditions, located: Mapping[str, str], missing: Sequence[str], decimal: str) -> str:
    """The same of whether a row fits one of them or more."""
    return " OR ".join(_holds(one, located[column], missing, decimal) for column, one in conditions.items())


def _holds(condition: Condition, column: str, missing: Sequence[str], decimal: str) -> str:
    value = f"nullif(trim({column}), '')"
    if missing:
        value = f"CASE WHEN {value} NOT IN ({_texts(missing)}) THEN {value} END"
    if condition.present is False:
        return f"({value} IS NULL)"
    there = condition.present or condition.not_among or condition.prefix
    wanted = [f"{value} IS NOT NULL"] if there else []
    if condition.among:
        # A word for no value that the spec names here is meant.
        wanted.append(f"{column} IN ({_texts(condition.among)})")
    if condition.not_among:
        wanted.append(f"{column} NOT IN ({_texts(condition.not_among)})")
    if condition.prefix:
        wanted.append(f"starts_with({column}, {text(condition.prefix)})")
    bounds = {">=": condition.min, "<=": condition.max, ">": condition.above, "<": condition.below}
    given = [(sign, bound) for sign, bound in bounds.items() if bound is not None]
    if given:
        value = number(column, decimal)
        wanted.append(f"isfinite({value})")
        wanted += [f"{value} {sign} {bound!r}" for sign, bound in given]
    return f"coalesce({' AND '.join(wanted)}, false)"


def _texts(values: Sequence[str]) -> str:
    return ", ".join(map(text, values))
