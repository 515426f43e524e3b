"""A ranking request: one instance of the V1 protocol, checked before anything is scored.

Checking is the event loop's work, so it is bounded: what is too long is refused before its elements are looked at, a
list ends at its first mistake, and pydantic's core does the rest.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
)
from pydantic_core import CoreSchema, PydanticCustomError

from endcap import ids
from endcap.errors import RequestError
from endcap.ranking.refusal import (
    nearest,
    plain,
    quoted,
    refusal,
    show,
    spelled,
    too_many,
    unknown_key,
    within,
)
from endcap.spec.base import EARLIEST_MS
from endcap.spec.recommender import Serving

CLOCK_SKEW_MS = 86_400_000
SURFACE_LENGTH = 64
MAX_ATTRIBUTES = 16
"""Attributes that one request may filter by."""
CATEGORY = "category"


def _milliseconds(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise PydanticCustomError("time", "not an ISO 8601 time") from None
    if moment.tzinfo is None:
        raise PydanticCustomError("time", "a time without a zone")
    # Not astimezone: the first and last years leave no room for another zone.
    value = (moment - datetime.fromtimestamp(0, moment.tzinfo)) // timedelta(milliseconds=1)
    if value < EARLIEST_MS:
        raise PydanticCustomError("time", "a time before 1990")
    return value


def _in_order(events: list[Event]) -> list[Event]:
    times = [event.time for event in events if event.time is not None]
    if not times:
        return events
    if len(times) != len(events):
        raise PydanticCustomError("times", "times for some events only; give one for each event, or for none")
    if sorted(times) != times:
        raise PydanticCustomError("times", "times that fall; give events oldest first")
    latest = time.time() * 1000 + CLOCK_SKEW_MS
    if times[-1] > latest:
        first = next(number for number, moment in enumerate(times) if moment > latest)
        raise PydanticCustomError("ahead", "a time more than a day ahead", {"event": first})
    return events


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Id = Annotated[str, Field(min_length=1, max_length=ids.LONGEST, pattern=ids.PATTERN)]
Value = Annotated[str, Field(min_length=1, max_length=ids.LONGEST)]
"""An attribute's name or value, which no rule of ids binds."""
IdList = Annotated[list[Id], Field(fail_fast=True)]
_Number = Annotated[int, Field(ge=EARLIEST_MS)]
_Text = Annotated[str, Field(max_length=ids.LONGEST), AfterValidator(_milliseconds)]


class _NumberOrText:
    """An int that may be given as a text; pydantic's core looks at a number without a step of Python."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(Annotated[_Number | _Text | None, Field(union_mode="left_to_right")])


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class Event(_Part):
    item: Id
    time: Annotated[int | None, _NumberOrText()] = None
    """Epoch milliseconds; without times, events count as happening when the request arrives."""
    type: Annotated[str, Field(max_length=ids.LONGEST)] | None = None
    """An event of a type that the shop does not train on is skipped; without a type it counts."""


class RankRequest(_Part):
    """What is ranked for is said by exactly one of `items`, `events` and `item`; an empty session is a fresh shopper's.

    Or by none of them, where `session` or `customer` is given: the recent events are then the online store's.
    """

    tells_owned: ClassVar[bool] = True
    """Whether an explanation tells what the customer owns."""

    items: IdList | None = None
    """The session's item ids, oldest first."""
    events: Annotated[list[Event], Field(fail_fast=True), AfterValidator(_in_order)] | None = None
    """The session's events, oldest first, with times for all or for none."""
    item: Id | None = None
    """Ask for items related to this one; it is never in its own answer."""
    customer: Id | None = None
    """The shopper: what a model remembers of a customer counts, and what the customer owns is left out."""
    session: Id | None = None
    """The visit, whose recent events are looked up where the request brings none: the customer's of this id; without a
    customer, nobody's."""
    category: Value | None = None
    """Only items of this category; the same as `filter` by the attribute `category`."""
    filter: (
        dict[
            Value,
            Annotated[
                list[Value],
                Field(min_length=1, fail_fast=True),
                BeforeValidator(_listed, json_schema_input_type=Value | list[Value]),
            ],
        ]
        | None
    ) = None
    """Only items that have, of each of these attributes, one of the values: a text or a list of texts."""
    candidates: Annotated[IdList, Field(min_length=1)] | None = None
    """Only these items."""
    k: int | None = None
    """How many items; left out: the recommender's `serving.k`."""
    exclude: IdList = []
    """Never these items."""
    surface: Annotated[str, Field(min_length=1, max_length=SURFACE_LENGTH)] | None = None
    """Where the ranking is shown, such as `home`: rules may hold there only, and logs and metrics name it."""
    explain: bool = False
    """The answer tells what rules took away."""
    precomputed: bool = False
    """The customer's list of the last batch will do, where it holds enough that may be shown."""

    @property
    def leaves_events(self) -> bool:
        """Whether the recent events of its session or customer are asked of the online store."""
        brings = self.items is not None or self.events is not None or self.item is not None
        return not brings and (self.session is not None or self.customer is not None)

    @property
    def filters(self) -> Mapping[str, list[str]]:
        """Attributes and the values of each that are asked for, without `category`."""
        return self.filter or {}


class DiscreetRequest(RankRequest):
    """One whose explanation is the same whatever the customer owns."""

    tells_owned: ClassVar[bool] = False

    @classmethod
    def of(cls, request: RankRequest) -> Self:
        """The same, asked discreetly."""
        return cls.model_construct(request.model_fields_set, **request.__dict__)


_KEYS, _EVENT_KEYS = frozenset(RankRequest.model_fields), frozenset(Event.model_fields)
_validate = RankRequest.__pydantic_validator__.validate_python


def parse_instance(
    value: Any, number: int, limits: Serving, attributes: Mapping[str, Collection[str]] | None = None
) -> RankRequest:
    """One checked request. `attributes`: the categorical attributes of the shop's items, and the values of each.

    Raises RequestError, which names the instance, the key, what was found and what is allowed.
    """
    try:
        _check_sizes(value, limits)
        try:
            request: RankRequest = _validate(value)
        except ValidationError as error:
            _refuse_unknown_keys(value.get("events"))
            raise refusal(error) from None
        _check_session(request)
        if request.k is not None and not 1 <= request.k <= limits.max_k:
            found = plain(request.k)
            raise RequestError(
                f"k: found {found}; allowed: 1 to {limits.max_k:,}",
                code="request.out-of-range",
                at="k",
                found=found,
                least=1,
                most=limits.max_k,
            )
        if request.category is not None:
            _check_values(CATEGORY, CATEGORY, [request.category], attributes or {})
        for name, values in request.filters.items():
            _check_values(spelled(("filter", name)), name, values, attributes or {})
    except RequestError as error:
        raise within(error, number) from None
    return request


def _check_sizes(value: Any, limits: Serving) -> None:
    """Refuse what is too much before each element is looked at."""
    if not isinstance(value, dict):
        allowed = "an object with one of items, events, item"
        shown = show(value)
        raise RequestError(
            f"found {shown}; allowed: {allowed}", code="request.wrong-type", at="request", found=shown, allowed=allowed
        )
    if not value.keys() <= _KEYS:
        raise unknown_key((), next(key for key in value if key not in _KEYS), RankRequest.model_fields)
    for key, limit in (
        ("items", limits.max_events),
        ("events", limits.max_events),
        ("candidates", limits.max_candidates),
        ("exclude", limits.max_candidates),
    ):
        _check_size(key, value.get(key), limit)
    events = value.get("events")
    if isinstance(events, list) and any(len(event) > len(_EVENT_KEYS) for event in events if isinstance(event, dict)):
        _refuse_unknown_keys(events)
    wanted = value.get("filter")
    if isinstance(wanted, dict):
        if len(wanted) > MAX_ATTRIBUTES:
            raise too_many("filter", "attributes", len(wanted), MAX_ATTRIBUTES)
        for name, values in wanted.items():
            _check_size(spelled(("filter", name)), values, limits.max_candidates)


def _check_size(key: str, value: Any, limit: int) -> None:
    if isinstance(value, list) and len(value) > limit:
        raise too_many(key, "entries", len(value), limit)


def _refuse_unknown_keys(events: Any) -> None:
    """The first of an event's unknown keys, of which there may be very many: pydantic would tell of each."""
    for place, event in enumerate(events if isinstance(events, list) else ()):
        if isinstance(event, dict) and not event.keys() <= _EVENT_KEYS:
            unknown = next(key for key in event if key not in _EVENT_KEYS)
            raise unknown_key(("events", place), unknown, Event.model_fields)


def _check_session(request: RankRequest) -> None:
    given = [key for key in ("items", "events", "item") if getattr(request, key) is not None]
    if len(given) > 1 or not (given or request.session or request.customer):
        raise RequestError(
            f"found {' and '.join(given) or 'none of items, events, item'}; allowed: exactly one of them "
            '("items": [] asks for a fresh shopper), or none with session or customer, whose recent events then count',
            code="request.not-one-session",
            at="request",
            found=given,
            allowed=["items", "events", "item"],
        )
    if request.precomputed and request.customer is None:
        raise RequestError(
            "precomputed: found no customer; allowed: with customer, whose list it is",
            code="request.customer-missing",
            at="precomputed",
        )


def _check_values(key: str, attribute: str, asked: list[str], attributes: Mapping[str, Collection[str]]) -> None:
    if attribute not in attributes:
        if key == CATEGORY:
            raise RequestError(
                f"category: found {show(asked[0])}; this shop's items have no category",
                code="request.unknown-attribute",
                at=key,
                found=CATEGORY,
                count=len(attributes),
                near=[],
            )
        near = nearest(attribute, attributes, 5)
        allowed = (
            f"one of {len(attributes)}, nearest: {quoted(near)}" if near else "none, items have no attributes of texts"
        )
        raise RequestError(
            f"filter: the attribute {show(attribute)} is not known; allowed: {allowed}",
            code="request.unknown-attribute",
            at="filter",
            found=plain(attribute),
            count=len(attributes),
            near=near,
        )
    values = attributes[attribute]
    unknown = next((value for value in asked if value not in values), None)
    if unknown is not None:
        near = nearest(unknown, values)
        raise RequestError(
            f"{key}: {show(unknown)} is not known; allowed: one of {len(values):,}, nearest: {quoted(near)}",
            code="request.unknown-value",
            at=key,
            found=plain(unknown),
            count=len(values),
            near=near,
        )
