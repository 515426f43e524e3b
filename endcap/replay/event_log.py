"""The intake's files as of any moment: what each shopper did, when, and when it was received."""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from endcap.online import NO_ITEM, RecentEvent
from endcap.online.base import encode_event
from endcap.online.record_updates import PURCHASE, Retention, StoreUpdate
from endcap.rollout.feed_places import open_feed_place

EVENTS = "events"
"""The kind of the intake's files that are read. The lines of orders are among them, as purchases."""
_COLUMNS = ("item", "time", "type", "customer", "session", "received", "order")


class LoggedEvent(NamedTuple):
    """An event of one owner.

    Attributes
    ----------
    received
        When the intake got it, in epoch milliseconds.
    place
        Its place among the owner's events, as online stores order them: by time, then by their stored form.
    event
        The event, with its own time.
    """

    received: int
    place: tuple[int, bytes]
    event: RecentEvent


class LoggedMember(NamedTuple):
    """A member that a record adds to an owner's set. received, time: of the record, in epoch milliseconds."""

    received: int
    time: int
    member: str


@dataclass
class EventLog:
    """Events of some shoppers, by owner (`endcap.online.key_names`).

    Attributes
    ----------
    retention
        What counts as owned.
    events, customers, owned
        What an online store keeps under the same names, with the time when each was received, in that order.
    days
        The days of which the log has a file.
    newest
        When the newest record of the whole log was received, epoch milliseconds; 0: there is none.
    rows
        Records of these shoppers.
    """

    retention: Retention
    events: dict[str, list[LoggedEvent]] = field(default_factory=lambda: defaultdict(list))
    customers: dict[str, list[LoggedMember]] = field(default_factory=lambda: defaultdict(list))
    owned: dict[str, list[LoggedMember]] = field(default_factory=lambda: defaultdict(list))
    days: set[date] = field(default_factory=set)
    newest: int = 0
    rows: int = 0

    def add(
        self,
        item: str | None,
        time: int,
        type_: str | None,
        *,
        customer: str | None,
        session: str | None,
        received: int,
        is_order: bool = False,
    ) -> None:
        """Add a record as the intake accepted it. Times are in epoch milliseconds."""
        self.rows += 1
        self.newest = max(self.newest, received)
        update = StoreUpdate()
        kind = PURCHASE if is_order else type_
        owns = is_order or kind in self.retention.owned_types
        update.add([item or NO_ITEM], time, kind, customer=customer, session=session, is_recent=True, owns=owns)
        for owner, events in update.events.items():
            for event in events:
                entry = LoggedEvent(received, (event.time, encode_event(event)), event)
                insort(self.events[owner], entry, key=_get_received)
        for sets, members_by_owner in ((self.customers, update.customers), (self.owned, update.owned)):
            for owner, members in members_by_owner.items():
                for member in members:
                    insort(sets[owner], LoggedMember(received, time, member), key=_get_received)


def _get_received(entry: LoggedEvent | LoggedMember) -> int:
    return entry.received


def read_event_log(
    address: str,
    customers: Collection[str],
    sessions: Collection[str],
    first: date,
    retention: Retention,
    pseudonymise: Callable[[str], str],
) -> EventLog:
    """Read the records of some shoppers out of the intake's files.

    Parameters
    ----------
    address
        The intake's `--out`: a folder, or ``s3://bucket/prefix``.
    customers, sessions
        Pseudonyms of the shoppers and visits. Records of others are passed over.
    first
        Files of earlier days are not read.
    retention
        What counts as owned.
    pseudonymise
        Makes the pseudonym of an id. One that is a pseudonym stays as it is.

    Returns
    -------
    EventLog
        The records. Empty if there is no file.

    Raises
    ------
    StorageError
        A file cannot be read.
    """
    place, log = open_feed_place(address), EventLog(retention)
    pseudonyms: dict[str | None, str | None] = {None: None}
    of_shoppers = (pa.array(sorted(customers), pa.string()), pa.array(sorted(sessions), pa.string()))
    for folder in sorted(place.list_days(EVENTS)):
        day = date.fromisoformat(folder.rpartition("=")[2])
        if day < first:
            continue
        for _, table in place.read(place.list_files(folder, {})):
            log.days.add(day)
            rows = table.select(_COLUMNS)
            for name in ("customer", "session"):
                column = _replace_ids(rows[name], pseudonyms, pseudonymise)
                rows = rows.set_column(rows.column_names.index(name), name, column)
            if len(rows):
                log.newest = max(log.newest, pc.max(rows["received"]).cast(pa.int64()).as_py())
            mask = pc.or_(
                *(pc.is_in(rows[name], ids) for name, ids in zip(("customer", "session"), of_shoppers, strict=True))
            )
            _add_rows(log, rows.filter(mask))
    return log


def _replace_ids(
    column: pa.ChunkedArray, pseudonyms: dict[str | None, str | None], pseudonymise: Callable[[str], str]
) -> pa.ChunkedArray:
    """Return the column with pseudonyms, each of which is made once."""
    encoded = column.combine_chunks().dictionary_encode()
    ids: list[str | None] = encoded.dictionary.to_pylist()
    for id_ in ids:
        if id_ is not None and id_ not in pseudonyms:
            pseudonyms[id_] = pseudonymise(id_)
    replaced = pa.array([pseudonyms[id_] for id_ in ids], pa.string())
    return pa.chunked_array([replaced.take(encoded.indices)], pa.string())


def _add_rows(log: EventLog, rows: pa.Table) -> None:
    columns = [rows[name].to_pylist() for name in ("item", "type", "customer", "session")]
    times = [rows[name].cast(pa.int64()).to_pylist() for name in ("time", "received")]
    orders = rows["order"].is_valid().to_pylist()
    for item, type_, customer, session, time, received, is_order in zip(*columns, *times, orders, strict=True):
        log.add(item, time, type_, customer=customer, session=session, received=received, is_order=is_order)
