"""What an online store would have said of shoppers at a moment, computed from the event log."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from operator import attrgetter, itemgetter
from typing import TypeVar

from endcap.online import CUSTOMERS, OWNED, OnlineQuery, OnlineResult, OnlineStore, RecentEvent
from endcap.online.base import to_milliseconds
from endcap.online.record_updates import MOST_CUSTOMERS
from endcap.replay.event_log import EventLog, LoggedEvent, LoggedMember

_FOREVER = 2**62
Entry = TypeVar("Entry", bound=LoggedEvent | LoggedMember)
_received = attrgetter("received")


class PastView(Enum):
    """Which records count at a moment.

    HAPPENED: those of events that had happened, as a dataset of the log has them. RECEIVED: those that the intake had
    got. KEPT: of these, what an online store still keeps.
    """

    HAPPENED = "happened"
    RECEIVED = "received"
    KEPT = "kept"


class PastStore:
    """An online store's answers as of a moment; see `endcap.online.ShopperReader`.

    Parameters
    ----------
    log
        The records.
    histories
        Rows of `endcap.features.publishing` by customer.

    Attributes
    ----------
    view
        Which records count.
    moment
        As of when, in epoch milliseconds.
    cutoff
        Records that were received later do not count, where the view asks that.
    """

    MOST_EVENTS = OnlineStore.MOST_EVENTS

    def __init__(self, log: EventLog, histories: Mapping[str, bytes]) -> None:
        self._log, self.histories = log, histories
        self._keep = to_milliseconds(log.retention.events)
        owned = log.retention.owned
        self._keep_owned = _FOREVER if owned is None else to_milliseconds(owned)
        self._ordered: dict[str, list[tuple[tuple[int, bytes], RecentEvent]]] = {}
        self.view, self.moment, self.cutoff = PastView.HAPPENED, 0, 0
        self._later = 0
        self._also: Collection[RecentEvent | str] = ()

    def set_moment(
        self,
        view: PastView,
        moment: int,
        cutoff: int | None = None,
        *,
        later: int = 0,
        also: Collection[RecentEvent | str] = (),
    ) -> None:
        """Set the view and the moment.

        Parameters
        ----------
        view, moment
            As the attributes.
        cutoff
            As the attribute. None: the moment itself.
        later, also
            Of the records that were received after the cutoff and up to `later`, those with one of these events or
            members count too: writers need not write in the order in which records came.
        """
        self.view, self.moment, self.cutoff = view, moment, moment if cutoff is None else cutoff
        self._later, self._also = later, also

    def read(self, query: OnlineQuery) -> OnlineResult:
        """Read recent events, sets and rows; see `OnlineStore.read`."""
        return OnlineResult(
            [self._read_events(owner)[-query.most :] if query.most > 0 else [] for owner in query.events],
            [[self._read_members(name, owner) for owner in owners] for name, owners in query.sets],
            [[self.histories.get(key) for key in keys.keys] for keys in query.rows],
        )

    def list_arrivals(self, owners: Iterable[str], begin: int, end: int) -> list[int]:
        """List when records of some owners were received, after `begin` and up to `end`, ascending."""
        return sorted(
            {
                entry.received
                for owner in owners
                for kept in (self._log.events, self._log.owned, self._log.customers)
                for entry in kept.get(owner, ())
                if begin < entry.received <= end
            }
        )

    def _read_events(self, owner: str) -> list[RecentEvent]:
        if self.view is PastView.HAPPENED:
            ordered = self._order_events(owner)
            return [event for _, event in ordered[: bisect_right(ordered, self.moment, key=_get_time)]]
        entries: Sequence[LoggedEvent] = self._log.events.get(owner, ())
        known = self._select_received(entries)
        return _sort(self._forget(known) if self.view is PastView.KEPT else known)[-self.MOST_EVENTS :]

    def _select_received(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return the entries that had been received."""
        end = bisect_right(entries, self.cutoff, key=_received)
        if not self._also:
            return entries[:end]
        more = entries[end : bisect_right(entries, self._later, key=_received)]
        return [*entries[:end], *(entry for entry in more if entry[-1] in self._also)]

    def _order_events(self, owner: str) -> list[tuple[tuple[int, bytes], RecentEvent]]:
        """Return an owner's events by time, each once."""
        if owner not in self._ordered:
            unique = {place: event for _, place, event in self._log.events.get(owner, ())}
            self._ordered[owner] = sorted(unique.items(), key=itemgetter(0))
        return self._ordered[owner]

    def _forget(self, entries: Sequence[LoggedEvent]) -> Sequence[LoggedEvent]:
        """Return what is kept of an owner's events: all go if nothing was added for long, and old ones never come."""
        kept: list[LoggedEvent] = []
        until = 0
        for entry in entries:
            received, _, event = entry
            if event.time < received - self._keep:
                continue
            if until <= received:
                kept.clear()
            kept.append(entry)
            until = received + self._keep
        return kept if until > self.moment else ()

    def _read_members(self, name: str, owner: str) -> set[str]:
        if name == CUSTOMERS:
            entries, keep, most = self._log.customers.get(owner, ()), self._keep, MOST_CUSTOMERS
        elif name == OWNED:
            entries, keep, most = self._log.owned.get(owner, ()), self._keep_owned, OnlineStore.MOST_MEMBERS
        else:
            return set()
        if self.view is PastView.HAPPENED:
            # How long a customer owns an item is a rule; how long it is known who had a session is not.
            lasts = _FOREVER if name == CUSTOMERS else keep
            return {member for _, time, member in entries if time <= self.moment < time + lasts}
        known = self._select_received(entries)
        if self.view is PastView.RECEIVED and name == CUSTOMERS:
            return {member for _, _, member in known}
        return self._keep_members(known, keep, most, only_recent=name == CUSTOMERS)

    def _keep_members(self, entries: Sequence[LoggedMember], keep: int, most: int, *, only_recent: bool) -> set[str]:
        """Return the members that are kept. only_recent: those of old events never come."""
        until: dict[str, int] = {}
        for received, time, member in entries:
            if only_recent and time < received - self._keep:
                continue
            until = {known: end for known, end in until.items() if end > received}
            until[member] = max(until.get(member, 0), received + keep)
            if len(until) > most:
                kept = sorted(until.items(), key=lambda entry: (entry[1], entry[0]))[-most:]
                until = dict(kept)
        return {member for member, end in until.items() if end > self.moment}


def _sort(entries: Iterable[LoggedEvent]) -> list[RecentEvent]:
    """Return events as online stores order them, each once."""
    unique = {place: event for _, place, event in entries}
    return [unique[place] for place in sorted(unique)]


def _get_time(entry: tuple[tuple[int, bytes], RecentEvent]) -> int:
    return entry[0][0]
