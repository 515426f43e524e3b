"""The shop's event log: its sources, its columns, and how values are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, field_validator

from endcap.spec.base import Mistake, Share, Strict, check, make_mistakes_error, select_known, suggest
from endcap.spec.condition import Conditions
from endcap.spec.layouts import Layout
from endcap.spec.source import SourceSpec
from endcap.spec.time_format import ALLOWED, find_wrong_formats

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
