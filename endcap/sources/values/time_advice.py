"""Advice on the settings for times, derived from bad ones."""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import duckdb

from endcap.sources.values import numbers, times
from endcap.sources.values.times import TimeFormat, parse_times
from endcap.spec.base import EARLIEST_MS
from endcap.spec.event_log import TimeRule

UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_SCALE = {"s": 10**3, "ms": 1, "us": 10**-3, "ns": 10**-6}
_DAYS = (
    "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y", "%Y.%m.%d", "%Y%m%d",
    "%d.%m.%y", "%m/%d/%y", "%d/%m/%y", "%y/%m/%d", "%m-%d-%y", "%d-%m-%y",
    "%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%b-%y", "%d/%b/%Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%a, %d %b %Y",
    "%a %b %d %Y", "%Y-%m-%d", "%Y/%m/%d", "%Y-%j", "%G-W%V-%u",
)  # fmt: skip
_CLOCK = re.compile(
    r"(?P<before>[ T:,]*)\d{1,2}:\d{1,2}(?P<second>:\d{1,2})?(?P<fraction>[.,]\d+)?"
    r"(?P<blank> ?)(?P<half>[AaPp][Mm])?(?P<gap> ?)(?P<zone>[-+]\d\d:?\d\d|Z|UTC|GMT)?$"
)
_FIGURES = {14: "%H%M%S", 12: "%H%M"}
# Unix's and Java's own text, and Go's.
_WHOLE = ("%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S %Z %Y")
_WORD = re.compile(r"[A-Za-z]+(?:[/_][A-Za-z_]+)*$")


def advise(reason: str, values: Sequence[str | None], rule: TimeRule) -> str | None:
    """Return which settings would make these values times, or None. reason: why they are bad."""
    texts = [value.strip() for value in values if value]
    if not texts or reason not in _ADVISED:
        return None
    if reason == times.ZONE_WORD:
        return _advise_on_zone_words(texts)
    figures = [figure for text in texts if (figure := _parse_figure(text)) is not None]
    if reason in _COMMAS:
        return "the numbers have a decimal comma: set the source's decimal to ','" if figures else None
    return (_advise_on_numbers(figures, rule) if len(figures) == len(texts) else None) or _advise_on_texts(texts, rule)


def _parse_figure(text: str) -> float | None:
    try:
        return float(text.replace(",", ".", 1))
    except ValueError:
        return None


def _advise_on_numbers(figures: Sequence[float], rule: TimeRule) -> str | None:
    """Advise the unit with which most of the numbers are times since 1990."""
    units = Counter(unit for figure in figures for unit, scale in _SCALE.items() if _is_plausible(figure * scale))
    for unit, count in units.most_common(1):
        if 2 * count > len(figures) and (unit != rule.unit or rule.format):
            taken_out = " and take events.time.format out" if rule.format else ""
            return f"the times look like {UNITS[unit]}: set events.time.unit to {unit}{taken_out}"
    # 1990 and today by the count of days since 1899.
    if all(_is_plausible((figure - 25_569) * 86_400_000) for figure in figures):
        return "the times look like a spreadsheet's days, such as 45000.5: write them as ISO 8601 text"
    return None


def _advise_on_texts(texts: Sequence[str], rule: TimeRule) -> str | None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        if (rule.unit != "iso" or rule.format) and _can_read(connection, texts, TimeFormat()):
            if rule.format:
                return "the times are ISO 8601 text: take events.time.format out"
            return "the times are ISO 8601 text: set events.time.unit to iso"
        fitting = list(itertools.islice(_find_formats(connection, texts), 3))
    unit = "" if rule.unit == "iso" else ", and take events.time.unit out"
    match fitting:
        case []:
            return None
        case [name]:
            return f"the times have another form: set events.time.format to {name!r}{unit}"
        case _:
            choice = " or ".join(map(repr, fitting))
            return f"the times do not tell day from month: set events.time.format to {choice}, whichever it is{unit}"


def _find_formats(connection: duckdb.DuckDBPyConnection, texts: Sequence[str]) -> Iterator[str]:
    """Yield formats that read all texts as possible times of events."""
    clock = _guess_clock_format(texts[0])
    for name in (*(day + clock for day in _DAYS), *_WHOLE):
        if _can_read(connection, texts, TimeFormat(formats=[name])):
            yield name


def _guess_clock_format(text: str) -> str:
    """Guess the format of a text after its day."""
    clock = _CLOCK.search(text)
    if clock is None:
        return _FIGURES.get(len(text), "") if text.isdigit() else ""
    half, fraction = clock["half"], clock["fraction"] or ""
    name = clock["before"] + ("%I:%M" if half else "%H:%M") + (":%S" if clock["second"] else "")
    name += fraction[:1] + ("" if not fraction else "%f" if len(fraction) <= 7 else "%n")
    zone = clock["zone"] or ""
    return (
        name
        + clock["blank"]
        + ("%p" if half else "")
        + clock["gap"]
        + (("%Z" if zone.isalpha() else "%z") if zone else "")
    )


def _can_read(connection: duckdb.DuckDBPyConnection, texts: Sequence[str], reading: TimeFormat) -> bool:
    (sql,) = parse_times("v", reading).values()
    rows = connection.execute(f"SELECT {sql} FROM (SELECT unnest(?::VARCHAR[]) AS v)", [list(texts)]).fetchall()  # noqa: S608
    return all(ms is not None and _is_plausible(ms) for (ms,) in rows)


def _advise_on_zone_words(texts: Sequence[str]) -> str:
    words = sorted({word[0] for text in texts if (word := _WORD.search(text))})
    if len(words) == 1 and "/" in words[0]:
        name = f"%Y-%m-%d %H:%M:%S {words[0]}"
        return f"the times are of {words[0]}: set events.time.zone to it, and events.time.format to such as {name!r}"
    forms = ", ".join(repr(f"%Y-%m-%d %H:%M:%S {word}") for word in words[:3])
    return (
        f"the zone words {', '.join(words[:3])} are of one place: set events.time.zone to that place, "
        f"and events.time.format to forms that have the words, such as [{forms}]"
    )


def _is_plausible(ms: float) -> bool:
    return EARLIEST_MS <= ms <= time.time() * 1000 + 86_400_000


_COMMAS = (f"time {numbers.COMMA}",)
_ADVISED = (
    times.BEFORE_1990, times.IN_FUTURE, times.NUMBER_NOT_ISO, times.NOT_NUMBER, times.NOT_ISO, times.NO_SUCH,
    times.ZONE_WORD, times.CLOCK_12, times.NOT_FORMAT, *_COMMAS,
)  # fmt: skip
