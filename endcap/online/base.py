"""What an online store is: the few things that a ranking needs to know of this minute.

The server's (Redis protocol) and the laptop's (SQLite) keep the same promises, which one suite of tests holds them to.
Every call may raise OnlineStoreError; whoever serves goes on without, and says so.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import starmap
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import orjson

from endcap.errors import NotFoundError, OnlineStoreError

NO_ITEM = ""
"""The item of an event that is about none, such as a search: it keeps a visit alive. No item has this id."""


class RecentEvent(NamedTuple):
    """One event of a session or a customer. item: an id, or NO_ITEM; time: epoch ms."""

    item: str
    time: int
    type: str | None = None


class TableKeys(NamedTuple):
    """Rows of a table. version: None for the published one."""

    table: str
    keys: Sequence[str]
    version: str | None = None


@dataclass(frozen=True)
class OnlineQuery:
    """What one reading is to find.

    events: owners, whose last `most` events are wanted. sets: names of sets, each with owners.
    """

    events: Sequence[str] = ()
    most: int = 0
    sets: Sequence[tuple[str, Sequence[str]]] = ()
    rows: Sequence[TableKeys] = ()


KeyFault = Literal["wrong-type", "unreadable"]
"""Why a key is passed over: it holds something of another type, or what no writer of ours has written."""
EVENTS = "events"
"""Stands in the place of a set's or table's name where events are meant."""


@dataclass(frozen=True)
class OnlineResult:
    """What a reading found: all in the order in which it was wanted.

    faults: why a key was passed over, by where it was wanted (EVENTS, a set or a table) and by its owner or key.
    Nothing is found there. One customer's key that somebody has spoilt costs no other customer.
    """

    events: list[list[RecentEvent]] = field(default_factory=list)
    sets: list[list[set[str]]] = field(default_factory=list)
    rows: list[list[bytes | None]] = field(default_factory=list)
    faults: Mapping[tuple[str, str], KeyFault] = field(default_factory=dict)


class OnlineStore(ABC):
    """Of one shop: names and keys of different shops do not meet.

    Owners of events and sets are named by `endcap.online.key_names`. A *table* is a map from keys to bytes that is
    written whole under a version and then published in one step: who reads what is published sees the old version or
    the new one, never a mixture. The version before it is kept, for going back; older ones are dropped.
    Safe to use from several threads, and opening does not connect: a store that is down is met by the first call.
    """

    MOST_EVENTS = 1000
    """The last events of an owner that are kept."""
    MOST_MEMBERS = 10_000
    """The members of an owner's set that are kept: those that would be forgotten last."""
    UNPUBLISHED = timedelta(days=7)
    """A version that is not published so long after its last row was written is forgotten: its writer died."""

    # All reading: one call, one round trip

    @abstractmethod
    def read(self, query: OnlineQuery) -> OnlineResult:
        """Recent events, sets and rows together, in one round trip and as of one moment."""

    # Recent events

    @abstractmethod
    def append(self, events: Mapping[str, Sequence[RecentEvent]], keep: timedelta) -> Mapping[str, KeyFault]:
        """Add each owner's events, in any order; what an owner has is forgotten `keep` after the last addition.

        An event that is there already (item, time and type) is not added again. Returns the owners that were passed
        over, because their keys hold something else, and adds to the others.
        """

    def recent(self, owners: Sequence[str], most: int) -> list[list[RecentEvent]]:
        """The last `most` events of each owner, oldest first by time; of unknown owners none."""
        return _require_readable(self.read(OnlineQuery(events=owners, most=most))).events

    # Sets with expiry, such as what a customer bought

    @abstractmethod
    def add(
        self, name: str, members: Mapping[str, Iterable[str]], keep: timedelta | None, most: int | None = None
    ) -> Mapping[str, KeyFault]:
        """Add members to each owner's set `name`; each is forgotten after `keep` (None: never).

        A member that is there already is forgotten at the later of both times. most: members of each set that are kept
        (None: MOST_MEMBERS). Returns the owners that were passed over, as `append` does.
        """

    def members(self, name: str, owners: Sequence[str]) -> list[set[str]]:
        """The members of each owner's set that are not forgotten yet."""
        return _require_readable(self.read(OnlineQuery(sets=[(name, owners)]))).sets[0]

    # Tables, published by version

    @abstractmethod
    def write(self, table: str, version: str, rows: Mapping[str, bytes], keep: timedelta | None = None) -> bool:
        """Add rows to a version that is not published yet, or replace them. Call it as often as there are rows.

        keep: the version is forgotten so long after it was published last (None: never); the last call's counts.
        Returns False, and does nothing, where the version was published already and is kept: versions are immutable,
        and two writers of one version write the same rows.
        """

    @abstractmethod
    def publish(self, table: str, version: str) -> None:
        """Make a version the one that is read. Also the way back: to a version that was kept.

        Of a version that is published already only `keep` begins anew. Raises NotFoundError where nothing was written
        under the version, or it is forgotten.
        """

    @abstractmethod
    def published(self, table: str) -> str | None:
        """The published version, or None."""

    @abstractmethod
    def versions(self, table: str) -> list[str]:
        """Versions that are kept, the published one first, then the one before it, then those not published yet."""

    def rows(self, table: str, keys: Sequence[str], version: str | None = None) -> list[bytes | None]:
        """Rows of a version (None: the published one) by their keys; None where there is none.

        A version that is named is read as it is, half-written too.
        """
        return _require_readable(self.read(OnlineQuery(rows=[TableKeys(table, keys, version)]))).rows[0]

    @abstractmethod
    def drop(self, table: str, version: str) -> None:
        """Forget a version; of the published one, there is none published then."""

    # The rest

    @abstractmethod
    def ping(self) -> None:
        """Raise OnlineStoreError where the store does not answer."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# What both stores share


def _require_readable(result: OnlineResult) -> OnlineResult:
    """The same. Raises OnlineStoreError where a key was passed over."""
    for (where, name), fault in result.faults.items():
        raise make_unreadable_error(where, name, fault)
    return result


def make_unreadable_error(where: str, key: str, fault: KeyFault) -> OnlineStoreError:
    """That a key holds something else. where: EVENTS, a set or a table; key: the owner, or the row's key."""
    return OnlineStoreError(
        f"online store: what it holds of {where} under {key} is {fault}; remove it, so that it is made again",
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
    """A set's members. Raises ValueError where something else is among them."""
    if type(value) is not list or not _parse_types(value) <= {str}:
        raise ValueError("no list of texts")
    return set(value)


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@+-]{0,250}")


def check_key_name(name: str) -> str:
    """A table's, a version's or a set's name, which is part of keys. Raises ValueError where it could be mistaken."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"online store: found the name {name!r}; allowed: letters, digits and . _ / @ + -, at most 251"
        )
    return name


def encode_event(event: RecentEvent) -> bytes:
    """An event as a JSON list: equal events are equal bytes, and a list of them is made by commas.

    ``[item, time]`` or ``[item, time, type]``, with ``""`` for the item of an event that is about none.
    """
    return orjson.dumps(event[:2] if event.type is None else event[:])


def to_milliseconds(keep: timedelta) -> int:
    """At least one: what is kept for no time at all is forgotten at once, not for ever."""
    return max(1, keep // timedelta(milliseconds=1))


def make_nothing_written_error(table: str, version: str, versions: Sequence[str]) -> NotFoundError:
    """That a version cannot be published. versions: the table's."""
    existing = ", ".join(versions) or "none"
    return NotFoundError(
        f"online store: the table {table} has no version {version} to publish, it has: {existing}; write its rows "
        "first",
        code="online.version-not-found",
        table=table,
        found=version,
        allowed=list(versions),
    )
