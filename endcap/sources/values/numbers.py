"""Numbers: SQL that converts a column's texts to doubles, and checks of texts that are no numbers."""

from __future__ import annotations

from endcap.sources.sql import quote_text

NOT_NUMBER = "is not a number"
NOT_WHOLE = "is not a whole number of at most 64 bits"
COMMA = "has a comma: set the source's decimal to ',' if it is the decimal mark, and leave out marks of thousands"
POINT = "has a point where the source's decimal is ',': write one decimal mark, and leave out marks of thousands"
THOUSANDS = "has marks of thousands: write the number without them"
_MARKED = r"\s*[-+]?\d{1,3}([ '\x{A0}\x{2019}\x{202F}]\d{3})+([.,]\d*)?\s*"
_WHOLE = r"[-+]?\d+(\.0*)?"
# In each way of writing: what is surely thousands, and what only has the other mark.
_WRONG = {
    ".": (rf"{_MARKED}|\s*[-+]?\d{{1,3}}(,\d{{3}}){{2,}}(\.\d*)?\s*|\s*[-+]?\d{{1,3}}(,\d{{3}})+\.\d*\s*", ",", COMMA),
    ",": (rf"{_MARKED}|\s*[-+]?\d{{1,3}}(\.\d{{3}}){{2,}}(,\d*)?\s*|\s*[-+]?\d{{1,3}}(\.\d{{3}})+,\d*\s*", ".", POINT),
}


def parse_number(column: str, decimal: str) -> str:
    """Return SQL for the double of a text, null if it is no number. decimal: the decimal mark, a point or a comma.

    Unicode's minus (U+2212), as word processors and some locales write it, is a minus.
    """
    return f"TRY_CAST(replace({use_decimal_point(column, decimal)}, '\u2212', '-') AS DOUBLE)"


def parse_whole_number(column: str, decimal: str) -> str:
    """Return SQL for the 64-bit integer of a text, null if it is none. `12.0` is one, as tables with gaps write it."""
    number = f"trim({use_decimal_point(column, decimal)})"
    # The cast alone would round a fraction.
    is_whole = f"regexp_full_match({number}, {quote_text(_WHOLE)})"
    return f"CASE WHEN {is_whole} THEN TRY_CAST(split_part({number}, '.', 1) AS BIGINT) END"


def list_whole_number_checks(column: str, number: str, name: str) -> list[tuple[str, str]]:
    """List conditions, with reasons, for a text that is missing or no whole number.

    number: SQL of the number, null if the text is none. name: the name in reasons.
    """
    return [
        (f"{number} IS NULL AND coalesce(trim({column}), '') = ''", f"{name} is empty"),
        (f"{number} IS NULL", f"{name} {NOT_WHOLE}"),
    ]


def use_decimal_point(column: str, decimal: str) -> str:
    """Return SQL of a text with a decimal point. It is null if the text has a point although its mark is a comma."""
    if decimal == ".":
        return column
    return f"CASE WHEN NOT contains({column}, '.') THEN replace({column}, ',', '.') END"


def list_number_checks(column: str, wrong: str, name: str, decimal: str) -> list[tuple[str, str]]:
    """List conditions, with reasons, for a text that is no number.

    wrong: SQL that holds if it is none. name: the name in reasons.
    """
    thousands, mark, other_mark = _WRONG[decimal]
    digits = r"\s*[-+]?[\d.,]*\d[\d.,]*([eE][-+]?\d+)?\s*"
    return [
        (f"{wrong} AND regexp_full_match({column}, {quote_text(thousands)})", f"{name} {THOUSANDS}"),
        (
            f"{wrong} AND contains({column}, {quote_text(mark)}) AND regexp_full_match({column}, {quote_text(digits)})",
            f"{name} {other_mark}",
        ),
        (wrong, f"{name} {NOT_NUMBER}"),
    ]
