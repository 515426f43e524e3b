"""What an online store would have said of shoppers at a moment, computed from the event log."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from operator import attrgetter

from endcap.online import CUSTOMERS, OWNED, OnlineQuery, OnlineResult, OnlineStore, RecentEvent
from endcap.online.base import encode_event, to_milliseconds
from endcap.online.record_updates import MOST_CUSTOMERS
from endcap.replay.event_log import EventLog, LoggedEvent, LoggedMember

_FOREVER = 2**62
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
        self.view, self.moment, self.cutoff = PastView.HAPPENED, 0, 0

    def set_moment(self, view: PastView, moment: int, cutoff: int | None = None) -> None:
        """Set the view and the moment. cutoff: None for the moment itself."""
        self.view, self.moment, self.cutoff = view, moment, moment if cutoff is None else cutoff

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
        entries: Sequence[LoggedEvent] = self._log.events.get(owner, ())
        if self.view is PastView.HAPPENED:
            events = [entry.event for entry in entries if entry.event.time <= self.moment]
        else:
            known = entries[: bisect_right(entries, self.cutoff, key=_received)]
            events = self._forget(known) if self.view is PastView.KEPT else [entry.event for entry in known]
        return sorted(set(events), key=_order)

    def _forget(self, entries: Sequence[LoggedEvent]) -> list[RecentEvent]:
        """Return what is kept of an owner's events: all go if nothing was added for long, and old ones never come."""
        kept: list[RecentEvent] = []
        until = 0
        for received, event in entries:
            if event.time < received - self._keep:
                continue
            if until <= received:
                kept.clear()
            kept.append(event)
            until = received + self._keep
        if until <= self.moment:
            return []
        return sorted(set(kept), key=_order)[-self.MOST_EVENTS :]

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
        known = entries[: bisect_right(entries, self.cutoff, key=_received)]
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


def _order(event: RecentEvent) -> tuple[int, bytes]:
    """Order as online stores do: by time, events of one moment by their stored form."""
    return event.time, encode_event(event)
