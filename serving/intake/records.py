"""Checks of records. They are written by hand, because each event has to pass them.

A check goes through a record once. Only if it fails, slower code makes an error that names the place, what was found
and what is allowed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NoReturn

from endcap import ids
from endcap.errors import UserError

Json = dict[str, Any]

MOST_LINES = 1000
MOST_POSITION = 1_000_000
DAY_MS = 86_400_000
EARLIEST_MS = 631_152_000_000
"""1990-01-01 in epoch milliseconds, as in ingest. Importing it from there would double the time to start. An earlier
time is wrong, or in seconds."""

TIMES = "epoch milliseconds as an integer, or ISO 8601 text with a zone, such as 2026-01-31T12:00:00Z"
ITEMS = f"{ids.ALLOWED}; or nothing, where `type` says what happened without one, such as a search"
LINE = '{"item": id, "quantity"?: 1, "price"?: 9.95}'
ATTRIBUTION = ("shopper", "variant", "model_version")
"""Optional keys of every record: the value of the shopper header, and which version answered. `ranking_id` says the
same in a form that cannot be forged where a key is set."""
_OPTIONAL = ("customer", "session", "surface", "ranking_id", "type", *ATTRIBUTION)
_OF_IMPRESSION = ("surface", "customer", "session", *ATTRIBUTION)
_OF_ORDER = ("session", *ATTRIBUTION)
_EVENT = {"id", "item", "time", *_OPTIONAL}
_IMPRESSION = {"id", "ranking_id", "item", "position", "time", *_OF_IMPRESSION}
_ORDER = {"id", "customer", "items", "time", *_OF_ORDER}
_LINE = {"item", "quantity", "price"}


class RecordError(UserError):
    """A record that is not accepted.

    Parameters
    ----------
    at
        The key, such as ``items[1].price``. Empty: the record as a whole.
    text
        What was found there, and what is allowed.
    code
        The stable name of the error, such as ``intake.wrong-value``.
    **fields
        Values that the text speaks of, for a program.
    """

    def __init__(self, at: str, text: str, /, *, code: str, **fields: Any) -> None:
        super().__init__(f"{at}: {text}" if at else text, code=code, **({"at": at} if at else {}), **fields)
        self._at, self._text = at, text

    def add_place(self, place: str) -> RecordError:
        """Return the same error for a record that is a part of another one, at a place such as ``items[1]``."""
        fields = {key: value for key, value in self.fields.items() if key != "at"}
        return RecordError(f"{place}.{self._at}" if self._at else place, self._text, code=self.code, **fields)


def read_event(record: Any, now: int) -> Json:
    """Check an event.

    Parameters
    ----------
    record
        The parsed JSON.
    now
        The current time in epoch milliseconds.

    Returns
    -------
    dict
        The record itself, with `time` as epoch milliseconds. A record without a time gets `now`.

    Raises
    ------
    RecordError
        The record is wrong.

    Notes
    -----
    An event may have a type and no item, such as a search. Such activity keeps a customer's visit alive.
    """
    _check_keys(record, _EVENT, "an event")
    _check_id(record, "id")
    for key in _OPTIONAL:
        if record.get(key) is not None:
            _check_id(record, key)
    if record.get("item") is not None:
        _check_id(record, "item")
    elif record.get("type") is None:
        _refuse_field(record, "item", ITEMS)
    if record.get("customer") is None and record.get("session") is None:
        raise RecordError(
            "customer, session",
            "found neither; allowed: at least one of them, which says whose event it is",
            code="intake.owner-missing",
        )
    record["time"] = _parse_time(record.get("time"), now)
    return record  # type: ignore[no-any-return]


def read_impression(record: Any, now: int) -> Json:
    """Check an impression, as `read_event` does: an item that was seen at a position of a ranking, counted from 0."""
    _check_keys(record, _IMPRESSION, "an impression")
    for key in ("id", "ranking_id", "item"):
        _check_id(record, key)
    for key in _OF_IMPRESSION:
        if record.get(key) is not None:
            _check_id(record, key)
    position = record.get("position")
    if type(position) is not int or not 0 <= position <= MOST_POSITION:
        _refuse_field(record, "position", f"an integer from 0, the first place, to {MOST_POSITION:,}")
    record["time"] = _parse_time(record.get("time"), now)
    return record  # type: ignore[no-any-return]


def read_order(record: Any, now: int) -> Json:
    """Check an order, as `read_event` does. It has a line for each item. A line without `quantity` gets 1."""
    _check_keys(record, _ORDER, "an order")
    for key in ("id", "customer"):
        _check_id(record, key)
    for key in _OF_ORDER:
        if record.get(key) is not None:
            _check_id(record, key)
    lines = record.get("items")
    if type(lines) is not list or not 1 <= len(lines) <= MOST_LINES:
        shown_value = f"{len(lines):,} lines" if type(lines) is list else describe_field(record, "items")
        _refuse_value("items", shown_value, f"a list of 1 to {MOST_LINES:,} lines {LINE}")
    for number, line in enumerate(lines):
        try:
            _check_line(line)
        except RecordError as error:
            raise error.add_place(f"items[{number}]") from None
    record["time"] = _parse_time(record.get("time"), now)
    return record  # type: ignore[no-any-return]


def _check_line(line: Any) -> None:
    """Check a line of an order. Raises RecordError."""
    _check_keys(line, _LINE, "a line")
    _check_id(line, "item")
    quantity, price = line.setdefault("quantity", 1), line.get("price")
    if type(quantity) is not int or not 1 <= quantity <= 1_000_000:
        _refuse_field(line, "quantity", "an integer from 1 to 1,000,000")
    if price is not None and (type(price) not in (int, float) or not 0 <= price <= 1e12):
        _refuse_field(line, "price", "a number from 0 to 1e12, the price of one piece")


def _check_keys(record: Any, keys: set[str], kind: str) -> None:
    """Check that a record is an object with no other keys. Raises RecordError."""
    if type(record) is not dict:
        shown_value = describe_value(record)
        raise RecordError(
            "",
            f"found {shown_value}; allowed: {kind}, an object with the keys {', '.join(sorted(keys))}",
            code="intake.record-not-object",
            found=shown_value,
            allowed=sorted(keys),
        )
    if not record.keys() <= keys:
        unknown = min(record.keys() - keys)
        shown_key = unknown if unknown.isidentifier() and len(unknown) < 40 else describe_value(unknown)
        raise RecordError(
            shown_key,
            f"no such key; allowed in {kind}: {', '.join(sorted(keys))}",
            code="intake.unknown-key",
            allowed=sorted(keys),
        )


def _check_id(record: Json, key: str) -> None:
    """Check that a key holds an id. Raises RecordError."""
    text = record.get(key)
    if type(text) is not str or ids.find_id_fault(text) is not None:
        _refuse_field(record, key, ids.ALLOWED)


def _parse_time(value: Any, now: int) -> int:
    """Parse a time to epoch milliseconds; None becomes now. Raises RecordError."""
    if value is None:
        return now
    milliseconds = value
    if type(value) is str:
        milliseconds = _parse_iso_time(value)
    elif type(value) is not int:
        _refuse_value("time", describe_value(value), TIMES)
    if milliseconds > now + DAY_MS:
        shown_value = describe_value(value)
        reason = f"found {shown_value}, more than a day ahead of {_format_time(now)}; allowed: {TIMES}"
        raise RecordError("time", reason, code="intake.time-ahead", found=shown_value, now=_format_time(now))
    if milliseconds < EARLIEST_MS:
        shown_value = describe_value(value)
        reason = f"found {shown_value}, which is before 1990 (are these seconds?); allowed: {TIMES}"
        raise RecordError("time", reason, code="intake.time-before-1990", found=shown_value)
    return int(milliseconds)


def _parse_iso_time(value: str) -> int:
    """Parse a time in ISO 8601 with a zone to epoch milliseconds. Raises RecordError."""
    with contextlib.suppress(ValueError, OverflowError):
        parsed = datetime.fromisoformat(value)
        if parsed.tzinfo is not None:
            # Not `timestamp`, which rounds as floating-point numbers do.
            elapsed = parsed.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
            return elapsed.days * DAY_MS + elapsed.seconds * 1000 + elapsed.microseconds // 1000
    return _refuse_value("time", describe_value(value), TIMES)


def _format_time(milliseconds: int) -> str:
    """Format epoch milliseconds as ISO 8601."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _refuse_field(record: Json, key: str, allowed: str) -> NoReturn:
    """Raise RecordError for the value of a key."""
    _refuse_value(key, describe_field(record, key), allowed)


def _refuse_value(at: str, shown_value: str, allowed: str) -> NoReturn:
    """Raise RecordError for a value that is already described."""
    raise RecordError(
        at, f"found {shown_value}; allowed: {allowed}", code="intake.wrong-value", found=shown_value, allowed=allowed
    )


def describe_field(record: Json, key: str) -> str:
    """Describe the value of a key in an error; "nothing" if there is none."""
    return describe_value(record[key]) if record.get(key) is not None else "nothing"


def describe_value(value: Any) -> str:
    """Describe a value in an error: its kind, or the beginning of a text or a number."""
    if type(value) is str:
        return repr(value if len(value) <= 40 else f"{value[:40]}…") + (
            f" of {len(value):,}" if len(value) > 40 else ""
        )
    if type(value) in (int, float):
        text = repr(value)
        return text if len(text) <= 40 else f"{text[:40]}…"
    names = {dict: "an object", list: "a list", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "something else")


KINDS: dict[str, Callable[[Any, int], Json]] = {
    "events": read_event,
    "impressions": read_impression,
    "orders": read_order,
}
"""The check of each kind, by the name that the kind has in its path, in a body and in its folder."""
NAMES = list(KINDS)
"""The kinds' names. Segments and batches name a kind by its position here."""
