"""A ranking request: one instance of the V1 protocol, checked before anything is scored."""

from __future__ import annotations

import difflib
import itertools
import math
import time
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from endcap.errors import RequestError
from endcap.spec.base import EARLIEST_MS
from endcap.spec.recommender import Serving

CLOCK_SKEW_MS = 86_400_000
ID_LENGTH = 1024
_SHOWN = 60

_ALLOWED = {
    "items": "a list of item ids (strings), oldest first",
    "events": 'a list of objects {"item": id, "time": epoch milliseconds or ISO 8601 with a zone, "type": text}',
    "item": 'an item id as a string; a number is written in quotes, such as "1234"',
    "candidates": "a list of item ids (strings)",
    "exclude": "a list of item ids (strings)",
    "customer": "a string",
    "category": "a string",
    "k": "a whole number",
    "time": "epoch milliseconds as a whole number, or ISO 8601 text with a zone, such as 2026-01-31T12:00:00Z",
    "type": "a string",
}


def _parse_time(value: Any) -> Any:
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise PydanticCustomError("time", "not an ISO 8601 time") from None
        if moment.tzinfo is None:
            raise PydanticCustomError("time", "a time without a zone")
        value = (moment - datetime.fromtimestamp(0, moment.tzinfo)) // timedelta(milliseconds=1)
    if isinstance(value, int) and not isinstance(value, bool):
        if value < EARLIEST_MS:
            raise PydanticCustomError("time", "a time before 1990; epoch seconds are not taken")
        if value > time.time() * 1000 + CLOCK_SKEW_MS:
            raise PydanticCustomError("time", "a time more than a day ahead")
    return value


def _not_falling(events: list[Event]) -> list[Event]:
    times = [event.time for event in events if event.time is not None]
    if len(times) not in (0, len(events)):
        raise PydanticCustomError("times", "times for some events only; give one for each event, or for none")
    if any(after < before for before, after in itertools.pairwise(times)):
        raise PydanticCustomError("times", "times that fall; give events oldest first")
    return events


Id = Annotated[str, Field(min_length=1, max_length=ID_LENGTH)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class Event(_Part):
    item: Id
    time: Annotated[int | None, BeforeValidator(_parse_time)] = None
    """Epoch milliseconds; without times, events count as happening when the request arrives."""
    type: str | None = None
    """An event of a type that the shop does not train on is skipped; without a type it counts."""


class RankRequest(_Part):
    """Exactly one of `items`, `events` and `item` says what is ranked for; an empty session is a fresh shopper's."""

    items: list[Id] | None = None
    """The session's item ids, oldest first."""
    events: Annotated[list[Event], AfterValidator(_not_falling)] | None = None
    item: Id | None = None
    """Ask for items related to this one; it is never in its own answer."""
    customer: str | None = None
    category: str | None = None
    """Only items of this category."""
    candidates: Annotated[list[Id], Field(min_length=1)] | None = None
    """Only these items."""
    k: int | None = None
    """How many items; left out: the recommender's `serving.k`."""
    exclude: list[Id] = []
    """Never these items."""

    @property
    def sequence(self) -> list[Event]:
        """The session as events, oldest first."""
        if self.events is not None:
            return self.events
        # Ids are checked already: building without checking again is ten times as fast for a long session.
        ids = [self.item] if self.item is not None else self.items or []
        return [Event.model_construct(item=item, time=None, type=None) for item in ids]


def parse_instance(value: Any, number: int, limits: Serving, categories: Collection[str] | None = None) -> RankRequest:
    """One checked request. `categories`: those of the shop's items, or None where items have none.

    Raises RequestError, which names the instance, the key, what was found and what is allowed.
    """
    where = f"instance {number}"
    if not isinstance(value, dict):
        raise RequestError(f"{where}: found {_show(value)}; allowed: an object with one of items, events, item")
    # Too long lists are refused before each element is looked at.
    for key, limit in (
        ("items", limits.max_events),
        ("events", limits.max_events),
        ("candidates", limits.max_candidates),
        ("exclude", limits.max_candidates),
    ):
        if isinstance(value.get(key), list) and len(value[key]) > limit:
            raise RequestError(f"{where}: {key}: found {len(value[key]):,} entries; allowed: at most {limit:,}")
    try:
        request = RankRequest.model_validate(value)
    except ValidationError as error:
        raise RequestError(f"{where}: {_describe(error.errors(include_url=False)[0])}") from None
    given = [key for key in ("items", "events", "item") if getattr(request, key) is not None]
    if len(given) != 1:
        raise RequestError(
            f"{where}: found {' and '.join(given) or 'none of items, events, item'}; allowed: exactly one of them "
            '("items": [] asks for a fresh shopper)'
        )
    if request.k is not None and not 1 <= request.k <= limits.max_k:
        raise RequestError(f"{where}: k: found {request.k}; allowed: 1 to {limits.max_k:,}")
    if request.category is not None:
        _check_category(where, request.category, categories)
    return request


def _check_category(where: str, category: str, categories: Collection[str] | None) -> None:
    if not categories:
        raise RequestError(f"{where}: category: found {_show(category)}; this shop's items have no category")
    if category not in categories:
        near = difflib.get_close_matches(category, list(categories), n=3, cutoff=0.0)
        names = ", ".join(repr(name) for name in near)
        raise RequestError(
            f"{where}: category: {_show(category)} is not known; allowed: one of {len(categories)}, nearest: {names}"
        )


def _describe(error: ErrorDetails) -> str:
    """Where, what was found, what is allowed: from pydantic's first error."""
    place = error["loc"]
    key = ".".join(str(part) for part in place) or "request"
    named = next((part for part in reversed(place) if isinstance(part, str)), "")
    if error["type"] == "extra_forbidden":
        allowed = list(Event.model_fields if "events" in place else RankRequest.model_fields)
        near = difflib.get_close_matches(named, allowed, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{key}: unknown key; allowed: {', '.join(allowed)}{hint}"
    if error["type"] == "missing":
        return f"{key}: missing; allowed: {_ALLOWED.get(named, 'a value')}"
    if error["type"] in ("time", "times"):
        return f"{key}: found {error['msg']}; allowed: {_ALLOWED['time']}"
    if error["type"] == "too_short":
        return f"{key}: found an empty list; allowed: one id or more (leave the key out to rank the whole catalogue)"
    if error["type"] in ("string_too_short", "string_too_long"):
        return f"{key}: found a text of {len(error['input'])} characters; allowed: 1 to {ID_LENGTH}"
    # A number within a list stands for an id.
    named = "item" if place and isinstance(place[-1], int) and named != "events" else named
    return f"{key}: found {_show(error['input'])}; allowed: {_ALLOWED.get(named, 'see the request reference')}"


def _show(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "an infinite number"
    if isinstance(value, dict):
        return f"an object with keys {sorted(map(str, value))[:5]}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = repr(value)
    return f"{text[:_SHOWN]}… ({type(value).__name__})" if len(text) > _SHOWN else f"{text} ({type(value).__name__})"
