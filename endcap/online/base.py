"""What an online store is: the few things that a ranking needs to know of this minute.

The server's (Redis protocol) and the laptop's (SQLite) keep the same promises, which one suite of tests holds them to.
Every call may raise OnlineStoreError; whoever serves goes on without, and says so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class RecentEvent:
    """One event of a session or a customer. time: epoch ms."""

    item: str
    time: int
    type: str | None = None


class OnlineStore(ABC):
    """Of one shop: names and keys of different shops do not meet.

    Owners of events and sets are ``customer:<id>`` or ``session:<id>``. A *table* is a map from keys to bytes that is
    written whole under a version and then published in one step: who reads what is published sees the old version or
    the new one, never a mixture. The version before it is kept, for going back; older ones are dropped.
    Safe to use from several threads.
    """

    MOST_EVENTS = 1000
    """The last events of an owner that are kept."""

    # Recent events

    @abstractmethod
    def append(self, events: Mapping[str, Sequence[RecentEvent]], keep: timedelta) -> None:
        """Add each owner's events, in any order; what an owner has is forgotten `keep` after the last addition.

        An event that is there already (item, time and type) is not added again.
        """

    @abstractmethod
    def recent(self, owners: Sequence[str], most: int) -> list[list[RecentEvent]]:
        """The last `most` events of each owner, oldest first by time; of unknown owners none."""

    # Sets with expiry, such as what a customer bought

    @abstractmethod
    def add(self, name: str, members: Mapping[str, Iterable[str]], keep: timedelta | None) -> None:
        """Add members to each owner's set `name`; each is forgotten after `keep` (None: never)."""

    @abstractmethod
    def members(self, name: str, owners: Sequence[str]) -> list[set[str]]:
        """The members of each owner's set that are not forgotten yet."""

    # Tables, published by version

    @abstractmethod
    def write(self, table: str, version: str, rows: Mapping[str, bytes], keep: timedelta | None = None) -> None:
        """Add rows to a version that is not published yet, or replace them; `keep`: forgotten after that."""

    @abstractmethod
    def publish(self, table: str, version: str) -> None:
        """Make a version the one that is read. Also the way back: to a version that was kept."""

    @abstractmethod
    def published(self, table: str) -> str | None:
        """The published version, or None."""

    @abstractmethod
    def versions(self, table: str) -> list[str]:
        """Versions that are kept, the published one first, then the one before it, then those not published yet."""

    @abstractmethod
    def rows(self, table: str, keys: Sequence[str], version: str | None = None) -> list[bytes | None]:
        """Rows of a version (None: the published one) by their keys; None where there is none."""

    @abstractmethod
    def drop(self, table: str, version: str) -> None:
        """Forget a version."""

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
