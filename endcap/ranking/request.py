"""A ranking request: one instance of the V1 protocol, checked before anything is scored.

The event loop checks requests, so the work is bounded: an oversized value is refused before its elements are checked,
the check of a list stops at the first mistake, and pydantic's core does the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
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
from endcap.ranking.request_errors import (
    add_instance,
    describe_value,
    find_nearest,
    join_names,
    join_place,
    quote_value,
    too_many_error,
    translate_error,
    unknown_key_error,
)
from endcap.spec.base import EARLIEST_MS
from endcap.spec.serving import ServingSpec

CLOCK_SKEW_MS = 86_400_000
SURFACE_LENGTH = 64
MAX_ATTRIBUTES = 16
"""Attributes that one request may filter by."""
CATEGORY = "category"


def _parse_time(text: str) -> int:
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


def _check_order(events: list[RequestEvent]) -> list[RequestEvent]:
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


def _wrap_text(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Id = Annotated[str, Field(min_length=1, max_length=ids.LONGEST, pattern=ids.PATTERN)]
Value = Annotated[str, Field(min_length=1, max_length=ids.LONGEST)]
"""An attribute's name or value. The rule for ids does not apply to it."""
IdList = Annotated[list[Id], Field(fail_fast=True)]
_Number = Annotated[int, Field(ge=EARLIEST_MS)]
_Text = Annotated[str, Field(max_length=ids.LONGEST), AfterValidator(_parse_time)]


class _NumberOrText:
    """An integer that may be written as text. Pydantic's core checks a number without running Python code."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(Annotated[_Number | _Text | None, Field(union_mode="left_to_right")])


class _RequestModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class RequestEvent(_RequestModel):
    item: Id
    time: Annotated[int | None, _NumberOrText()] = None
    """Epoch milliseconds; without times, events count as happening when the request arrives."""
    type: Annotated[str, Field(max_length=ids.LONGEST)] | None = None
    """An event of a type that the shop does not train on is skipped; without a type it counts."""


class RankRequest(_RequestModel):
    """What is ranked for is said by exactly one of `items`, `events` and `item`; an empty session is a fresh shopper's.

    Or by none of them, where `session` or `customer` is given: the recent events are then the online store's.
    """

    explains_owned: ClassVar[bool] = True
    """Whether an explanation says what the customer owns."""

    items: IdList | None = None
    """The session's item ids, oldest first."""
    events: Annotated[list[RequestEvent], Field(fail_fast=True), AfterValidator(_check_order)] | None = None
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
                BeforeValidator(_wrap_text, json_schema_input_type=Value | list[Value]),
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
    def needs_stored_events(self) -> bool:
        """Whether the session's recent events must come from the online store."""
        brings = self.items is not None or self.events is not None or self.item is not None
        return not brings and (self.session is not None or self.customer is not None)

    def map_owners(self, map_id: Callable[[str], str]) -> Self:
        """Return the same request with other ids of the customer and the session."""
        ids_of = {name: value for name in ("customer", "session") if (value := getattr(self, name)) is not None}
        if not ids_of:
            return self
        mapped = {name: map_id(value) for name, value in ids_of.items()}
        return self.model_construct(self.model_fields_set, **(self.__dict__ | mapped))

    @property
    def filters(self) -> Mapping[str, list[str]]:
        """The attributes that the request filters by, with the accepted values; without `category`."""
        return self.filter or {}


class DiscreetRequest(RankRequest):
    """A request whose explanation does not depend on what the customer owns."""

    explains_owned: ClassVar[bool] = False

    @classmethod
    def from_request(cls, request: RankRequest) -> Self:
        """Return the same request with a discreet explanation."""
        return cls.model_construct(request.model_fields_set, **request.__dict__)


_KEYS, _EVENT_KEYS = frozenset(RankRequest.model_fields), frozenset(RequestEvent.model_fields)
_validate = RankRequest.__pydantic_validator__.validate_python


def parse_instance(
    value: Any, number: int, limits: ServingSpec, attributes: Mapping[str, Collection[str]] | None = None
) -> RankRequest:
    """Check one instance of the V1 protocol.

    Parameters
    ----------
    value
        The instance as JSON values.
    number
        Its position in the call, from 0.
    limits
        The recommender's limits.
    attributes
        The categorical attributes of the shop's items, with their values.

    Raises
    ------
    RequestError
        If the instance is invalid. The error names the instance, the key, what was found and what is allowed.
    """
    try:
        _check_sizes(value, limits)
        try:
            request: RankRequest = _validate(value)
        except ValidationError as error:
            _check_event_keys(value.get("events"))
            raise translate_error(error) from None
        _check_session(request)
        if request.k is not None and not 1 <= request.k <= limits.max_k:
            text = quote_value(request.k)
            raise RequestError(
                f"k: found {text}; allowed: 1 to {limits.max_k:,}",
                code="request.out-of-range",
                at="k",
                found=text,
                least=1,
                most=limits.max_k,
            )
        if request.category is not None:
            _check_values(CATEGORY, CATEGORY, [request.category], attributes or {})
        for name, values in request.filters.items():
            _check_values(join_place(("filter", name)), name, values, attributes or {})
    except RequestError as error:
        raise add_instance(error, number) from None
    return request


def _check_sizes(value: Any, limits: ServingSpec) -> None:
    """Refuse oversized values before their elements are checked."""
    if not isinstance(value, dict):
        allowed = "an object with one of items, events, item"
        text = describe_value(value)
        raise RequestError(
            f"found {text}; allowed: {allowed}", code="request.wrong-type", at="request", found=text, allowed=allowed
        )
    if not value.keys() <= _KEYS:
        raise unknown_key_error((), next(key for key in value if key not in _KEYS), RankRequest.model_fields)
    for key, limit in (
        ("items", limits.max_events),
        ("events", limits.max_events),
        ("candidates", limits.max_candidates),
        ("exclude", limits.max_candidates),
    ):
        _check_size(key, value.get(key), limit)
    events = value.get("events")
    if isinstance(events, list) and any(len(event) > len(_EVENT_KEYS) for event in events if isinstance(event, dict)):
        _check_event_keys(events)
    filters = value.get("filter")
    if isinstance(filters, dict):
        if len(filters) > MAX_ATTRIBUTES:
            raise too_many_error("filter", "attributes", len(filters), MAX_ATTRIBUTES)
        for name, values in filters.items():
            _check_size(join_place(("filter", name)), values, limits.max_candidates)


def _check_size(key: str, value: Any, limit: int) -> None:
    if isinstance(value, list) and len(value) > limit:
        raise too_many_error(key, "entries", len(value), limit)


def _check_event_keys(events: Any) -> None:
    """Refuse the first unknown key of an event. Pydantic would list all, and there may be very many."""
    for place, event in enumerate(events if isinstance(events, list) else ()):
        if isinstance(event, dict) and not event.keys() <= _EVENT_KEYS:
            unknown = next(key for key in event if key not in _EVENT_KEYS)
            raise unknown_key_error(("events", place), unknown, RequestEvent.model_fields)


def _check_session(request: RankRequest) -> None:
    keys = [key for key in ("items", "events", "item") if getattr(request, key) is not None]
    if len(keys) > 1 or not (keys or request.session or request.customer):
        raise RequestError(
            f"found {' and '.join(keys) or 'none of items, events, item'}; allowed: exactly one of them "
            '("items": [] asks for a fresh shopper), or none with session or customer, whose recent events then count',
            code="request.not-one-session",
            at="request",
            found=keys,
            allowed=["items", "events", "item"],
        )
    if request.precomputed and request.customer is None:
        raise RequestError(
            "precomputed: found no customer; allowed: with customer, whose list it is",
            code="request.customer-missing",
            at="precomputed",
        )


def _check_values(key: str, attribute: str, chosen: list[str], attributes: Mapping[str, Collection[str]]) -> None:
    if attribute not in attributes:
        if key == CATEGORY:
            raise RequestError(
                f"category: found {describe_value(chosen[0])}; this shop's items have no category",
                code="request.unknown-attribute",
                at=key,
                found=CATEGORY,
                count=len(attributes),
                near=[],
            )
        matches = find_nearest(attribute, attributes, 5)
        allowed = (
            f"one of {len(attributes)}, nearest: {join_names(matches)}"
            if matches
            else "none, items have no attributes of texts"
        )
        raise RequestError(
            f"filter: the attribute {describe_value(attribute)} is not known; allowed: {allowed}",
            code="request.unknown-attribute",
            at="filter",
            found=quote_value(attribute),
            count=len(attributes),
            near=matches,
        )
    values = attributes[attribute]
    unknown = next((value for value in chosen if value not in values), None)
    if unknown is not None:
        matches = find_nearest(unknown, values)
        raise RequestError(
            f"{key}: {describe_value(unknown)} is not known; allowed: one of {len(values):,}, "
            f"nearest: {join_names(matches)}",
            code="request.unknown-value",
            at=key,
            found=quote_value(unknown),
            count=len(values),
            near=matches,
        )
