"""Ids: what of a column's texts is one, as SQL over a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from endcap.events.sql import quoted, text

BLANKS = " " * 256
"""As many as are taken for nothing."""
AS_FLOAT = "is a float such as 123.0: write ids as integers or text (in pandas: astype('Int64'))"


def as_id(columns: Sequence[str], words: Sequence[str] = ()) -> str:
    """Text columns as an id, null where it is empty, blanks alone or one of the words; of several, null where any is.

    Several values are written with `|` between; a `|` or `\\` of their own has a `\\` before it, so that no two rows
    read alike.
    """
    if not columns:
        return "NULL::VARCHAR"
    values = [_value(column, words) for column in columns]
    if len(values) == 1:
        return values[0]
    # `||` gives null where any part is.
    return " || '|' || ".join(f"replace(replace({value}, '\\', '\\\\'), '|', '\\|')" for value in values)


def as_text(column: str) -> str:
    """A text column, null where it is empty."""
    return f"nullif({column}, '')"


def is_word(columns: Sequence[str], words: Sequence[str]) -> str:
    """A condition: one of the columns holds a word that stands for no value."""
    listed = ", ".join(map(text, words))
    return " OR ".join(f"{column} IN ({listed})" for column in columns) if columns and words else "false"


def _value(column: str, words: Sequence[str]) -> str:
    # Blanks alone come between one blank and many. To compare costs nothing, and to trim each id would cost more than
    # all else that is done with it.
    empty = f"{column} = '' OR {column} BETWEEN ' ' AND {text(BLANKS)}"
    word = f" OR {is_word([column], words)}" if words else ""
    return f"CASE WHEN {empty}{word} THEN NULL ELSE {column} END"


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
