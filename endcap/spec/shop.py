"""The shop: what the data is. All recommenders of a shop share it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, ValidationInfo, field_validator

from endcap.spec.base import (
    Duration,
    Mistake,
    Name,
    Share,
    Strict,
    check,
    collect_mistakes,
    find_repeats,
    is_whole,
    make_mistakes_error,
    select_known,
    suggest,
)
from endcap.spec.condition import Conditions
from endcap.spec.rules import Rules
from endcap.spec.source import SourceSpec
from endcap.spec.time_format import ALLOWED, find_wrong_formats
from endcap.spec_renames import ApiVersion

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


class EventSource(SourceSpec):
    layout: Layout = "columns"
    """A published layout that is read as it is; `columns`: by the shop's column mapping."""
    type: Annotated[str, Field(min_length=1)] | None = None
    """The type of all events of this source, whatever the column of types or the layout says."""
    part: Literal["train", "test"] = "train"
    """`test`: sessions kept apart for `split: {by: given}`; they are never filtered."""


class ItemSource(SourceSpec):
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
    """How texts say a time that are not ISO 8601, in strptime's letters: `%m/%d/%Y %H:%M`. Of several, the first that
    fits counts, and nothing else is read. `%z` is an offset or Z, `%Z` one of Z, UTC and GMT."""
    zone: str = "UTC"
    """Zone of texts that name none, as in the IANA data base."""

    @field_validator("format")
    @classmethod
    def _formats_give_days(cls, formats: list[str] | str | None) -> list[str] | str | None:
        if formats is None:
            return formats
        texts = [formats] if isinstance(formats, str) else formats
        if wrong := find_wrong_formats(texts):
            places: list[tuple[int, ...]] = [() if isinstance(formats, str) else (place,) for place, _ in wrong]
            raise make_mistakes_error(
                [
                    Mistake(at, f"{texts[place]!r}: {why}", ALLOWED, code="not-allowed")
                    for at, (place, why) in zip(places, wrong, strict=True)
                ]
            )
        return formats

    @check
    def _one_way_of_reading(self) -> Iterator[Mistake]:
        if self.format is not None and self.unit != "iso":
            allowed = f"one of both: a format for texts, or the unit {self.unit} for numbers"
            yield Mistake(("format",), f"a format, and the unit {self.unit}", allowed, code="conflict")

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
            raise make_mistakes_error([Mistake((), repr(zone), allowed, hint, code="unknown-name")]) from None
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
    null_values: list[str] = list(MISSING)
    """Words that stand for no value in the columns of session, customer, type and time."""
    null_item_values: list[str] = []
    """The same for items. None by default, for such a word may be an item's id."""
    float_ids: Literal["refuse", "whole"] = "refuse"
    """Ids such as 123.0: bad rows, or (`whole`) read as 123. Ids such as 1.2E+08, which lost digits, are always bad."""
    drop_duplicates: bool = False
    """Rows equal in session, customer, item, time and type count once. Many logs repeat real events: off by default."""
    max_bad_share: Share = 0.01
    """The run stops when a larger share of rows is bad, out of those that no rule leaves out."""

    @check
    def _types_are_said(self) -> Iterator[Mistake]:
        if self.types is None or self.columns.type is not None:
            return
        if any(source.layout == "columns" and source.type is None for source in select_known(self.sources).values()):
            allowed = "such a list where all events have types: name events.columns.type, or a type of each source"
            yield Mistake(("types",), str(self.types), allowed, code="conflict")


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

    @check
    def _one_layout(self) -> Iterator[Mistake]:
        first, *rest = (source.layout for source in self.sources)
        for number, layout in select_known(rest).items():
            if layout != first:
                allowed = f"{first}, as of the first source: an item table has one layout"
                yield Mistake(("sources", number + 1, "layout"), layout, allowed, code="conflict")

    @check
    def _a_layout_knows_its_columns(self) -> Iterator[Mistake]:
        layout = self.sources[0].layout
        if layout != "columns" and (not is_whole(self.columns) or self.columns != ItemColumns()):
            allowed = f"nothing: the layout {layout} names its own; take items.columns out"
            yield Mistake(("columns",), "columns", allowed, code="conflict")


class CustomerColumns(Strict):
    customer: str = "customer"


class Customers(Strict):
    """The customer table, one row a customer."""

    sources: Annotated[list[SourceSpec], Field(min_length=1)]
    columns: CustomerColumns = CustomerColumns()
    categorical: list[str] = []
    numeric: list[str] = []


class SessionsSpec(Strict):
    by: Literal["given", "gap"] = "given"
    """`given`: the session column; `gap`: a customer's events, cut where nothing happened for `gap`, also nothing of a
    type that is not kept."""
    gap: Duration = Field(default="30m", validate_default=True)


class Filters(Strict):
    """Applied again and again until nothing more falls out (to a fixed point)."""

    min_session_events: Annotated[int, Field(ge=1)] = 2
    min_item_events: Annotated[int, Field(ge=1)] = 1
    min_customer_events: Annotated[int, Field(ge=1)] = 1
    """Events without a customer are not judged by this."""


class EventFeature(Strict):
    """An event-level feature; each kind is declared once, in `endcap.features.event_features`."""

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

    @check
    def _kind_has_types(self) -> Iterator[Mistake]:
        if self.types is not None and self.kind != "type":
            allowed = "nothing: only a feature of the kind 'type' has types"
            yield Mistake(("types",), str(self.types), allowed, code="conflict")

    @check
    def _kind_has_an_order(self) -> Iterator[Mistake]:
        if self.buckets is not None and self.kind == "type":
            allowed = "nothing: types have no order to cut"
            yield Mistake(("buckets",), str(self.buckets), allowed, code="conflict")

    @check
    def _types_differ(self) -> Iterator[Mistake]:
        if self.types is not None and (not self.types or find_repeats(self.types)):
            yield Mistake(("types",), str(self.types), "one type or more, each once", code="not-allowed")

    @check
    def _edges_ascend(self) -> Iterator[Mistake]:
        edges = self.buckets
        if edges is not None and (not edges or any(b <= a for a, b in itertools.pairwise(edges))):
            allowed = "one number or more, each larger than the one before"
            yield Mistake(("buckets",), str(edges), allowed, code="not-allowed")


class Features(Strict):
    events: list[EventFeature] = []

    @check
    def _names_differ(self) -> Iterator[Mistake]:
        names = [feature.name for feature in self.events]
        for number in find_repeats(names):
            yield Mistake(("events", number, "name"), f"{names[number]!r} again", "each name once", code="duplicate")

    @check
    def _one_tells_types_apart(self) -> Iterator[Mistake]:
        kinds = select_known([feature.kind for feature in self.events])
        for number in [number for number, kind in kinds.items() if kind == "type"][1:]:
            allowed = "one feature of the kind 'type': it tells all types apart"
            yield Mistake(("events", number, "kind"), "'type' again", allowed, code="duplicate")


class Shop(Strict):
    """What a shop's data is."""

    apiVersion: ApiVersion
    kind: Literal["Shop"]
    name: Name
    events: Events
    items: Items | None = None
    customers: Customers | None = None
    sessions: SessionsSpec = Field(default=SessionsSpec(), validate_default=True)
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

    @field_validator("features")
    @classmethod
    def _fill_in_types(cls, features: Features, info: ValidationInfo) -> Features:
        """A feature of the kind `type` says itself which types it tells apart, wherever it is carried."""
        events = info.data.get("events")
        types = None if events is None else events.types
        named = [
            feature.model_copy(update={"types": types}) if feature.kind == "type" and feature.types is None else feature
            for feature in features.events
        ]
        return features.model_copy(update={"events": named})

    @check
    def _types_are_named(self) -> Iterator[Mistake]:
        if self.events.types is not None:
            return
        for number, feature in select_known(self.features.events).items():
            if feature.types is None and select_known([feature.kind]) and feature.kind == "type":
                allowed = "a list of event types, here or in events.types"
                yield Mistake(("features", "events", number, "types"), "nothing", allowed, code="missing")

    @check
    def _sessions_have_their_column(self) -> Iterator[Mistake]:
        by = self.sessions.by
        column, other = ("session", "gap") if by == "given" else ("customer", "given")
        layouts = [source.layout for source in self.events.sources]
        if lacking := [layout for layout in select_known(layouts).values() if layout in WITHOUT[column]]:
            actual = f"{by!r}, and the layout {lacking[0]} has no {column}s"
            yield Mistake(("sessions", "by"), actual, repr(other), code="conflict")
        elif "columns" in select_known(layouts).values() and not getattr(self.events.columns, column):
            actual = f"{by!r}, and no events.columns.{column}"
            allowed = f"{by!r} with events.columns.{column} named, or {other!r}"
            yield Mistake(("sessions", "by"), actual, allowed, code="conflict")

    @check
    def _rules_speak_of_known_attributes(self) -> Iterator[Mistake]:
        texts = "a categorical attribute"
        return collect_mistakes(
            self._attribute(("rules", "attributes", number, "attribute"), rule.attribute, texts, numeric=False)
            for number, rule in select_known(self.rules.attributes).items()
        )

    @check
    def _stock_is_a_known_number(self) -> Iterator[Mistake]:
        if (stock := self.rules.stock) is not None:
            key = ("rules", "stock", "attribute")
            yield from self._attribute(key, stock.attribute, "a numeric attribute", numeric=True)

    def _attribute(self, key: tuple[str | int, ...], name: str, kind: str, *, numeric: bool) -> Iterator[Mistake]:
        items = self.items
        attributes, numbers = (items.attributes, items.numbers) if items is not None else ([], [])
        names = numbers if numeric else [attribute for attribute in attributes if attribute not in numbers]
        if name not in names:
            without = "none" if items is not None else "none, the shop has no `items`"
            allowed = f"{kind} of the shop's items: {', '.join(names) or without}"
            yield Mistake(key, repr(name), allowed, suggest(name, names), code="unknown-name")

    @check
    def _what_is_owned_has_a_type(self) -> Iterator[Mistake]:
        if self.rules.owned is None:
            return
        sources = self.events.sources
        typed = self.events.columns.type or any(source.type for source in sources)
        if not typed and {source.layout for source in sources} == {"columns"}:
            allowed = "such a rule where events have types: name events.columns.type"
            yield Mistake(("rules", "owned", "types"), str(self.rules.owned.types), allowed, code="conflict")
