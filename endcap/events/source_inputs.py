"""The sources of a shop with their files, as ingest reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from endcap.sources.bigquery.partitions import ALL_DAYS, Span
from endcap.sources.find import SourceParts
from endcap.sources.layouts import complete_source
from endcap.spec.event_log import EventSource
from endcap.spec.shop import Shop
from endcap.spec.source import SourceSpec


@dataclass(frozen=True)
class DeclaredSource:
    """A source as a shop declares it.

    Attributes
    ----------
    table
        `events`, `items` or `customers`.
    source
        The source with all that its layout means, and as `path` the address of its table, if it has one.
    days
        The times of the events that are needed.
    time
        The column of the events' times, if it is a plain column.
    """

    table: str
    source: SourceSpec
    days: Span
    time: str | None


@dataclass(frozen=True)
class SourceInput:
    """A source with its files and their SHA-256 digests, which a snapshot's facts name as its origin."""

    table: str
    source: SourceSpec
    source_files: SourceParts
    digests: list[str]

    def facts(self) -> dict[str, Any]:
        files = [
            {**file.facts(), "sha256": sha256}
            for file, sha256 in zip(self.source_files.files, self.digests, strict=True)
        ]
        return {
            "table": self.table,
            "path": self.source.path,
            "files": files,
            "skipped": self.source_files.skipped,
        }


def list_sources(shop: Shop, until: datetime | None) -> Iterator[DeclaredSource]:
    """List the sources of a shop: those of events, of items, of customers. until: the logical date."""
    days = select_days(shop, until)
    declared: list[tuple[str, SourceSpec]] = [("events", complete_source(source)) for source in shop.events.sources]
    declared += [("items", complete_source(source)) for source in (shop.items.sources if shop.items else ())]
    declared += [("customers", source) for source in (shop.customers.sources if shop.customers else ())]
    for table, source in declared:
        if source.bigquery is not None:
            source = source.model_copy(update={"path": source.bigquery.address})
        of_table, time = (days, _get_time_column(shop, source)) if table == "events" else (ALL_DAYS, None)
        yield DeclaredSource(table, source, of_table, time)


def select_days(shop: Shop, until: datetime | None) -> Span:
    """Return the times of the events that a dataset of this logical date needs.

    Test sessions and what customers own come from all events before the date, however old.
    """
    if until is None:
        return ALL_DAYS
    end = until if until.tzinfo else until.replace(tzinfo=UTC)
    has_tests = any(source.part == "test" for source in shop.events.sources)
    if shop.window is None or shop.rules.owned is not None or has_tests:
        return Span(None, end)
    return Span(end - shop.window, end)


def _get_time_column(shop: Shop, source: SourceSpec) -> str | None:
    """Return the column of the events' times, if the source's own columns have one that is typed."""
    is_own = isinstance(source, EventSource) and source.layout == "columns" and shop.events.time.unit == "iso"
    return shop.events.columns.time if is_own else None
