"""Check formats of times in strptime's letters: whether they read a known time correctly."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

ALLOWED = (
    "strptime's letters that give a day: a year (%Y, %y) with month and day (%m or %b, %d) or day of the year (%j), "
    "perhaps %H:%M:%S, %I with %p, %f, %z, %Z"
)
_ZONE = re.compile(r"%%|%[zZ]")
# In the first time, day, month, year and hour all differ. In the second, the day could be a month.
_UNAMBIGUOUS, _AMBIGUOUS = datetime(2019, 11, 23, 15, 26, 37), datetime(2019, 11, 10, 9, 8, 7)


def find_wrong_formats(formats: Sequence[str]) -> list[tuple[int, str]]:
    """Return the index of each format that cannot be right, with the reason."""
    return list(_find_wrong_formats(tuple(formats)))


@functools.lru_cache
def _find_wrong_formats(formats: tuple[str, ...]) -> tuple[tuple[int, str], ...]:
    """Ask DuckDB, which takes as long as the rest of a spec's check: a spec with mistakes is checked twice."""
    # The import takes half of the time, and most shops have no formats.
    import duckdb

    plain = [_ZONE.sub(lambda letter: letter[0] if letter[0] == "%%" else "Z", name) for name in formats]
    wrong = []
    with duckdb.connect() as engine:
        for place, name in enumerate(plain):
            try:
                why = _find_fault(engine, name)
            except duckdb.Error:
                why = "it has unknown letters"
            else:
                why = why or next(
                    (
                        f"{formats[earlier]!r} before it reads the same text as another time"
                        for earlier in range(place)
                        if _parse_time(engine, _format_time(engine, _AMBIGUOUS, name), plain[earlier])
                        not in (None, _parse_time(engine, _format_time(engine, _AMBIGUOUS, name), name))
                    ),
                    "",
                )
            if why:
                wrong.append((place, why))
    return tuple(wrong)


def _find_fault(engine: Any, name: str) -> str:
    read = _parse_time(engine, _format_time(engine, _UNAMBIGUOUS, name), name)
    if read is None or read.date() != _UNAMBIGUOUS.date():
        return "it gives no day"
    return "" if read.hour in (0, _UNAMBIGUOUS.hour) else "it has hours of twelve without %p"


def _format_time(engine: Any, moment: datetime, name: str) -> str:
    return str(engine.execute("SELECT strftime(?::TIMESTAMP, ?)", [moment, name]).fetchone()[0])


def _parse_time(engine: Any, text: str, name: str) -> datetime | None:
    read: datetime | None = engine.execute("SELECT try_strptime(?, ?)::TIMESTAMP", [text, name]).fetchone()[0]
    return read
