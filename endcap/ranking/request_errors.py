"""Errors of ranking requests: where the mistake is, what was found, what is allowed. The work is always bounded."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from endcap import ids
from endcap.errors import RequestError

_LONGEST_SHOWN = 60
_COMPARED = 30
"""The most names that an unknown one is compared with. Each comparison takes about ten microseconds."""
_EXAMINED = 5000
_LARGEST = 10**18

_ALLOWED = {
    "items": "a list of item ids (strings), oldest first",
    "events": 'a list of objects {"item": id, "time": epoch milliseconds or ISO 8601 with a zone, "type": text}',
    "item": 'an item id as a string; a number is written in quotes, such as "1234"',
    "candidates": "a list of item ids (strings)",
    "exclude": "a list of item ids (strings)",
    "customer": "a string",
    "session": "a string",
    "category": "a string",
    "filter": 'an object {attribute: value or list of values}, all of them strings, such as {"brand": ["a", "b"]}',
    "k": "a whole number",
    "surface": "a string",
    "explain": "true or false",
    "precomputed": "true or false",
    "time": "epoch milliseconds as a whole number, or ISO 8601 text with a zone, such as 2026-01-31T12:00:00Z",
    "type": "a string",
}
_LENGTHS = {"surface": "1 to 64", "type": f"at most {ids.LONGEST}"}
_MESSAGES = ("time", "times", "ahead")


def translate_error(error: ValidationError) -> RequestError:
    """Return the first of pydantic's errors as a RequestError. For a time, return the most specific error."""
    errors = error.errors(include_url=False)
    first = errors[0]
    place = _strip_place(first["loc"])
    # Pydantic reports an error for each kind of value that a time may have.
    details = [detail for detail in errors if _strip_place(detail["loc"]) == place]
    first = next((detail for detail in details if detail["type"] in _MESSAGES), first)
    if first["type"] == "ahead":
        place = (*place, first["ctx"]["event"], "time")
    return _translate(first, place)


def add_instance(error: RequestError, number: int) -> RequestError:
    """Return the error with the number of the call's instance, from 0, in its text and fields."""
    return RequestError(f"instance {number}: {error}", code=error.code, instance=number, **error.fields)


def unknown_key_error(place: tuple[str | int, ...], key: Any, allowed: Collection[str]) -> RequestError:
    """Return the error for a key that does not exist. It lists the allowed keys and the most similar one."""
    matches = difflib.get_close_matches(key[:_LONGEST_SHOWN], list(allowed), n=1) if isinstance(key, str) else []
    hint = f"; did you mean {matches[0]}?" if matches else ""
    location = join_place((*place, key))
    return RequestError(
        f"{location}: unknown key; allowed: {', '.join(allowed)}{hint}",
        code="request.unknown-key",
        at=location,
        allowed=list(allowed),
        near=matches[0] if matches else None,
    )


def too_many_error(location: str, unit: str, count: int, limit: int) -> RequestError:
    """Return the error for a list or an object that is longer than allowed."""
    text = f"{location}: found {count:,} {unit}; allowed: at most {limit:,}"
    return RequestError(text, code="request.too-many", at=location, found=count, limit=limit)


def find_nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """Return the names most similar to this one among those with its first two letters and the first others."""
    name = name[:_LONGEST_SHOWN]
    examined = list(islice(names, _EXAMINED))
    alike = [candidate for candidate in examined if candidate[:2].casefold() == name[:2].casefold()]
    compared = list(dict.fromkeys(alike[:_COMPARED] + examined))[:_COMPARED]
    return difflib.get_close_matches(name, compared, n=count, cutoff=0.0)


def join_names(names: Iterable[str]) -> str:
    """Join names by commas, each quoted, and long ones shortened."""
    return ", ".join(_shorten(name) for name in names)


def describe_value(value: Any) -> str:
    """Describe a value in few words, with its type."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "an infinite number"
    if isinstance(value, dict):
        return f"an object with keys {', '.join(map(quote_value, islice(value, 5))) or 'none'}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"{quote_value(value)} ({type(value).__name__})"


def quote_value(value: Any) -> str:
    """Return a text, a number or null as Python writes it, shortened, without characters that cannot be encoded."""
    # Python refuses to write numbers of more than some thousand digits.
    if isinstance(value, int) and abs(value) > _LARGEST:
        return f"a number beyond {'-' if value < 0 else ''}10^18"
    return _shorten(value)


def join_place(place: tuple[Any, ...]) -> str:
    """Return a place in a request as text, such as ``filter.brand.0``."""
    return ".".join(part if _is_word(part) else quote_value(part) for part in place) or "request"


def _shorten(value: Any) -> str:
    if isinstance(value, str):
        return repr(value) if len(value) <= _LONGEST_SHOWN else f"{value[:_LONGEST_SHOWN]!r}…"
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _translate(error: ErrorDetails, place: tuple[str | int, ...]) -> RequestError:
    kind, value, location = error["type"], error["input"], join_place(place)
    key = next((part for part in reversed(place) if isinstance(part, str)), "")
    if kind == "missing":
        allowed = _ALLOWED.get(key, "a value")
        return RequestError(
            f"{location}: missing; allowed: {allowed}", code="request.missing-key", at=location, allowed=allowed
        )
    if kind in _MESSAGES or kind == "greater_than_equal":
        early = "a time before 1990; epoch seconds are not taken"
        problem, allowed = error["msg"] if kind in _MESSAGES else early, _ALLOWED["time"]
        text = f"{location}: found {problem}; allowed: {allowed}"
        return RequestError(text, code="request.wrong-time", at=location, found=problem, allowed=allowed)
    if kind == "too_short":
        unit = "id" if key == "candidates" else "value"
        return RequestError(
            f"{location}: found an empty list; allowed: one {unit} or more "
            "(leave the key out to rank the whole catalogue)",
            code="request.empty-list",
            at=location,
        )
    if kind in ("string_too_short", "string_too_long"):
        allowed = _LENGTHS.get(key, f"1 to {ids.LONGEST}")
        text = f"{location}: found a text of {len(value):,} characters; allowed: {allowed}"
        return RequestError(text, code="request.wrong-length", at=location, found=len(value), allowed=allowed)
    description = describe_value(value)
    if kind == "string_pattern_mismatch":
        text = f"{location}: found {description}, with a control character; allowed: {ids.ALLOWED}"
        return RequestError(text, code="request.control-character", at=location, found=description, allowed=ids.ALLOWED)
    if kind == "string_unicode":
        text = f"{location}: found {description}, half of a surrogate pair; allowed: text that UTF-8 can write"
        return RequestError(text, code="request.not-utf8", at=location, found=description)
    if place and place[0] == "filter":
        key = "filter"
    # A number within a list stands for an id.
    elif place and isinstance(place[-1], int) and key != "events":
        key = "item"
    allowed = _ALLOWED.get(key, "see the request reference")
    text = f"{location}: found {description}; allowed: {allowed}"
    return RequestError(text, code="request.wrong-type", at=location, found=description, allowed=allowed)


def _strip_place(parts: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return the place in the request without the parts that pydantic adds for kinds of values and for keys."""
    if parts[:1] == ("events",) and parts[2:3] == ("time",):
        return parts[:3]
    return parts[:-1] if parts and parts[-1] == "[key]" else parts


def _is_word(part: Any) -> bool:
    return isinstance(part, str) and len(part) <= _LONGEST_SHOWN and part.isidentifier()
