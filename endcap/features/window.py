"""The look-back window: which of a snapshot's rows a dataset is made of, by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from endcap.events.snapshot_days import SnapshotDays
from endcap.features.event_order import add_tie
from endcap.features.nothing_left import EPOCH, build_empty_snapshot_error
from endcap.features.split import MILLISECOND
from endcap.spec.settings import FeatureSettings

if TYPE_CHECKING:  # descriptions read statistics here, and need no table engine for that
    import ibis.expr.types as ir

    from endcap.features.engines.table_engine import TableEngine


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
    tested
        Whether the snapshot has rows of a test part.
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
    tested: bool
    activity: Mapping[str, ir.Table] = field(default_factory=dict)


def to_milliseconds(moment: datetime) -> int:
    """Return epoch milliseconds of a time; UTC if it names no zone."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // MILLISECOND


def select_window(engine: TableEngine, settings: FeatureSettings, snapshot: SnapshotDays, end: int | None) -> Window:
    """Select the rows before `end` (None: all) within the shop's window. Raises DataError if there are no events."""
    needed = "customer" if settings.sessions.by == "gap" else "session"
    about = measure_extent(snapshot, needed)
    if not about.rows:
        raise build_empty_snapshot_error(settings, snapshot.path.name)
    end = about.last + 1 if end is None else end
    start = None if settings.window is None else end - settings.window // MILLISECOND
    # A condition costs a column in each of several passes over the log: only those that take something are asked.
    rows = add_tie(engine.read_events(snapshot.files))
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
    activity = _select_activity(engine, settings, snapshot) if settings.sessions.by == "gap" else None
    if activity is None:
        return Window(train, test, start, end, total, dropped, about.customers, about.test)
    inside = activity.filter(activity.time < end)
    begun = inside if start is None else inside.filter(inside.time >= start)
    parts = {"train": begun.filter(begun.part == "train")}
    if about.test:
        parts["test"] = inside.filter(inside.part == "test")
    named = {part: rows.drop("part") for part, rows in parts.items()}
    return Window(train, test, start, end, total, dropped, about.customers, about.test, named)


def _select_activity(engine: TableEngine, settings: FeatureSettings, snapshot: SnapshotDays) -> ir.Table | None:
    """What customers did beside the events that sessions are made of: the snapshot's activity, and the events of types
    that only make an item a customer's."""
    tables = []
    if snapshot.activity:
        tables.append(engine.read(snapshot.activity).select("customer", "time", "part"))
    if settings.kept_types != settings.types:
        rows = engine.read(snapshot.files)
        other_types = rows.filter(rows.type.notin(settings.types), rows.customer.notnull())
        tables.append(other_types.select("customer", "time", "part"))
    import ibis

    return ibis.union(*tables) if len(tables) > 1 else next(iter(tables), None)


@dataclass(frozen=True)
class LogExtent:
    """rows: of all days. first, last: time. test: whether there are test rows. unnamed: whether rows lack the needed
    column. customers: whether any row has a customer."""

    rows: int
    first: int
    last: int
    test: bool
    unnamed: bool
    customers: bool


def measure_extent(snapshot: SnapshotDays, needed: str) -> LogExtent:
    """Measure a snapshot's events by what it says of its days, without reading a row."""
    days = [day for day in snapshot.days if day.events]
    unnamed = sum(getattr(day, f"without_{needed}") for day in days)
    return LogExtent(
        sum(day.events for day in days),
        min((day.first for day in days if day.first is not None), default=0),
        max((day.last for day in days if day.last is not None), default=0),
        any(day.test for day in days),
        unnamed > 0,
        any(day.without_customer < day.events for day in days),
    )
