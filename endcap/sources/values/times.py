"""Times: how a column's texts become epoch milliseconds, as SQL over a batch, and what is wrong with them.

Where all texts of a batch's column are plain they are read at once.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from endcap.sources.sql import is_blank, matches_whole, quote_name, quote_text
from endcap.sources.values import numbers
from endcap.sources.values.glance import GlancedColumn, find_milliseconds, iterate_chunks, make_byte_table
from endcap.spec.base import EARLIEST_MS

LOCAL = "§local"
"""The result's column that says whether a time is a local one, of a text that has no offset."""

BEFORE_1990 = "time lies before 1990"
IN_FUTURE = "time lies in the future"
NOT_ISO = "time is not ISO 8601 text: say its form in events.time.format"
NUMBER_NOT_ISO = "time is a number where ISO 8601 text is expected"
ZONE_WORD = "time has a zone word other than one Z, UTC or GMT: write an offset such as +01:00, or events.time.format"
CLOCK_12 = "time has AM or PM: say its form in events.time.format"
NO_SUCH = "time is a day or an hour that does not exist"
NOT_FORMAT = "time fits none of events.time.format"
NOT_NUMBER = f"time {numbers.NOT_NUMBER}"

UTC_WORDS = ("UTC", "GMT", "Z")
# How many of a unit make a millisecond, where it is finer than one.
_FINER = {"us": 1_000, "ns": 1_000_000}
_DATE = r"\d{4}(-\d{1,2}-\d{1,2}|/\d{1,2}/\d{1,2})"
_CLOCK = r"\d{1,2}:[0-5]?\d(:[0-5]?\d(\.\d+)?)?"
_OFFSET = r"[-+](0\d|1[0-4])(:?[0-5]\d)?"
# The engine reads each of these right, and reads much else: any word after a time, where it is a zone to it or not.
LOCAL_FORM = rf"{_DATE}([T ]{_CLOCK})?"
UTC_FORM = rf"{_DATE}[T ]{_CLOCK}(Z| Z| UTC| GMT)"
OFFSET_FORM = rf"{_DATE}[T ]{_CLOCK}{_OFFSET}"
# The commonest of them once more, for a test that costs a third.
_LONG, _OFFSETS = "____-__-_____:__:__", ("+0_:00", "-0_:00")
_LIKE_LOCAL, _LIKE_UTC = ("____-__-__", _LONG), (f"{_LONG}Z", f"{_LONG} UTC")
_DIGITS = make_byte_table(b"0123456789")
# Whole numbers up to here are doubles too, in milliseconds as well as in seconds.
_MOST = 2**53 // 1000
# Other ways of writing, made into the forms above, one after the other.
_REWRITTEN = (
    (r"^\s+|\s+$", "", "g"),
    (r"\s+", " ", "g"),
    (r"^(\d{4})(\d\d)(\d\d)($|[T ])", r"\1-\2-\3\4"),  # 20191001
    (r"^([^T ]+[T ])(\d\d)(\d\d)(\d\d)", r"\1\2:\3:\4"),  # T100000
    (r"^([^T ]+[T ])(\d\d)(\d\d)", r"\1\2:\3"),  # T1000
    (r"^([^T ]+[T ]\d\d)(Z?)$", r"\1:00\2"),  # T10
    (r"(:\d\d),(\d+)", r"\1.\2"),  # 10:00:00,123
    # Go writes the offset and then its zone's word, Java the place: the offset says it all, but a word against it.
    (r" ?[-+]00:?00 (UTC|GMT)$", " Z"),
    (r"([-+]\d\d:?\d\d) (UTC|GMT)$", r"\1?"),
    (r"([-+]\d\d:?\d\d) ([A-Z]{3,5}|[-+]\d\d)$", r"\1"),
    (r"(Z|[-+]\d\d:?\d\d)\[[^\]]+\]$", r"\1"),
    (r"(:\d\d(\.\d+)?) +([-+]\d\d)", r"\1\3"),
    (r"(\d) ?(UTC|GMT|Z)$", r"\1 Z"),
    (r"^([-/\d]+) Z$", r"\1T00:00 Z"),  # 2019-10-01Z
)
_WRITTEN_DATE = r"\s*\d{4}(-\d{1,2}-\d{1,2}|/\d{1,2}/\d{1,2}|\d{4})"
_WRITTEN_CLOCK = r"[Tt\s]\s*\d{1,2}:?\d{0,2}(:?\d{1,2}([.,]\d+)?)?\s*"
_WRITTEN_LOCAL = rf"{_WRITTEN_DATE}({_WRITTEN_CLOCK})?\s*"
_WRITTEN_SO = rf"{_WRITTEN_DATE}({_WRITTEN_CLOCK}([Zz]|UTC|GMT|{_OFFSET})?)?\s*"
_AFTER_CLOCK = rf"\s*{_DATE}[T ]\s*\d{{1,2}}(:\d{{1,2}}){{1,2}}([.,]\d+)?\s*([-+]\d\d:?\d\d\s*)?"
_CLOCK_12_FORM = rf"{_AFTER_CLOCK}[AaPp]\.?[Mm]\.?\b.*"
_ZONE_WORD_FORM = rf"{_AFTER_CLOCK}[A-Za-z].*"


@dataclass(frozen=True)
class TimeFormat:
    """How a column's texts express times.

    unit: the unit of numbers, or `iso` for ISO 8601. formats: strptime formats, which replace the unit. zone: whether
    local times belong to a zone other than UTC, so that the result needs `LOCAL`. decimal: the decimal mark of numbers.
    """

    unit: Literal["s", "ms", "us", "ns", "iso"] = "iso"
    formats: Sequence[str] = ()
    zone: bool = False
    decimal: str = "."


def parse_times(column: str, reading: TimeFormat, result: str = "time") -> dict[str, str]:
    """Return SQL for the epoch milliseconds of a text column, as the column `result`. It is null for other texts.

    With a zone, a local time is read as UTC, and the column `LOCAL` says so.
    """
    milliseconds = find_milliseconds(column)
    if milliseconds is not None:
        local = "true" if isinstance(column, GlancedColumn) and column.local else "false"
        return {result: milliseconds} | ({LOCAL: local} if reading.zone else {})
    if reading.formats:
        runs = [(_parse_formats(column, kind, names), kind) for kind, names in _group_formats(reading.formats)]
        time = f"coalesce({', '.join(run for run, _ in runs)})"
        cases = " ".join(f"WHEN {run} IS NOT NULL THEN {kind == LOCAL}" for run, kind in runs)
        local = f"CASE {cases} END"
    elif reading.unit == "iso":
        rewritten = _bind(_rewrite(column), _parse_leap_second)
        time = f"coalesce({_parse_common_forms(column)}, {_parse_iso(column)}, {rewritten})"
        local = (
            f"CASE WHEN {_match_shapes(column, _LIKE_LOCAL)} THEN NOT ends_with({column}, 'Z') "
            f"WHEN {_match_shapes(column, _LIKE_UTC)} THEN false ELSE {matches_whole(column, _WRITTEN_LOCAL)} END"
        )
    else:
        return {result: _parse_number(column, reading.unit, reading.decimal)}
    return {result: time} | ({LOCAL: local} if reading.zone else {})


def list_time_checks(column: str, reading: TimeFormat, result: str = "time") -> list[tuple[str, str]]:
    """List SQL conditions, with reasons, for a text that is no time. result: as in `parse_times`."""
    if find_milliseconds(column):
        return []
    unread = f"{quote_name(result)} IS NULL"
    empty = (f"{unread} AND ({column} IS NULL OR {is_blank(column)})", "time is empty")
    if reading.formats:
        return [empty, (unread, NOT_FORMAT)]
    if reading.unit != "iso":
        return [empty, *numbers.list_number_checks(column, unread, "time", reading.decimal)]
    return [
        empty,
        (f"{unread} AND isfinite(TRY_CAST({column} AS DOUBLE))", NUMBER_NOT_ISO),
        (f"{unread} AND {matches_whole(column, _WRITTEN_SO)}", NO_SUCH),
        (f"{unread} AND {matches_whole(column, _CLOCK_12_FORM)}", CLOCK_12),
        (f"{unread} AND {matches_whole(column, _ZONE_WORD_FORM)}", ZONE_WORD),
        (unread, NOT_ISO),
    ]


def list_span_checks(now: int) -> list[tuple[str, str]]:
    """List conditions, with reasons, for a result `time` outside the possible span. now: epoch ms."""
    return [(f'"time" < {EARLIEST_MS}', BEFORE_1990), (f'"time" > {now + 86_400_000}', IN_FUTURE)]


def read_plain_times(column: pa.ChunkedArray, reading: TimeFormat) -> tuple[pa.ChunkedArray, bool] | None:
    """Read a batch's texts at once if all of them are plain times. None: at least one is not.

    Returns the epoch milliseconds, int64, and whether the times are local. Whole numbers are plain, and long forms of
    ISO 8601 that all end with Z, all with UTC, all with an offset such as +01:00, or all with none of these.
    """
    if (
        column.null_count
        or column.type != pa.string()
        or reading.formats
        or not pc.min(pc.binary_length(column)).as_py()
    ):
        return None
    try:
        return _read_plain_iso(column) if reading.unit == "iso" else _read_plain_numbers(column, reading.unit)
    except pa.ArrowInvalid:
        return None


def _read_plain_iso(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, bool]:
    zoned = all((data[offsets[1:] - 1] == ord("Z")).all() for offsets, data in iterate_chunks(column)) or _have_offsets(
        column
    )
    # The parser takes offsets of up to a day, of which some are none: they, and mixed ones, are left to SQL.
    words = not zoned and pc.all(pc.ends_with(column, " UTC")).as_py()
    if words:
        column = pc.utf8_slice_codeunits(column, 0, -len(" UTC"))
    instants = column.cast(pa.timestamp("us", "UTC" if zoned else None)).cast(pa.int64())
    return pc.divide(instants, 1000), not (zoned or words)


def _have_offsets(column: pa.ChunkedArray) -> bool:
    """Whether all texts end with an offset such as +01:00, as `OFFSET_FORM` has them."""
    for offsets, data in iterate_chunks(column):
        if np.diff(offsets).min() < len("2024-03-01T10:00+01:00"):
            return False
        sign, hours, hour, colon, minutes, minute = (data[offsets[1:] - place] for place in range(6, 0, -1))
        marks = ((sign == ord("+")) | (sign == ord("-"))) & (colon == ord(":"))
        digits = _DIGITS[hours] & _DIGITS[hour] & _DIGITS[minutes] & _DIGITS[minute]
        bounds = ((hours == ord("0")) | (hours == ord("1")) & (hour <= ord("4"))) & (minutes <= ord("5"))
        if not (marks & digits & bounds).all():
            return False
    return True


def _read_plain_numbers(column: pa.ChunkedArray, unit: str) -> tuple[pa.ChunkedArray, bool] | None:
    if any((data == ord(mark)).any() for _, data in iterate_chunks(column) for mark in "xX"):
        return None  # hexadecimal digits to the parser, and no number to us
    numbers = column.cast(pa.int64())
    smallest, largest = pc.min_max(numbers).values()
    if not 0 <= smallest.as_py() <= largest.as_py() <= _MOST * _FINER.get(unit, 1):
        return None
    if unit in _FINER:
        return pc.divide(pc.add(numbers, _FINER[unit] // 2), _FINER[unit]), False
    return pc.multiply(numbers, 1000) if unit == "s" else numbers, False


def _parse_number(column: str, unit: str, decimal: str) -> str:
    plain = numbers.use_decimal_point(column, decimal)
    double = f"TRY_CAST({plain} AS DOUBLE)"
    # Bounded, so that a number too great for a time is still told from text.
    bounded = f"greatest(least({double}, 1e30), -1e30)"
    if unit in _FINER:
        # Not by way of a double: it has 53 bits, and nanoseconds take 61.
        whole, finer = f"TRY_CAST({plain} AS BIGINT)", _FINER[unit]
        exact = f"{whole} // {finer} + ({whole} % {finer} >= {finer // 2})::BIGINT"
        great = f"greatest(least({bounded} / {_FINER[unit]}, 1e15), -1e15)::BIGINT"
        return f"CASE WHEN NOT isnan({double}) THEN coalesce({exact}, {great}) END"
    scaled = f"{bounded} * {1000 if unit == 's' else 1}"
    return f"CASE WHEN NOT isnan({double}) THEN round(greatest(least({scaled}, 1e18), -1e18))::BIGINT END"


def _parse_common_forms(column: str) -> str:
    """The milliseconds of the commonest forms."""
    offsets = [f"{_LONG}{offset}" for offset in _OFFSETS]
    return (
        f"CASE WHEN {_match_shapes(column, (*_LIKE_UTC, *_LIKE_LOCAL))} THEN epoch_ms(TRY_CAST({column} AS TIMESTAMP)) "
        f"WHEN {_match_shapes(column, offsets)} THEN epoch_ms(TRY_CAST({column} AS TIMESTAMPTZ)) END"
    )


def _parse_iso(column: str) -> str:
    """The milliseconds of the forms that the engine reads right."""
    return (
        f"CASE WHEN {matches_whole(column, f'{LOCAL_FORM}|{UTC_FORM}')} THEN epoch_ms(TRY_CAST({column} AS TIMESTAMP)) "
        f"WHEN {matches_whole(column, OFFSET_FORM)} THEN epoch_ms(TRY_CAST({column} AS TIMESTAMPTZ)) END"
    )


def _parse_leap_second(name: str) -> str:
    """A rewritten text's milliseconds. A leap second is the moment after it, as in POSIX; it can only end a month."""
    after = _bind(
        f"{_parse_iso(_replace_leap_second(name))} + 1000", lambda ms: f"CASE WHEN {_begins_month(ms)} THEN {ms} END"
    )
    return f"CASE WHEN contains({name}, ':59:60') THEN {after} ELSE {_parse_iso(name)} END"


def _replace_leap_second(name: str) -> str:
    return f"replace({name}, ':59:60', ':59:59')"


def _begins_month(ms: str) -> str:
    return f"make_timestamp({ms} * 1000) = date_trunc('month', make_timestamp({ms} * 1000))"


def _bind(value: str, use: Callable[[str], str]) -> str:
    """SQL that names a value once and uses it several times."""
    return f"list_transform([{value}], lambda v: {use('v')})[1]"


def _rewrite(column: str) -> str:
    rewritten = f"upper({column})"
    for pattern, replacement, *options in _REWRITTEN:
        arguments = ", ".join(quote_text(part) for part in (pattern, replacement, *options))
        rewritten = f"regexp_replace({rewritten}, {arguments})"
    return rewritten


def _match_shapes(column: str, shapes: Sequence[str]) -> str:
    return "(" + " OR ".join(f"{column} LIKE {quote_text(shape)}" for shape in shapes) + ")"


def _group_formats(formats: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The formats in their order, those of one kind that follow each other together."""
    kinds = [variant for name in formats for variant in _list_variants(name)]
    for kind, run in itertools.groupby(kinds, key=lambda variant: variant[0]):
        yield kind, [name for _, name in run]


def _list_variants(name: str) -> Iterator[tuple[str, str]]:
    """A format as the engine is given it: `%z` is a numeric offset or Z, and `%Z` one of the words for UTC.

    To the engine `%Z` would be any zone word, of which many mean several zones: BST is Bangladesh's to it.
    """
    letters = re.findall(r"%-?.", name)
    words = [_replace_letter(name, "%Z", word) for word in UTC_WORDS] if "%Z" in letters else [name]
    for form in words:
        if "%z" in letters:
            yield "offset", form
            yield "utc", _replace_letter(form, "%z", "Z")
        else:
            yield "utc" if "%Z" in letters else LOCAL, form


def _replace_letter(name: str, letter: str, word: str) -> str:
    return re.sub(r"%-?.", lambda match: word if match[0] == letter else match[0], name)


def _parse_formats(column: str, kind: str, names: Sequence[str]) -> str:
    return f"epoch_ms(try_strptime({column}, [{', '.join(map(quote_text, names))}]))"
