"""The look-back window: which of a snapshot's rows a dataset is made of, by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from endcap.errors import DataError
from endcap.events.snapshot import ACTIVITY_FILE
from endcap.features.split import MILLISECOND
from endcap.spec.base import format_duration
from endcap.spec.sessions import Filters
from endcap.spec.settings import FeatureSettings

if TYPE_CHECKING:  # descriptions read statistics here, and need no table engine for that
    import ibis.expr.types as ir

    from endcap.features.engines.table_engine import TableEngine

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Window:
    """Rows of a snapshot in [start, end), epoch ms. If start is None, all rows before the end.

    Attributes
    ----------
    train, test
        Each part's rows that can be in a session.
    rows
        Rows of the training part in the snapshot.
    dropped
        How many of them are left out, by reason.
    customers
        Whether any row of the snapshot has a customer.
    activity
        By part, what else customers did: columns customer and time.
    """

    train: ir.Table
    test: ir.Table
    start: int | None
    end: int
    rows: int
    dropped: Mapping[str, int]
    customers: bool
    activity: Mapping[str, ir.Table] = field(default_factory=dict)


def to_milliseconds(moment: datetime) -> int:
    """Return epoch milliseconds of a time; UTC if it names no zone."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // MILLISECOND


def select_window(engine: TableEngine, settings: FeatureSettings, snapshot: Path, end: int | None) -> Window:
    """Select the rows before `end` (None: all) within the shop's window. Raises DataError if there are no events."""
    files = sorted((snapshot / "events").glob("*/*.parquet"))
    needed = "customer" if settings.sessions.by == "gap" else "session"
    about = _read_log_extent(files, needed)
    if not about.rows:
        raise DataError(
            f"the snapshot {snapshot.name} of shop {settings.name!r} holds no events; ingest some first",
            code="features.snapshot-empty",
            snapshot=snapshot.name,
            shop=settings.name,
        )
    end = about.last + 1 if end is None else end
    start = None if settings.window is None else end - settings.window // MILLISECOND
    # A condition costs a column in each of several passes over the log: only those that take something are asked.
    rows = engine.read(files)
    mixed = settings.kept_types != settings.types  # also events that only make an item a customer's
    if mixed:
        rows = rows.filter(rows.type.isin(settings.types))
    before = rows if about.last < end else rows.filter(rows.time < end)
    train = before.filter(before.part == "train") if about.test else before
    test = before.filter(before.part == "test") if about.test else before.limit(0)
    training = rows.filter(rows.part == "train") if about.test else rows
    total = engine.count(training) if about.test or mixed else about.rows
    train = train if start is None or about.first >= start else train.filter(train.time >= start)
    dropped = {"outside_window": total - engine.count(train), f"without_{needed}": 0}
    if about.unnamed:
        dropped[f"without_{needed}"] = engine.count(train.filter(train[needed].isnull()))
        train, test = (part.filter(part[needed].notnull()) for part in (train, test))
    activity = _select_activity(engine, settings, snapshot, files) if settings.sessions.by == "gap" else None
    if activity is None:
        return Window(train, test, start, end, total, dropped, about.customers)
    inside = activity.filter(activity.time < end)
    begun = inside if start is None else inside.filter(inside.time >= start)
    parts = {"train": begun.filter(begun.part == "train")}
    if about.test:
        parts["test"] = inside.filter(inside.part == "test")
    named = {part: rows.drop("part") for part, rows in parts.items()}
    return Window(train, test, start, end, total, dropped, about.customers, named)


def _select_activity(
    engine: TableEngine, settings: FeatureSettings, snapshot: Path, files: list[Path]
) -> ir.Table | None:
    """What customers did beside the events that sessions are made of: of the snapshot's own file, and the events of
    types that only make an item a customer's. files: of the events."""
    tables = []
    if (snapshot / ACTIVITY_FILE).is_file():
        tables.append(engine.read([snapshot / ACTIVITY_FILE]).select("customer", "time", "part"))
    if settings.kept_types != settings.types:
        rows = engine.read(files)
        other_types = rows.filter(rows.type.notin(settings.types), rows.customer.notnull())
        tables.append(other_types.select("customer", "time", "part"))
    import ibis

    return ibis.union(*tables) if len(tables) > 1 else next(iter(tables), None)


def build_nothing_left_error(settings: FeatureSettings, window: Window, filtered: Mapping[str, int]) -> DataError:
    """Build the error that says what took every event. `filtered` has the events that fell to each filter."""
    reasons = {
        "outside_window": f"lie outside the window ({_describe_span(window)}): widen `window`, or choose another date",
        "without_customer": "name no customer, which `sessions: {by: gap}` needs",
        "without_session": "name no session, which `sessions: {by: given}` needs",
    }
    for name in Filters.model_fields:
        reasons[name] = f"fell to filters.{name}: {getattr(settings.filters, name)}"
    counts = {**window.dropped, **filtered}
    losses = "; ".join(f"{count:,} {reasons[name]}" for name, count in counts.items() if count)
    return DataError(
        f"shop {settings.name!r}: none of {window.rows:,} training events is left. {losses or 'There were none'}",
        code="features.none-left",
        shop=settings.name,
        rows=window.rows,
        dropped={name: count for name, count in counts.items() if count},
        window=None if settings.window is None else format_duration(settings.window),
        filters=settings.filters.model_dump(mode="json"),
    )


def _describe_span(window: Window) -> str:
    start, end = (
        None if moment is None else (EPOCH + moment * MILLISECOND).isoformat(timespec="seconds")
        for moment in (window.start, window.end)
    )
    if window.start is None:
        return f"before {end}"
    return f"{format_duration((window.end - window.start) * MILLISECOND)}, from {start} to before {end}"


@dataclass(frozen=True)
class LogExtent:
    """rows: of all files. first, last: time. test: whether there may be test rows. unnamed: rows without the column.
    customers: whether there may be rows with a customer."""

    rows: int
    first: int
    last: int
    test: bool
    unnamed: bool
    customers: bool


def _read_log_extent(files: list[Path], needed: str) -> LogExtent:
    """Read from the footers of Parquet files, without touching their data."""
    rows, first, last, test, unnamed, customers = 0, [0], [0], False, False, False
    for file in files:
        for columns in read_statistics(file):
            rows += columns["time"].num_values
            first.append(columns["time"].min)
            last.append(columns["time"].max)
            # A row group may hold both parts: "test" is the smaller of the two words.
            test |= columns["part"].min != "train"
            unnamed |= columns[needed].null_count != 0
            customers |= columns["customer"].num_values > 0
    return LogExtent(rows, min(first[1:] or first), max(last), test, unnamed, customers)


def read_statistics(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the statistics of the columns, by name, of each row group of a Parquet file."""
    footer = pq.read_metadata(file)
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        if group.num_rows:
            columns = (group.column(place) for place in range(group.num_columns))
            yield {column.path_in_schema: column.statistics for column in columns}
