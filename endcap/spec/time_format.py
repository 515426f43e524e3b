"""Formats of times in strptime's letters, judged by what they make of a day that is known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

ALLOWED = (
    "strptime's letters that give a day: a year (%Y, %y) with month and day (%m or %b, %d) or day of the year (%j), "
    "perhaps %H:%M:%S, %I with %p, %f, %z, %Z"
)
_ZONE = re.compile(r"%%|%[zZ]")
# No two of day, month, year and hour are alike; in the second the day could be a month.
_TELLING, _DOUBTFUL = datetime(2019, 11, 23, 15, 26, 37), datetime(2019, 11, 10, 9, 8, 7)


def find_wrong_formats(formats: Sequence[str]) -> list[tuple[int, str]]:
    """The places of the formats that cannot be meant, and why."""
    # Half of what this costs is the engine's import, which most shops do not need.
    import duckdb

    plain = [_ZONE.sub(lambda letter: letter[0] if letter[0] == "%%" else "Z", name) for name in formats]
    wrong = []
    with duckdb.connect() as engine:
        for place, name in enumerate(plain):
            try:
                why = _find_fault(engine, name)
            except duckdb.Error:
                why = "it has letters that are not read"
            else:
                why = why or next(
                    (
                        f"what it reads is read as another time by {formats[earlier]!r} before it"
                        for earlier in range(place)
                        if _parse_time(engine, _format_time(engine, _DOUBTFUL, name), plain[earlier])
                        not in (None, _parse_time(engine, _format_time(engine, _DOUBTFUL, name), name))
                    ),
                    "",
                )
            if why:
                wrong.append((place, why))
    return wrong


def _find_fault(engine: Any, name: str) -> str:
    read = _parse_time(engine, _format_time(engine, _TELLING, name), name)
    if read is None or read.date() != _TELLING.date():
        return "it gives no day"
    return "" if read.hour in (0, _TELLING.hour) else "it has hours of twelve without %p"


def _format_time(engine: Any, moment: datetime, name: str) -> str:
    return str(engine.execute("SELECT strftime(?::TIMESTAMP, ?)", [moment, name]).fetchone()[0])


def _parse_time(engine: Any, text: str, name: str) -> datetime | None:
    read: datetime | None = engine.execute("SELECT try_strptime(?, ?)::TIMESTAMP", [text, name]).fetchone()[0]
    return read
