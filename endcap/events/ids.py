"""Ids: what of a column's texts is one, as SQL over a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from endcap.events.sql import quoted, text

BLANKS = " " * 256
"""As many as are taken for nothing."""
AS_FLOAT = (
    "is a float such as 123.0: write ids as integers or text (in pandas: astype('Int64')), "
    "or set events.float_ids to whole"
)
TOO_LONG = "is a float of more than 15 digits, which may not be the number that it was: write ids as text"
ROUNDED = "is a number such as 1.2E+08, which may have lost digits: write ids as text"
NAN = "is nan, which table tools write where there is no value: leave the value empty"
EXACT = 15
"""So many digits a 64-bit float keeps, whatever they are."""


def as_id(columns: Sequence[str], words: Sequence[str] = (), *, whole: bool = False) -> str:
    """Text columns as an id, null where it is empty, blanks alone or one of the words; of several, null where any is.

    Several values are written with `|` between; a `|` or `\\` of their own has a `\\` before it, so that no two rows
    read alike. whole: a value such as 123.0 is the id 123.
    """
    if not columns:
        return "NULL::VARCHAR"
    values = [_value(column, words, whole) for column in columns]
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


def _value(column: str, words: Sequence[str], whole: bool) -> str:
    # Blanks alone come between one blank and many. To compare costs nothing, and to trim each id would cost more than
    # all else that is done with it.
    empty = f"{column} = '' OR {column} BETWEEN ' ' AND {text(BLANKS)}"
    word = f" OR {is_word([column], words)}" if words else ""
    return f"CASE WHEN {empty}{word} THEN NULL ELSE {_as_whole(column) if whole else column} END"


def id_checks(
    name: str, columns: Sequence[str] = (), words: Sequence[str] = (), *, whole: bool = False
) -> list[tuple[str, str]]:
    """What makes an id one that a table tool has spoilt, as conditions with reasons.

    name: of the result. columns, words, whole: as of `as_id`; of several columns each value is looked at.
    """
    parts = [as_id([column], words, whole=whole) for column in columns]
    values = parts if len(parts) > 1 else [quoted(name)]
    return [check for value in values for check in _checks(name, value, whole)]


def _checks(name: str, value: str, whole: bool) -> list[tuple[str, str]]:
    # Each pattern costs much: it is tried where a quick look says that it may fit.
    as_float = f"suffix({value}, '0') AND regexp_full_match({value}, '-?\\d+\\.0+')"
    rounded = f"contains({value}, '+') AND regexp_full_match({value}, '-?\\d(\\.\\d+)?[eE]\\+\\d+')"
    return [
        (as_float, f"{name} {TOO_LONG if whole else AS_FLOAT}"),
        (rounded, f"{name} {ROUNDED}"),
        (f"{value} IN ('nan', 'NaN')", f"{name} {NAN}"),
    ]


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


def _as_whole(column: str) -> str:
    pattern = f"-?\\d{{1,{EXACT}}}\\.0+"
    fits = f"suffix({column}, '0') AND regexp_full_match({column}, '{pattern}')"
    return f"CASE WHEN {fits} THEN rtrim(rtrim({column}, '0'), '.') ELSE {column} END"
