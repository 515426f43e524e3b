"""Partitions and shards of a table as spans of time. Nothing here asks the warehouse."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

INGESTION = "_PARTITIONTIME"
"""The column of a table that is partitioned by the time of storing."""
NULL, UNSTORED = "__NULL__", "__UNPARTITIONED__"
"""Partitions of rows without a value, and of rows that were streamed in and are not stored yet."""
_FORMATS = {4: "%Y", 6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H"}
_SHARD = re.compile(r"[0-9]{8}")
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Partitioning:
    """How a table is partitioned by time. column: INGESTION, or a column's name. type: TIMESTAMP, DATE or DATETIME."""

    column: str
    type: str


@dataclass(frozen=True)
class Span:
    """A span of time, in UTC: from `start` to before `end`. None: it has no bound."""

    start: datetime | None = None
    end: datetime | None = None

    def widen(self, before: timedelta, after: timedelta) -> Span:
        """Return the span with these times added to its bounds."""
        start = None if self.start is None else self.start - before
        return Span(start, None if self.end is None else self.end + after)

    def overlaps(self, other: Span) -> bool:
        """Return whether two spans have a moment in common."""
        return _is_before(self.start, other.end) and _is_before(other.start, self.end)


ALL_DAYS = Span()


def parse_partition(name: str) -> Span | None:
    """Return the span of a partition's name, such as 20260131 or 2026013123. None: it is of another kind."""
    if not name.isdigit() or len(name) not in _FORMATS:
        return None
    start = datetime.strptime(name, _FORMATS[len(name)]).replace(tzinfo=UTC)
    match len(name):
        case 4:
            end = start.replace(year=start.year + 1)
        case 6:
            end = (start + 31 * DAY).replace(day=1)
        case 8:
            end = start + DAY
        case _:
            end = start + timedelta(hours=1)
    return Span(start, end)


def parse_shard(suffix: str) -> Span | None:
    """Return the day of a date-sharded table's suffix, such as 20260131. None: it is no date."""
    try:
        return parse_partition(suffix) if _SHARD.fullmatch(suffix) else None
    except ValueError:
        return None


def merge_spans(spans: Iterable[Span]) -> list[Span]:
    """Join spans that touch. All of them must have bounds."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: span.start or datetime.min.replace(tzinfo=UTC)):
        if merged and merged[-1].end == span.start:
            merged[-1] = Span(merged[-1].start, span.end)
        else:
            merged.append(span)
    return merged


def _is_before(start: datetime | None, end: datetime | None) -> bool:
    return start is None or end is None or start < end
