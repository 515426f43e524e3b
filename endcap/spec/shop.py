"""The shop: what the data is. All recommenders of a shop share it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from endcap.spec.base import Duration, Name, Share, Strict

Layout = Literal["columns", "yoochoose-clicks", "yoochoose-buys", "diginetica-views", "diginetica-purchases"]


class Source(Strict):
    """Files of one kind: CSV, TSV, JSON lines or Parquet, plain or compressed by gz, xz or zst."""

    path: str
    """A file, a folder or a glob; relative to the spec file that names it."""
    format: Literal["csv", "tsv", "jsonl", "parquet"] | None = None
    """Left out: by the file's suffix."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Left out: a comma for csv, a tab for tsv."""
    header: list[str] | None = None
    """Column names of files that carry no header line."""


class EventSource(Source):
    layout: Layout = "columns"
    """A published layout that is read as it is; `columns`: by the shop's column mapping."""
    part: Literal["train", "test"] = "train"
    """`test`: sessions kept apart for `split: {by: given}`; they are never filtered."""


class EventColumns(Strict):
    """Which column of the source holds what."""

    item: str = "item"
    time: str = "time"
    session: str | None = None
    customer: str | None = None
    type: str | None = None


class TimeRule(Strict):
    unit: Literal["s", "ms", "iso"] = "iso"
    """Epoch seconds, epoch milliseconds, or ISO 8601 text."""
    zone: str = "UTC"
    """Zone of ISO times that name none, as in the IANA data base."""


class Events(Strict):
    sources: Annotated[list[EventSource], Field(min_length=1)]
    columns: EventColumns = EventColumns()
    time: TimeRule = TimeRule()
    types: list[str] | None = None
    """Event types to keep; left out: all."""
    drop_duplicates: bool = False
    """Rows equal in session, customer, item, time and type count once. Many logs repeat real events: off by default."""
    max_bad_share: Share = 0.01
    """The run stops when a larger share of rows is bad."""


class ItemColumns(Strict):
    item: str = "item"
    title: str | None = None
    category: str | None = None
    price: str | None = None


class Items(Strict):
    """The item table, one row an item; a later row of the same item replaces an earlier one."""

    sources: Annotated[list[Source], Field(min_length=1)]
    columns: ItemColumns = ItemColumns()
    categorical: list[str] = []
    """Further columns kept as text."""
    numeric: list[str] = []
    """Further columns kept as numbers."""


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
    kind: Literal["position", "gap", "repeat", "hour", "weekday"]
    """position in the session (from 0), seconds since the session's previous event (0 for the first),
    whether the item was seen before in the session, hour of the day and day of the week (Monday 0), both UTC."""
    buckets: list[float] | None = None
    """Ascending edges: the value becomes the number of edges that it reaches."""


class Features(Strict):
    events: list[EventFeature] = []


class Shop(Strict):
    """What a shop's data is."""

    apiVersion: Literal["endcap/v1"]
    kind: Literal["Shop"]
    name: Name
    events: Events
    items: Items | None = None
    customers: Customers | None = None
    sessions: Sessions = Sessions()
    filters: Filters = Filters()
    window: Duration | None = None
    """Look-back window that ends at the run's logical date; left out: everything before that date."""
    features: Features = Features()

    @model_validator(mode="after")
    def _sessions_have_their_column(self) -> Shop:
        by_columns = any(source.layout == "columns" for source in self.events.sources)
        if by_columns and self.sessions.by == "given" and self.events.columns.session is None:
            raise ValueError("sessions.by is 'given': name events.columns.session, or set sessions.by to 'gap'")
        if by_columns and self.sessions.by == "gap" and self.events.columns.customer is None:
            raise ValueError("sessions.by is 'gap': name events.columns.customer, or set sessions.by to 'given'")
        names = [feature.name for feature in self.features.events]
        if len(names) != len(set(names)):
            raise ValueError(f"features.events: names must differ, found {names}")
        return self
