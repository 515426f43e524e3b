"""What a record may hold: checks by hand, because each one stands in the way of every event.

A check goes through a record once and says nothing; only where one fails is it looked at again, slowly, for words that
name the place, what was found and what is allowed.
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
"""1990, as of ingest (importing which would double the time to start): what lies before it is in seconds, or wrong."""

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
    """A record that is not taken: the key, what was found, what is allowed."""

    def __init__(self, at: str, text: str, /, *, code: str, **fields: Any) -> None:
        """at: the key, such as ``items[1].price``; empty for the record as a whole. text: what is wrong there."""
        super().__init__(f"{at}: {text}" if at else text, code=code, **({"at": at} if at else {}), **fields)
        self._at, self._text = at, text

    def inside(self, place: str) -> RecordError:
        """The same of a record that is a part of another."""
        fields = {key: value for key, value in self.fields.items() if key != "at"}
        return RecordError(f"{place}.{self._at}" if self._at else place, self._text, code=self.code, **fields)


def read_event(record: Any, now: int) -> Json:
    """The record, its time in epoch ms (now where it says none). Raises RecordError.

    It has no item where its type says what happened without one: activity, which keeps a visit alive.
    """
    _known(record, _EVENT, "an event")
    _needed(record, "id")
    for key in _OPTIONAL:
        if record.get(key) is not None:
            _needed(record, key)
    if record.get("item") is not None:
        _needed(record, "item")
    elif record.get("type") is None:
        _wrong(record, "item", ITEMS)
    if record.get("customer") is None and record.get("session") is None:
        raise RecordError(
            "customer, session",
            "found neither; allowed: at least one of them, so that it is somebody's event",
            code="intake.owner-missing",
        )
    record["time"] = _time(record.get("time"), now)
    return record  # type: ignore[no-any-return]


def read_impression(record: Any, now: int) -> Json:
    """As `read_event`: an item that was seen, at a position of a ranking, counted from 0."""
    _known(record, _IMPRESSION, "an impression")
    for key in ("id", "ranking_id", "item"):
        _needed(record, key)
    for key in _OF_IMPRESSION:
        if record.get(key) is not None:
            _needed(record, key)
    position = record.get("position")
    if type(position) is not int or not 0 <= position <= MOST_POSITION:
        _wrong(record, "position", f"an integer from 0, the first place, to {MOST_POSITION:,}")
    record["time"] = _time(record.get("time"), now)
    return record  # type: ignore[no-any-return]


def read_order(record: Any, now: int) -> Json:
    """As `read_event`: what a customer bought, a line an item; `quantity` 1 where a line says none."""
    _known(record, _ORDER, "an order")
    for key in ("id", "customer"):
        _needed(record, key)
    for key in _OF_ORDER:
        if record.get(key) is not None:
            _needed(record, key)
    lines = record.get("items")
    if type(lines) is not list or not 1 <= len(lines) <= MOST_LINES:
        shown_value = f"{len(lines):,} lines" if type(lines) is list else found_in(record, "items")
        _refuse("items", shown_value, f"a list of 1 to {MOST_LINES:,} lines {LINE}")
    for number, line in enumerate(lines):
        try:
            _line(line)
        except RecordError as error:
            raise error.inside(f"items[{number}]") from None
    record["time"] = _time(record.get("time"), now)
    return record  # type: ignore[no-any-return]


def _line(line: Any) -> None:
    _known(line, _LINE, "a line")
    _needed(line, "item")
    quantity, price = line.setdefault("quantity", 1), line.get("price")
    if type(quantity) is not int or not 1 <= quantity <= 1_000_000:
        _wrong(line, "quantity", "an integer from 1 to 1,000,000")
    if price is not None and (type(price) not in (int, float) or not 0 <= price <= 1e12):
        _wrong(line, "price", "a number from 0 to 1e12, of one piece")


def _known(record: Any, keys: set[str], what: str) -> None:
    if type(record) is not dict:
        shown_value = shown(record)
        raise RecordError(
            "",
            f"found {shown_value}; allowed: {what}, an object with the keys {', '.join(sorted(keys))}",
            code="intake.record-not-object",
            found=shown_value,
            allowed=sorted(keys),
        )
    if not record.keys() <= keys:
        unknown = min(record.keys() - keys)
        called = unknown if unknown.isidentifier() and len(unknown) < 40 else shown(unknown)
        raise RecordError(
            called,
            f"no such key; allowed in {what}: {', '.join(sorted(keys))}",
            code="intake.unknown-key",
            allowed=sorted(keys),
        )


def _needed(record: Json, key: str) -> None:
    text = record.get(key)
    if type(text) is not str or ids.find_id_fault(text) is not None:
        _wrong(record, key, ids.ALLOWED)


def _time(stamp: Any, now: int) -> int:
    if stamp is None:
        return now
    moment = stamp
    if type(stamp) is str:
        moment = _iso(stamp)
    elif type(stamp) is not int:
        _refuse("time", shown(stamp), TIMES)
    if moment > now + DAY_MS:
        shown_value = shown(stamp)
        reason = f"found {shown_value}, more than a day ahead of {_text(now)}; allowed: {TIMES}"
        raise RecordError("time", reason, code="intake.time-ahead", found=shown_value, now=_text(now))
    if moment < EARLIEST_MS:
        shown_value = shown(stamp)
        reason = f"found {shown_value}, which is before 1990 (are these seconds?); allowed: {TIMES}"
        raise RecordError("time", reason, code="intake.time-before-1990", found=shown_value)
    return int(moment)


def _iso(stamp: str) -> int:
    with contextlib.suppress(ValueError, OverflowError):
        read = datetime.fromisoformat(stamp)
        if read.tzinfo is not None:
            # Not `timestamp`, which rounds as floats do.
            since = read.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
            return since.days * DAY_MS + since.seconds * 1000 + since.microseconds // 1000
    return _refuse("time", shown(stamp), TIMES)


def _text(moment: int) -> str:
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="seconds")


def _wrong(record: Json, key: str, allowed: str) -> NoReturn:
    _refuse(key, found_in(record, key), allowed)


def _refuse(at: str, shown_value: str, allowed: str) -> NoReturn:
    raise RecordError(
        at, f"found {shown_value}; allowed: {allowed}", code="intake.wrong-value", found=shown_value, allowed=allowed
    )


def found_in(record: Json, key: str) -> str:
    return shown(record[key]) if record.get(key) is not None else "nothing"


def shown(value: Any) -> str:
    """A value in an error: what it is, and a text's or number's beginning."""
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
"""Each kind's check, by the name that its path, its batch's key and its folder have."""
NAMES = list(KINDS)
