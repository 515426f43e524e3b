"""The shop's event log: its sources, its columns, and how values are read."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, field_validator

from endcap.spec.base import Carried, Mistake, Share, Strict, check, make_mistakes_error, select_known, suggest
from endcap.spec.condition import Conditions
from endcap.spec.layouts import Layout
from endcap.spec.source import SourceSpec
from endcap.spec.time_format import ALLOWED, find_wrong_formats

MISSING = (
    "NULL", "Null", "null", "None", "none", "NaN", "nan", "NA", "N/A", "n/a", "#N/A", "<NA>", "\\N", "(null)", "(none)",
    "(not set)", "undefined",
)  # fmt: skip
"""What databases, pandas, spreadsheets and scripts write where a value is missing."""


class EventSource(SourceSpec):
    """Files of events, a simulated log, or what a step of SQL makes."""

    layout: Layout = "columns"
    """The layout of the files. `columns`: `events.columns` names the columns. The others are published layouts, which
    Endcap reads without a column mapping."""
    type: Annotated[str, Field(min_length=1)] | None = None
    """Gives every event of this source this type. Left out: the column of types or the layout gives the type."""
    part: Literal["train", "test"] = "train"
    """`test` marks sessions that are only for testing (`split: {by: given}`). Filters do not apply to them."""

    @check
    def _is_no_workbook(self) -> Iterator[Mistake]:
        for key, value in (("format", self.format == "excel"), ("sheet", self.sheet)):
            if value:
                yield Mistake((key,), "a workbook of events", "events as CSV, Parquet or the like", code="conflict")


Columns = str | Annotated[list[str], Field(min_length=1)]
"""One column, or several columns whose values together form the id."""


class EventColumns(Strict):
    """The names of the source's columns.

    A name may be a path into nested values. `properties.product_id` reads a key of an object. `items[].item_id` makes
    one event of each element of a list. `event_params[key=ga_session_id].value.int_value` reads the element whose `key`
    has that value. Several names with ` | ` between them are alternatives: the first that has a value counts. If a
    column has exactly this name, Endcap reads that column and no path.
    """

    item: str = "item"
    """The column of the item's id."""
    time: str = "time"
    """The column of the event's time. `events.time` says how times are written."""
    session: Columns | None = None
    """The column of the session's id. If two customers have the same session id, they have two sessions. Left out: the
    log has no session ids; `sessions.by: gap` makes the sessions."""
    customer: Columns | None = None
    """The column of the customer's id. Left out: events have no customers."""
    type: str | None = None
    """The column of the event's type, such as view or purchase. Left out: events have no types, or each source gives
    one."""
    order: str | None = None
    """The column of a whole number that orders events of one time, lowest first, such as a line of an order or a
    sequence number. A row without such a number is bad. Published layouts have none: their events come first. Left
    out, and among equal numbers: the order of the rows in the files, files by name; rows of a table that has no files
    are ordered by the bytes of session, item and type."""


class TimeRule(Strict):
    """How the time of an event is written."""

    unit: Literal["s", "ms", "us", "ns", "iso"] = "iso"
    """`s`, `ms`, `us` and `ns`: a number since 1970-01-01 UTC, in seconds, milliseconds, microseconds or nanoseconds.
    `iso`: ISO 8601 text."""
    format: Annotated[list[str], Field(min_length=1)] | str | None = None
    """The format of times that are not ISO 8601, in strptime's letters, such as `%m/%d/%Y %H:%M`. If this is a list,
    Endcap uses the first format that fits; a time that fits none is bad. `%z` reads an offset or Z, `%Z` reads Z, UTC
    or GMT. Left out: texts are ISO 8601."""
    zone: str = "UTC"
    """The time zone of texts that do not name one, by its name in the IANA database, such as Europe/Zurich."""

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
                "a zone of the IANA database, such as UTC or Europe/Zurich",
                suggest(zone, _list_zones()),
            )
            raise make_mistakes_error([Mistake((), repr(zone), allowed, hint, code="unknown-name")]) from None
        return zone


@functools.cache
def _list_zones() -> frozenset[str]:
    """Return the names of all zones, which Python reads from a thousand files."""
    return frozenset(available_timezones())


class Events(Strict):
    """The shop's event log."""

    sources: Annotated[list[EventSource], Field(min_length=1)]
    """Where the events come from. Endcap reads all sources."""
    columns: EventColumns = EventColumns()
    """The columns of the sources whose layout is `columns`."""
    time: TimeRule = TimeRule()
    """How those sources write times."""
    types: list[str] | None = None
    """The event types to train on. Endcap leaves out and counts events of other types. Left out: all types."""
    returns: Conditions = {}
    """Marks rows that take an order back, such as `{quantity: {below: 0}, invoice: {prefix: C}}`. Endcap leaves out and
    counts each row that fits at least one of the conditions."""
    null_values: list[str] = list(MISSING)
    """The texts that mean a missing value in the columns of session, customer, type and time."""
    null_item_values: list[str] = []
    """The texts that mean a missing value in the column of items. By default there are none, because an item may have
    such an id."""
    float_ids: Literal["refuse", "whole"] = "refuse"
    """What Endcap does with an id such as 123.0. `refuse`: the row is bad. `whole`: it reads 123. A row whose id lost
    digits, such as 1.2E+08, is always bad."""
    drop_duplicates: bool = False
    """Counts rows as one event if they have the same session, customer, item, time, type, and number in the column of
    the order. Off by default, because shoppers do repeat events."""
    pseudonyms: bool = False
    """Puts keyed pseudonyms in place of the ids of customers and sessions before Endcap keeps anything of them. The
    variable ENDCAP_PSEUDONYM_KEY has the key. The predictors and the intake need the same key."""
    max_bad_share: Share = 0.01
    """The largest share of bad rows, 0 to 1, among the rows that no condition leaves out. With more, the run stops."""
    engine: Annotated[Literal["duckdb", "spark"], Carried("all engines make the same snapshot")] = "duckdb"
    """What parses files of events. `duckdb`: DuckDB, in the step itself. `spark`: Spark's executors, where `spark:`
    says. Both make the same snapshot."""

    @check
    def _types_are_said(self) -> Iterator[Mistake]:
        if self.types is None or self.columns.type is not None:
            return
        if any(source.layout == "columns" and source.type is None for source in select_known(self.sources).values()):
            allowed = "such a list where all events have types: name events.columns.type, or a type of each source"
            yield Mistake(("types",), str(self.types), allowed, code="conflict")
