"""The shop: what the data is. All recommenders of a shop share it."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, ValidationInfo, field_validator

from endcap.spec.base import ApiVersion, Duration, Mistake, Name, Share, Strict, mistakes, suggest
from endcap.spec.condition import Conditions
from endcap.spec.rules import Rules
from endcap.spec.source import Source

Layout = Literal[
    "columns",
    "yoochoose-clicks",
    "yoochoose-buys",
    "diginetica-views",
    "diginetica-purchases",
    "rees46",
    "retailrocket",
    "movielens-recbole",
    "movielens-100k",
    "movielens-1m",
    "movielens-20m",
    "otto",
    "ga4",
    "segment",
    "snowplow",
]
ItemLayout = Literal[
    "columns",
    "rees46",
    "retailrocket",
    "movielens-recbole",
    "movielens-100k",
    "movielens-1m",
    "movielens-20m",
    "ga4",
    "segment",
    "snowplow",
]
WITHOUT = {"session": ("retailrocket", "segment"), "customer": ("yoochoose-clicks", "yoochoose-buys", "otto")}
"""Layouts that have no such column."""
PRICED = ("rees46", "ga4", "segment", "snowplow")
"""Item layouts with a price; all have a category."""
LIMITED = {"repeat": 2, "hour": 24, "weekday": 7}
"""How many integer values from 0 kinds of event features have, where they are not without limit."""


MISSING = (
    "NULL", "Null", "null", "None", "none", "NaN", "nan", "NA", "N/A", "n/a", "#N/A", "<NA>", "\\N", "(null)", "(none)",
    "(not set)", "undefined",
)  # fmt: skip
"""Words that data bases, pandas, spreadsheets and scripts write where there is no value."""


class EventSource(Source):
    layout: Layout = "columns"
    """A published layout that is read as it is; `columns`: by the shop's column mapping."""
    type: str | None = None
    """The type of all events of this source, where no column says it."""
    part: Literal["train", "test"] = "train"
    """`test`: sessions kept apart for `split: {by: given}`; they are never filtered."""


class ItemSource(Source):
    layout: ItemLayout = "columns"
    """A published layout that is read as it is; `columns`: by `items.columns`."""


Columns = str | Annotated[list[str], Field(min_length=1)]
"""A column, or several whose values together are the id."""


class EventColumns(Strict):
    """Which column of the source holds what.

    A name may be a path into nested values: `properties.product_id`, `items[].item_id` (an event for each element),
    `event_params[key=ga_session_id].value.int_value` (of the element whose `key` is that), or several with ` | `
    between, of which the first counts that has a value. A column that is literally so named comes first.
    """

    item: str = "item"
    time: str = "time"
    session: Columns | None = None
    """The visit. Visits of different customers are different sessions, whatever their ids."""
    customer: Columns | None = None
    type: str | None = None


class TimeRule(Strict):
    unit: Literal["s", "ms", "us", "ns", "iso"] = "iso"
    """Epoch seconds, milliseconds, microseconds or nanoseconds, or ISO 8601 text."""
    format: Annotated[list[str], Field(min_length=1)] | str | None = None
    """How texts that are not ISO 8601 say a time, in strptime's letters: `%m/%d/%Y %H:%M`. Of several, the first that
    fits counts."""
    zone: str = "UTC"
    """Zone of texts that name none, as in the IANA data base."""

    @field_validator("zone")
    @classmethod
    def _zone_exists(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            allowed, hint = (
                "a zone of the IANA data base, such as UTC or Europe/Zurich",
                suggest(zone, available_timezones()),
            )
            raise mistakes([Mistake((), repr(zone), allowed, hint, code="unknown-name")]) from None
        return zone


class Events(Strict):
    sources: Annotated[list[EventSource], Field(min_length=1)]
    columns: EventColumns = EventColumns()
    time: TimeRule = TimeRule()
    types: list[str] | None = None
    """Event types to keep; left out: all."""
    returns: Conditions = {}
    """What takes an order back, such as `{quantity: {below: 0}, invoice: {prefix: C}}`: a row that fits one of these
    conditions is left out, and counted."""
    missing: list[str] = list(MISSING)
    """Words that stand for no value in the columns of session, customer, type and time."""
    missing_items: list[str] = []
    """The same for items. None by default, for such a word may be an item's id."""
    float_ids: Literal["refuse", "whole"] = "refuse"
    """Ids such as 123.0: bad rows, or (`whole`) read as 123. Ids such as 1.2E+08, which lost digits, are always bad."""
    drop_duplicates: bool = False
    """Rows equal in session, customer, item, time and type count once. Many logs repeat real events: off by default."""
    max_bad_share: Share = 0.01
    """The run stops when a larger share of rows is bad, out of those that no rule leaves out."""


class ItemColumns(Strict):
    item: str = "item"
    title: str | None = None
    category: str | None = None
    price: str | None = None


class Items(Strict):
    """The item table, one row an item; a later row of the same item replaces an earlier one.

    Of layouts whose rows bear a time, the row last in time counts that is not later than the log's last event.
    """

    sources: Annotated[list[ItemSource], Field(min_length=1)]
    columns: ItemColumns = ItemColumns()
    categorical: list[str] = []
    """Further columns kept as text."""
    numeric: list[str] = []
    """Further columns kept as numbers."""

    @property
    def attributes(self) -> list[str]:
        """Names of the attributes that say what an item is like: those that a model may be given."""
        layout = self.sources[0].layout
        if layout == "columns":
            own = [name for name in ("category", "price") if getattr(self.columns, name) is not None]
        else:
            own = ["category", "price"] if layout in PRICED else ["category"]
        return [*own, *self.categorical, *self.numeric]

    @property
    def numbers(self) -> list[str]:
        """Those of the attributes that are numbers."""
        return [name for name in self.attributes if name in ("price", *self.numeric)]

    @field_validator("sources")
    @classmethod
    def _one_layout(cls, sources: list[ItemSource]) -> list[ItemSource]:
        first = sources[0].layout
        others = [number for number, source in enumerate(sources) if source.layout != first]
        if others:
            allowed = f"{first}, as of the first source: an item table has one layout"
            raise mistakes([Mistake((n, "layout"), sources[n].layout, allowed, code="conflict") for n in others])
        return sources

    @field_validator("columns")
    @classmethod
    def _a_layout_knows_its_columns(cls, columns: ItemColumns, info: ValidationInfo) -> ItemColumns:
        sources = info.data.get("sources")
        if sources and sources[0].layout != "columns" and columns != ItemColumns():
            allowed = f"nothing: the layout {sources[0].layout} names its own; take items.columns out"
            raise mistakes([Mistake((), "columns", allowed, code="conflict")])
        return columns


class CustomerColumns(Strict):
    customer: str = "customer"


class Customers(Strict):
    """The customer table, one row a customer."""

    sources: Annotated[list[Source], Field(min_length=1)]
    columns: CustomerColumns = CustomerColumns()
    categorical: list[str] = []
    numeric: list[str] = []


class Sessions(Strict):
    by: Literal["given", "gap"] = "given"
    """`given`: the session column; `gap`: a customer's events, cut where nothing happened for `gap`."""
    gap: Duration = Field(default="30m", validate_default=True)


class Filters(Strict):
    """Applied again and again until nothing more falls out (to a fixed point)."""

    min_session_events: Annotated[int, Field(ge=1)] = 2
    min_item_events: Annotated[int, Field(ge=1)] = 1
    min_customer_events: Annotated[int, Field(ge=1)] = 1
    """Events without a customer are not judged by this."""


class EventFeature(Strict):
    """An event-level feature; each kind is declared once, in `endcap.features.declare`."""

    name: Name
    kind: Literal["position", "gap", "repeat", "hour", "weekday", "type"]
    """position in the session (from 0), seconds since the session's previous event (0 for the first),
    whether the item was seen before in the session, hour of the day and day of the week (Monday 0), both UTC,
    the event's type (its place in `types` from 1; 0 where it is none of them or not said)."""
    buckets: list[float] | None = None
    """Ascending edges: the value becomes the number of edges that it reaches."""
    types: list[str] | None = None
    """Of the kind `type`, which types are told apart; left out: those of `events.types`."""

    @property
    def values(self) -> int | None:
        """How many integer values from 0 there are; None where they are not bucketed and without limit."""
        if self.kind == "type":
            return len(self.types or []) + 1
        return LIMITED.get(self.kind) if self.buckets is None else len(self.buckets) + 1

    @field_validator("types")
    @classmethod
    def _types_differ(cls, types: list[str] | None, info: ValidationInfo) -> list[str] | None:
        if types is not None and info.data.get("kind", "type") != "type":
            allowed = "nothing: only a feature of the kind 'type' has types"
            raise mistakes([Mistake((), str(types), allowed, code="conflict")])
        if types is not None and (not types or len(set(types)) < len(types)):
            raise mistakes([Mistake((), str(types), "one type or more, each once", code="not-allowed")])
        return types

    @field_validator("buckets")
    @classmethod
    def _edges_ascend(cls, buckets: list[float] | None, info: ValidationInfo) -> list[float] | None:
        if buckets is not None and info.data.get("kind") == "type":
            allowed = "nothing: types have no order to cut"
            raise mistakes([Mistake((), str(buckets), allowed, code="conflict")])
        if buckets is not None and (not buckets or any(b <= a for a, b in itertools.pairwise(buckets))):
            allowed = "one number or more, each larger than the one before"
            raise mistakes([Mistake((), str(buckets), allowed, code="not-allowed")])
        return buckets


class Features(Strict):
    events: list[EventFeature] = []

    @field_validator("events")
    @classmethod
    def _names_differ(cls, events: list[EventFeature]) -> list[EventFeature]:
        names = [feature.name for feature in events]
        twice = [number for number, name in enumerate(names) if name in names[:number]]
        if twice:
            raise mistakes(
                [Mistake((n, "name"), f"{names[n]!r} again", "each name once", code="duplicate") for n in twice]
            )
        typed = [number for number, feature in enumerate(events) if feature.kind == "type"]
        if len(typed) > 1:
            allowed = "one feature of the kind 'type': it tells all types apart"
            raise mistakes([Mistake((n, "kind"), "'type' again", allowed, code="duplicate") for n in typed[1:]])
        return events


class Shop(Strict):
    """What a shop's data is."""

    apiVersion: ApiVersion
    kind: Literal["Shop"]
    name: Name
    events: Events
    items: Items | None = None
    customers: Customers | None = None
    sessions: Sessions = Field(default=Sessions(), validate_default=True)
    filters: Filters = Filters()
    window: Duration | None = None
    """Look-back window that ends at the run's logical date; left out: everything before that date."""
    features: Features = Features()
    rules: Rules = Rules()
    """What may be shown to whom, whatever a model thinks of it."""

    @property
    def kept_types(self) -> list[str] | None:
        """Types of the events that a snapshot keeps: those trained on, and those that make an item a customer's; None:
        all."""
        if self.events.types is None or self.rules.owned is None:
            return self.events.types
        return [*self.events.types, *(name for name in self.rules.owned.types if name not in self.events.types)]

    # On the later key, so that it speaks also when unrelated keys are wrong.
    @field_validator("sessions")
    @classmethod
    def _sessions_have_their_column(cls, sessions: Sessions, info: ValidationInfo) -> Sessions:
        events = info.data.get("events")
        if events is None:
            return sessions
        column, other = ("session", "gap") if sessions.by == "given" else ("customer", "given")
        layouts = [source.layout for source in events.sources]
        if lacking := [layout for layout in layouts if layout in WITHOUT[column]]:
            found = f"{sessions.by!r}, and the layout {lacking[0]} has no {column}s"
            raise mistakes([Mistake(("by",), found, repr(other), code="conflict")])
        if "columns" in layouts and not getattr(events.columns, column):
            found = f"{sessions.by!r}, and no events.columns.{column}"
            allowed = f"{sessions.by!r} with events.columns.{column} named, or {other!r}"
            raise mistakes([Mistake(("by",), found, allowed, code="conflict")])
        return sessions

    @field_validator("features")
    @classmethod
    def _types_are_named(cls, features: Features, info: ValidationInfo) -> Features:
        """A feature of the kind `type` says itself which types it tells apart, wherever it is carried."""
        events = info.data.get("events")
        if events is None:
            return features
        lacking = [number for number, one in enumerate(features.events) if one.kind == "type" and one.types is None]
        if lacking and events.types is None:
            allowed = "a list of event types, here or in events.types"
            raise mistakes([Mistake(("events", n, "types"), "nothing", allowed, code="missing") for n in lacking])
        if not lacking:
            return features
        named = [
            one.model_copy(update={"types": events.types}) if number in lacking else one
            for number, one in enumerate(features.events)
        ]
        return features.model_copy(update={"events": named})

    @field_validator("rules")
    @classmethod
    def _rules_speak_of_known_attributes(cls, rules: Rules, info: ValidationInfo) -> Rules:
        items: Items | None = info.data.get("items")
        attributes, numbers = (items.attributes, items.numbers) if items is not None else ([], [])
        texts = [name for name in attributes if name not in numbers]
        named: list[tuple[tuple[str | int, ...], str, list[str], str]] = [
            (("attributes", number, "attribute"), rule.attribute, texts, "a categorical attribute")
            for number, rule in enumerate(rules.attributes)
        ]
        if rules.stock is not None:
            named.append((("stock", "attribute"), rules.stock.attribute, numbers, "a numeric attribute"))
        without = "none" if items is not None else "none, the shop has no `items`"
        found = [
            Mistake(
                key,
                repr(name),
                f"{kind} of the shop's items: {', '.join(known) or without}",
                suggest(name, known),
                code="unknown-name",
            )
            for key, name, known, kind in named
            if name not in known
        ]
        events: Events | None = info.data.get("events")
        typed = events is None or events.columns.type or any(source.type for source in events.sources)
        layouts = set() if typed or events is None else {source.layout for source in events.sources}
        if rules.owned is not None and layouts == {"columns"}:
            allowed = "such a rule where events have types: name events.columns.type"
            found.append(Mistake(("owned", "types"), str(rules.owned.types), allowed, code="conflict"))
        if found:
            raise mistakes(found)
        return rules
