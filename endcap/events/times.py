"""Times: how a column's texts become epoch milliseconds, as SQL over a batch, and what is wrong with them."""

from __future__ import annotations

from endcap.events.sql import quoted
from endcap.spec.base import EARLIEST_MS

BEFORE_1990 = "time lies before 1990"
IN_FUTURE = "time lies in the future"
NOT_ISO = "time is not ISO 8601 text"
NUMBER_NOT_ISO = "time is a number where ISO 8601 text is expected"
NOT_NUMBER = "time is not a number"


def milliseconds(column: str, unit: str) -> str:
    """The epoch milliseconds of a text column by its unit; null where it is no such time."""
    if unit == "iso":
        return f"epoch_ms(TRY_CAST(trim({column}) AS TIMESTAMPTZ))"
    scale = {"s": 1000, "ms": 1, "us": 0.001}[unit]
    number = f"TRY_CAST({column} AS DOUBLE)"
    # Bounded, so that a number too great for a time is still told from text.
    bounded = f"greatest(least({number} * {scale}, 1e15), -1e15)"
    return f"CASE WHEN NOT isnan({number}) THEN round({bounded})::BIGINT END"


def time_checks(column: str, unit: str, result: str = "time") -> list[tuple[str, str]]:
    """What is wrong with a text that gave no time, as conditions with reasons. result: the name of its milliseconds."""
    empty = (f"{column} IS NULL OR trim({column}) = ''", "time is empty")
    unread = f"{quoted(result)} IS NULL"
    if unit == "iso":
        number = f"{unread} AND TRY_CAST({column} AS DOUBLE) IS NOT NULL"
        return [empty, (number, NUMBER_NOT_ISO), (unread, NOT_ISO)]
    return [empty, (unread, NOT_NUMBER)]


def span_checks(now: int) -> list[tuple[str, str]]:
    """What makes the result `time` a mistake of unit or of parsing. now: epoch ms."""
    return [(f'"time" < {EARLIEST_MS}', BEFORE_1990), (f'"time" > {now + 86_400_000}', IN_FUTURE)]
