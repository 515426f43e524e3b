"""Ids: what of a column's texts is one, as SQL over a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from endcap.events.sql import quoted

AS_FLOAT = "is a float such as 123.0: write ids as integers or text (in pandas: astype('Int64'))"


def as_id(columns: Sequence[str]) -> str:
    """Text columns as an id, null where it is empty; of several, null where any is.

    Several values are written with `|` between; a `|` or `\\` of their own has a `\\` before it, so that no two rows
    read alike.
    """
    if not columns:
        return "NULL::VARCHAR"
    values = [f"nullif({column}, '')" for column in columns]
    if len(values) == 1:
        return values[0]
    # `||` gives null where any part is.
    return " || '|' || ".join(f"replace(replace({value}, '\\', '\\\\'), '|', '\\|')" for value in values)


def is_float(name: str) -> str:
    """A condition: the id is a number that lost its own form."""
    # Its own name for one number: 123.0, 1.2e+08 or nan, as a table tool writes it that took the ids for numbers.
    # Each such form but nan has one of two characters, and to look for these is cheaper than the pattern.
    id_ = quoted(name)
    return (
        f"(contains({id_}, '.') OR contains({id_}, '+') OR {id_} IN ('nan', 'NaN')) "
        rf"AND regexp_full_match({id_}, '\d+\.0+|\d(\.\d+)?[eE]\+\d+|nan|NaN')"
    )


def nested_checks(key: str, names: Sequence[str], located: Mapping[str, str]) -> list[tuple[str, str]]:
    """Conditions, with their reasons: a column of an id (or of a type or time) holds a list or an object.

    key: what the columns are, as the shop's file says. Ids in braces or brackets that are no JSON stay.
    """
    checks = []
    for name in names:
        value = located[name]
        # By comparisons, the first of which most ids answer: a third of the cost of asking what a text starts with.
        opened = f"{value} >= '[' AND ({value} < '\\' OR {value} >= '{{' AND {value} < '|')"
        way = f"name a path into it, such as {name}[].id or {name}.id"
        checks.append((f"{opened} AND json_valid({value})", f"{key} is a list or an object, no plain value: {way}"))
    return checks
