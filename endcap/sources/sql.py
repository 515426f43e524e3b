"""SQL for names, texts and conditions on texts."""

from __future__ import annotations

BLANKS = r"[\s\v\x{85}\p{Z}]*"
"""A regular expression: blanks of any kind."""


def quote_name(name: str) -> str:
    """Return a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(value: str) -> str:
    """Return a string as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def matches_whole(value: str, pattern: str) -> str:
    """Return an SQL condition: a text matches a regular expression as a whole."""
    return f"regexp_full_match({value}, {quote_text(pattern)})"


def is_blank(value: str) -> str:
    """Return an SQL condition: a text is empty or has only blanks of any kind."""
    # Few texts begin as a blank does, and to compare costs nothing beside a pattern.
    return f"({value} < '!' OR {value} >= '\u0085') AND {matches_whole(value, BLANKS)}"
