"""The interface of an online store: it holds the recent data that a ranking needs.

There are two implementations, a server's (Redis protocol) and a laptop's (SQLite). One suite of tests checks both.
Every call may raise OnlineStoreError. A server then ranks without the store, and its answers say so.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import starmap
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import orjson

from endcap.errors import NotFoundError, OnlineStoreError

NO_ITEM = ""
"""The item of an event without an item, such as a search. Such an event keeps a visit going. No item has this id."""


class RecentEvent(NamedTuple):
    """One event of a session or a customer.

    Attributes
    ----------
    item
        The item's id, or `NO_ITEM`.
    time
        Epoch milliseconds.
    type
        The event's type; None if the shop has no types.
    """

    item: str
    time: int
    type: str | None = None


class TableKeys(NamedTuple):
    """Keys of rows to read from a table.

    Attributes
    ----------
    table
        The table's name.
    keys
        The rows' keys.
    version
        The table's version; None: the published one.
    """

    table: str
    keys: Sequence[str]
    version: str | None = None


@dataclass(frozen=True)
class OnlineQuery:
    """What one call of `OnlineStore.read` reads.

    Attributes
    ----------
    events
        Owners whose last `most` events are read.
    most
        Events of each owner.
    sets
        Names of sets, each with the owners whose members are read.
    rows
        Rows of tables.
    """

    events: Sequence[str] = ()
    most: int = 0
    sets: Sequence[tuple[str, Sequence[str]]] = ()
    rows: Sequence[TableKeys] = ()


KeyFault = Literal["wrong-type", "unreadable"]
"""Why a key cannot be read: it holds a value of another type, or one that Endcap did not write."""
EVENTS = "events"
"""Stands for a set's or table's name if events are meant."""


@dataclass(frozen=True)
class OnlineResult:
    """The answer to an `OnlineQuery`, in the query's order.

    Attributes
    ----------
    events
        For each owner the events, oldest first.
    sets
        For each set and owner the members.
    rows
        For each table and key the row; None if there is none.
    faults
        Why a key could not be read, by EVENTS or the name of the set or table, and by the owner or the row's key. Its
        result is empty. A damaged key of one customer affects no other customer.
    """

    events: list[list[RecentEvent]] = field(default_factory=list)
    sets: list[list[set[str]]] = field(default_factory=list)
    rows: list[list[bytes | None]] = field(default_factory=list)
    faults: Mapping[tuple[str, str], KeyFault] = field(default_factory=dict)


class OnlineStore(ABC):
    """The online store of one shop. Shops that share a server do not see each other's data.

    It holds recent events, sets with expiry, and tables. Events and sets belong to owners, whose names
    `endcap.online.key_names` makes. A table maps keys to bytes. It is written under a version and then published in one
    step: a reader of the published version sees the old rows or the new ones, never a mixture. The previous version is
    kept for going back; older ones are dropped.

    A store may be used from several threads. Opening one does not connect: if the store is down, the first call fails.

    Notes
    -----
    Every method raises OnlineStoreError if the store does not answer or refuses the call.
    """

    MOST_EVENTS = 1000
    """The last events of an owner that are kept."""
    MOST_MEMBERS = 10_000
    """The members of an owner's set that are kept: those that would be forgotten last."""
    UNPUBLISHED = timedelta(days=7)
    """How long a version is kept after its last row was written if it is never published, because its writer died."""

    # All reading: one call, one round trip

    @abstractmethod
    def read(self, query: OnlineQuery) -> OnlineResult:
        """Read recent events, sets and rows together, in one round trip and as of one moment.

        Parameters
        ----------
        query
            What to read.

        Returns
        -------
        OnlineResult
            The values, and the keys that could not be read.
        """

    # Recent events

    @abstractmethod
    def append(self, events: Mapping[str, Sequence[RecentEvent]], keep: timedelta) -> Mapping[str, KeyFault]:
        """Add events to their owners.

        Parameters
        ----------
        events
            Events by owner, in any order. An event that the owner has already (item, time and type) is not repeated.
        keep
            How long an owner's events are kept after the last addition.

        Returns
        -------
        Mapping
            The owners that were left out because their keys hold something else, with the reason.
        """

    def recent(self, owners: Sequence[str], most: int) -> list[list[RecentEvent]]:
        """Return the last `most` events of each owner, oldest first; an empty list for an unknown owner."""
        return _require_readable(self.read(OnlineQuery(events=owners, most=most))).events

    # Sets with expiry, such as what a customer bought

    @abstractmethod
    def add(
        self, name: str, members: Mapping[str, Iterable[str]], keep: timedelta | None, most: int | None = None
    ) -> Mapping[str, KeyFault]:
        """Add members to the owners' sets of a name.

        Parameters
        ----------
        name
            The sets' name, such as ``owned``.
        members
            Members by owner.
        keep
            How long these members are kept; None: for ever. A member that the set has already is kept until the later
            of both times.
        most
            The most members that each set keeps; None: MOST_MEMBERS.

        Returns
        -------
        Mapping
            The owners that were left out because their keys hold something else, with the reason.
        """

    def members(self, name: str, owners: Sequence[str]) -> list[set[str]]:
        """Return the members of each owner's set that have not expired."""
        return _require_readable(self.read(OnlineQuery(sets=[(name, owners)]))).sets[0]

    # Tables, published by version

    @abstractmethod
    def write(self, table: str, version: str, rows: Mapping[str, bytes], keep: timedelta | None = None) -> bool:
        """Add rows to a version that is not published yet, or replace them. It may be called several times.

        Parameters
        ----------
        table, version
            Where the rows belong.
        rows
            Rows by key; may be empty.
        keep
            How long the version is kept after it was published last; None: for ever. The last call's value counts.

        Returns
        -------
        bool
            False if the version was published before and still exists. Nothing is written then: versions are
            immutable, and two writers of one version write the same rows.
        """

    @abstractmethod
    def publish(self, table: str, version: str) -> None:
        """Make a version the one that is read. It also brings back the previous version.

        If the version is published already, only its time of `keep` starts again.

        Raises
        ------
        NotFoundError
            Nothing was written under the version, or it has expired.
        """

    @abstractmethod
    def published(self, table: str) -> str | None:
        """Return the published version, or None."""

    @abstractmethod
    def versions(self, table: str) -> list[str]:
        """List the versions that exist: the published one, then the previous one, then those not published yet."""

    def rows(self, table: str, keys: Sequence[str], version: str | None = None) -> list[bytes | None]:
        """Read rows of a table.

        Parameters
        ----------
        table
            The table.
        keys
            The rows' keys.
        version
            The version; None: the published one. A version that is named may be incomplete.

        Returns
        -------
        list
            For each key its row, or None.
        """
        return _require_readable(self.read(OnlineQuery(rows=[TableKeys(table, keys, version)]))).rows[0]

    @abstractmethod
    def drop(self, table: str, version: str) -> None:
        """Delete a version. If it is the published one, no version is published afterwards."""

    # Customers who are forgotten

    @abstractmethod
    def forget(self, customers: Collection[str], tables: Collection[str], *, erase: bool = True) -> int:
        """Delete what belongs to customers: their events and sets, those of their sessions, and their rows.

        Parameters
        ----------
        customers
            Ids of customers.
        tables
            The beginnings of the names of tables whose keys are ids of customers. Rows of all versions are deleted.
        erase
            Whether to delete; otherwise they are only counted.

        Returns
        -------
        int
            The number of events, members and rows that there are.

        Notes
        -----
        All keys of the shop are looked through. Others may read and write meanwhile. What is written of these customers
        later is kept.
        """

    # The rest

    @abstractmethod
    def ping(self) -> None:
        """Raise OnlineStoreError if the store does not answer."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# What both stores share


def _require_readable(result: OnlineResult) -> OnlineResult:
    """Return the result if every key could be read. Raises OnlineStoreError otherwise."""
    for (where, name), fault in result.faults.items():
        raise make_unreadable_error(where, name, fault)
    return result


def make_unreadable_error(where: str, key: str, fault: KeyFault) -> OnlineStoreError:
    """Make the error for a key with an unexpected value.

    Parameters
    ----------
    where
        `EVENTS`, or the name of a set or a table.
    key
        The owner, or the row's key.
    fault
        What is wrong with the value.
    """
    return OnlineStoreError(
        f"online store: the value of {where} under {key} is {fault}; remove the key, so that it is written again",
        code="online.key-unreadable",
        at=where,
        key=key,
        fault=fault,
    )


def parse_events(value: Any) -> list[RecentEvent]:
    """Parse a list of events that `encode_event` made. Raises ValueError if it holds anything else."""
    if type(value) is not list:
        raise ValueError("no list of events")
    try:
        events = list(starmap(RecentEvent, value))
    except TypeError:
        raise ValueError("no events") from None
    # Types are looked at a column at a time, which costs a fifth of a look at each event.
    items, times, kinds = zip(*events, strict=True) if events else ((), (), ())
    if not (_parse_types(items) <= {str} and _parse_types(times) <= {int} and _parse_types(kinds) <= {str, type(None)}):
        raise ValueError("no events")
    return events


def _parse_types(values: Iterable[object]) -> set[type]:
    return set(map(type, values))


def parse_members(value: Any) -> set[str]:
    """Parse the members of a set. Raises ValueError if it contains anything but texts."""
    if type(value) is not list or not _parse_types(value) <= {str}:
        raise ValueError("no list of texts")
    return set(value)


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@+-]{0,250}")


def check_key_name(name: str) -> str:
    """Return the name of a table, a version or a set. Raises ValueError if keys with it would be ambiguous."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"online store: found the name {name!r}; allowed: letters, digits and . _ / @ + -, at most 251"
        )
    return name


def encode_event(event: RecentEvent) -> bytes:
    """Encode an event as a JSON list: ``[item, time]`` or ``[item, time, type]``. An event without an item has ``""``.

    Equal events give equal bytes. Encoded events that are joined by commas are the inside of a JSON list.
    """
    return orjson.dumps(event[:2] if event.type is None else event[:])


def to_milliseconds(keep: timedelta) -> int:
    """Convert a time to whole milliseconds, at least 1. With 0, stores would keep the value for ever."""
    return max(1, keep // timedelta(milliseconds=1))


def make_nothing_written_error(table: str, version: str, versions: Sequence[str]) -> NotFoundError:
    """Make the error for a version that cannot be published because it has no rows.

    Parameters
    ----------
    table, version
        The table and the version.
    versions
        The versions that the table has.
    """
    existing = ", ".join(versions) or "none"
    return NotFoundError(
        f"online store: the table {table} has no version {version} to publish, it has: {existing}; write its rows "
        "first",
        code="online.version-not-found",
        table=table,
        found=version,
        allowed=list(versions),
    )
