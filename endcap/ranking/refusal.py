"""Errors of ranking requests: where, what was found, what is allowed. Bounded work, whatever was sent."""

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

_SHOWN = 60
_COMPARED = 30
"""Names that a wrong one is compared with; each comparison takes some ten microseconds."""
_LOOKED_AT = 5000
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


def refusal(error: ValidationError) -> RequestError:
    """The first of pydantic's errors; of a time, which may be a number or a text, the one that says most."""
    errors = error.errors(include_url=False)
    first = errors[0]
    place = _place(first["loc"])
    # Pydantic tells of each kind of value that a time may have.
    same = [one for one in errors if _place(one["loc"]) == place]
    first = next((one for one in same if one["type"] in _MESSAGES), first)
    if first["type"] == "ahead":
        place = (*place, first["ctx"]["event"], "time")
    return _refusal(first, place)


def within(error: RequestError, number: int) -> RequestError:
    """The error of the call's instance with this number, from 0."""
    return RequestError(f"instance {number}: {error}", code=error.code, instance=number, **error.fields)


def unknown_key(place: tuple[str | int, ...], key: Any, allowed: Collection[str]) -> RequestError:
    """Of a key that does not exist: which do, and which may have been meant."""
    near = difflib.get_close_matches(key[:_SHOWN], list(allowed), n=1) if isinstance(key, str) else []
    hint = f"; did you mean {near[0]}?" if near else ""
    at = spelled((*place, key))
    return RequestError(
        f"{at}: unknown key; allowed: {', '.join(allowed)}{hint}",
        code="request.unknown-key",
        at=at,
        allowed=list(allowed),
        near=near[0] if near else None,
    )


def too_many(at: str, what: str, count: int, limit: int) -> RequestError:
    """Of a list or an object that is longer than allowed."""
    text = f"{at}: found {count:,} {what}; allowed: at most {limit:,}"
    return RequestError(text, code="request.too-many", at=at, found=count, limit=limit)


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The names most like this one, of those that begin as it does and of the first ones."""
    name = name[:_SHOWN]
    looked_at = list(islice(names, _LOOKED_AT))
    alike = [one for one in looked_at if one[:2].casefold() == name[:2].casefold()]
    compared = list(dict.fromkeys(alike[:_COMPARED] + looked_at))[:_COMPARED]
    return difflib.get_close_matches(name, compared, n=count, cutoff=0.0)


def quoted(names: Iterable[str]) -> str:
    """Names with commas between, each as it is to be written, unless it is very long."""
    return ", ".join(_cut(name) for name in names)


def show(value: Any) -> str:
    """A value in few words, with its type."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "an infinite number"
    if isinstance(value, dict):
        return f"an object with keys {', '.join(map(plain, islice(value, 5))) or 'none'}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"{plain(value)} ({type(value).__name__})"


def plain(value: Any) -> str:
    """A text, a number or null as Python writes it, cut short; without what no encoding can carry."""
    # Python refuses to write numbers of more than some thousand digits.
    if isinstance(value, int) and abs(value) > _LARGEST:
        return f"a number beyond {'-' if value < 0 else ''}10^18"
    return _cut(value)


def spelled(place: tuple[Any, ...]) -> str:
    """Where something stands in a request, as ``filter.brand.0``."""
    return ".".join(part if _is_word(part) else plain(part) for part in place) or "request"


def _cut(value: Any) -> str:
    if isinstance(value, str):
        return repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!r}…"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _refusal(error: ErrorDetails, place: tuple[str | int, ...]) -> RequestError:
    kind, found, at = error["type"], error["input"], spelled(place)
    named = next((part for part in reversed(place) if isinstance(part, str)), "")
    if kind == "missing":
        allowed = _ALLOWED.get(named, "a value")
        return RequestError(f"{at}: missing; allowed: {allowed}", code="request.missing-key", at=at, allowed=allowed)
    if kind in _MESSAGES or kind == "greater_than_equal":
        early = "a time before 1990; epoch seconds are not taken"
        told, allowed = error["msg"] if kind in _MESSAGES else early, _ALLOWED["time"]
        text = f"{at}: found {told}; allowed: {allowed}"
        return RequestError(text, code="request.wrong-time", at=at, found=told, allowed=allowed)
    if kind == "too_short":
        one = "id" if named == "candidates" else "value"
        return RequestError(
            f"{at}: found an empty list; allowed: one {one} or more (leave the key out to rank the whole catalogue)",
            code="request.empty-list",
            at=at,
        )
    if kind in ("string_too_short", "string_too_long"):
        allowed = _LENGTHS.get(named, f"1 to {ids.LONGEST}")
        text = f"{at}: found a text of {len(found):,} characters; allowed: {allowed}"
        return RequestError(text, code="request.wrong-length", at=at, found=len(found), allowed=allowed)
    shown = show(found)
    if kind == "string_pattern_mismatch":
        text = f"{at}: found {shown}, with a control character; allowed: {ids.ALLOWED}"
        return RequestError(text, code="request.control-character", at=at, found=shown, allowed=ids.ALLOWED)
    if kind == "string_unicode":
        text = f"{at}: found {shown}, half of a surrogate pair; allowed: text that UTF-8 can write"
        return RequestError(text, code="request.not-utf8", at=at, found=shown)
    if place and place[0] == "filter":
        named = "filter"
    # A number within a list stands for an id.
    elif place and isinstance(place[-1], int) and named != "events":
        named = "item"
    allowed = _ALLOWED.get(named, "see the request reference")
    text = f"{at}: found {shown}; allowed: {allowed}"
    return RequestError(text, code="request.wrong-type", at=at, found=shown, allowed=allowed)


def _place(parts: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Where it stands in the request: without what pydantic adds for kinds of values and for keys."""
    if parts[:1] == ("events",) and parts[2:3] == ("time",):
        return parts[:3]
    return parts[:-1] if parts and parts[-1] == "[key]" else parts


def _is_word(part: Any) -> bool:
    return isinstance(part, str) and len(part) <= _SHOWN and part.isidentifier()
