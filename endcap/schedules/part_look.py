"""A look at one part of a recommender's schedule, and what a scheduler asks of its surroundings."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from endcap.errors import EndcapError
from endcap.events.data_version import DataListing
from endcap.processes import is_alive
from endcap.schedules.ledger import ScheduleLedger, read_ledger, update_ledger
from endcap.schedules.ledger_records import LedgerEntry, Place, RunClaim
from endcap.schedules.versions import read_listing
from endcap.spec.load import Loaded
from endcap.spec.schedule import PartSchedule
from endcap.store import Store

_Value = TypeVar("_Value")
_Result = TypeVar("_Result")
AT_ONCE = 16
"""So many parts are looked at at once."""


@dataclass(frozen=True)
class ScheduledPart:
    """A part of a recommender's schedule: what is looked at by itself."""

    loaded: Loaded = field(repr=False)
    part: str
    schedule: PartSchedule = field(repr=False)

    @property
    def recommender(self) -> str:
        return self.loaded.recommender.name

    @property
    def name(self) -> str:
        """The recommender's name and that of the part."""
        return f"{self.recommender}/{self.part}"


@dataclass(frozen=True)
class SchedulerSurroundings:
    """What a scheduler asks of its machine. Tests have others.

    Attributes
    ----------
    now, monotonic
        The clocks: UTC, and seconds that never go back.
    host, pid
        Who this scheduler is.
    is_alive
        Whether a process of this host lives.
    read_listing
        As `endcap.schedules.versions.read_listing`.
    """

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    is_alive: Callable[[int], bool] = is_alive
    read_listing: Callable[[Loaded, str, PartSchedule, Store], DataListing] = read_listing


@dataclass(frozen=True)
class ScheduleNews:
    """What a look found: an entry of a ledger, or a fault that kept the schedule from being looked at."""

    name: str
    entry: LedgerEntry | None = None
    fault: EndcapError | None = None


class PartLook:
    """A look at one part: its ledger as it was read or changed last, and what is reported.

    Attributes
    ----------
    part
        The part.
    ledger
        Its ledger.
    """

    def __init__(self, part: ScheduledPart, store: Store, news: list[ScheduleNews]) -> None:
        """Read the ledger. news: what this look adds its entries to. Raises EndcapError."""
        self.part, self._store, self._news = part, store, news
        self.ledger = read_ledger(store, part.recommender, part.part)

    def change(self, change: Callable[[ScheduleLedger], ScheduleLedger]) -> ScheduleLedger:
        """Change the ledger, and report the entries that this change made. Raises as `update_ledger`."""
        own: list[LedgerEntry] = []

        def apply(before: ScheduleLedger) -> ScheduleLedger:
            after = change(before)
            own[:] = _list_new_entries(before, after)
            return after

        self.ledger = update_ledger(self._store, self.part.recommender, self.part.part, apply)
        self._news += [ScheduleNews(self.part.name, entry) for entry in own]
        return self.ledger

    def report(self, fault: EndcapError) -> None:
        """Report a fault of this part."""
        self._news.append(ScheduleNews(self.part.name, fault=fault))


class ClaimedRuns(Protocol):
    """What does the runs of claims: processes of this machine, or KFP. Threads call `follow` and `start`, each for
    other parts.

    Attributes
    ----------
    place
        Where that is. Claims of another place are left alone.
    """

    place: Place

    def survey(self, looks: Sequence[PartLook]) -> None:
        """Ask once, for all parts, how the claimed runs are."""

    def follow(self, look: PartLook) -> None:
        """Look after the claimed run of a part: settle it if it has ended. Raises EndcapError."""

    def start(self, look: PartLook, claim: RunClaim) -> None:
        """Start the run of a claim that was just written. Raises EndcapError."""

    def can_start(self) -> bool:
        """Tell whether a claim can be started now."""

    def prepare(self, parts: Sequence[ScheduledPart]) -> bool:
        """Do a piece of what makes a later start faster. Returns whether there is more to do."""

    def is_busy(self) -> bool:
        """Tell whether a process that this scheduler started lives."""

    def has_ended_process(self) -> bool:
        """Tell whether a process has ended since the last look."""


def do_at_once(call: Callable[[_Value], _Result], values: Sequence[_Value]) -> list[_Result]:
    """Call a function for each value, several at a time: a call mostly waits for a store or for KFP."""
    if len(values) < 2:
        return [call(value) for value in values]
    with ThreadPoolExecutor(min(AT_ONCE, len(values)), thread_name_prefix="schedules") as pool:
        return list(pool.map(call, values))


def _list_new_entries(before: ScheduleLedger, after: ScheduleLedger) -> list[LedgerEntry]:
    known = {id(entry) for entry in before.entries}
    return [entry for entry in after.entries if id(entry) not in known]
