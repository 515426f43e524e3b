"""What is told to who asked wrongly: where, what was found, what is allowed. Bounded work, whatever was sent."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

ID_LENGTH = 1024
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
_LENGTHS = {"surface": "1 to 64", "type": f"at most {ID_LENGTH}"}
_MESSAGES = ("time", "times", "ahead")


def describe(error: ValidationError) -> str:
    """The first of pydantic's errors; of a time, which may be a number or a text, the one that says most."""
    errors = error.errors(include_url=False)
    first = errors[0]
    place = _place(first["loc"])
    # Pydantic tells of each kind of value that a time may have.
    same = [one for one in errors if _place(one["loc"]) == place]
    first = next((one for one in same if one["type"] in _MESSAGES), first)
    if first["type"] == "ahead":
        place = (*place, first["ctx"]["event"], "time")
    return f"{spelled(place)}: {_told(first, place)}"


def unknown_key(place: tuple[str | int, ...], key: Any, allowed: Collection[str]) -> str:
    """Of a key that does not exist: which do, and which may have been meant."""
    near = difflib.get_close_matches(key[:_SHOWN], list(allowed), n=1) if isinstance(key, str) else []
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{spelled((*place, key))}: unknown key; allowed: {', '.join(allowed)}{hint}"


def nearest(name: str, names: Iterable[str], count: int = 3) -> str:
    """The names most like this one, of those that begin as it does and of the first ones, quoted."""
    name = name[:_SHOWN]
    looked_at = list(islice(names, _LOOKED_AT))
    alike = [one for one in looked_at if one[:2].casefold() == name[:2].casefold()]
    compared = list(dict.fromkeys(alike[:_COMPARED] + looked_at))[:_COMPARED]
    # A name is shown as it is to be written, unless it is very long.
    return ", ".join(_cut(one) for one in difflib.get_close_matches(name, compared, n=count, cutoff=0.0))


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


def _told(error: ErrorDetails, place: tuple[str | int, ...]) -> str:
    kind, found = error["type"], error["input"]
    named = next((part for part in reversed(place) if isinstance(part, str)), "")
    if kind == "missing":
        return f"missing; allowed: {_ALLOWED.get(named, 'a value')}"
    if kind in _MESSAGES:
        return f"found {error['msg']}; allowed: {_ALLOWED['time']}"
    if kind == "greater_than_equal":
        return f"found a time before 1990; epoch seconds are not taken; allowed: {_ALLOWED['time']}"
    if kind == "too_short":
        one = "id" if named == "candidates" else "value"
        return f"found an empty list; allowed: one {one} or more (leave the key out to rank the whole catalogue)"
    if kind in ("string_too_short", "string_too_long"):
        return f"found a text of {len(found):,} characters; allowed: {_LENGTHS.get(named, f'1 to {ID_LENGTH}')}"
    if kind == "string_unicode":
        return f"found {show(found)}, half of a surrogate pair; allowed: text that UTF-8 can write"
    if place and place[0] == "filter":
        named = "filter"
    # A number within a list stands for an id.
    elif place and isinstance(place[-1], int) and named != "events":
        named = "item"
    return f"found {show(found)}; allowed: {_ALLOWED.get(named, 'see the request reference')}"


def _place(parts: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Where it stands in the request: without what pydantic adds for kinds of values and for keys."""
    if parts[:1] == ("events",) and parts[2:3] == ("time",):
        return parts[:3]
    return parts[:-1] if parts and parts[-1] == "[key]" else parts


def _is_word(part: Any) -> bool:
    return isinstance(part, str) and len(part) <= _SHOWN and part.isidentifier()
