"""Names and texts in SQL, and what is asked of texts."""

from __future__ import annotations

BLANKS = r"[\s\v\x{85}\p{Z}]*"
"""A regular expression: blanks of any kind."""


def quote_name(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(value: str) -> str:
    """A string as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def matches_whole(value: str, pattern: str) -> str:
    """A condition: a text fits a regular expression as a whole."""
    return f"regexp_full_match({value}, {quote_text(pattern)})"


def is_blank(value: str) -> str:
    """A condition: a text is empty, or blanks of any kind alone."""
    # Few texts begin as a blank does, and to compare costs nothing beside a pattern.
    return f"({value} < '!' OR {value} >= '\u0085') AND {matches_whole(value, BLANKS)}"
