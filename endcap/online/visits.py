"""Selects the recent events that a ranking reads: those of the last visit, of the types that the model learnt from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from endcap.online.base import NO_ITEM


class VisitEvent(Protocol):
    """An event that may count."""

    @property
    def item(self) -> str: ...

    @property
    def type(self) -> str | None: ...


class TimedEvent(VisitEvent, Protocol):
    """An event whose time is known."""

    @property
    def time(self) -> int:
        """Epoch ms."""


READ_FACTOR = 4
"""Events for each that counts: of most shops' logs more than a quarter are views."""
VisitEventT = TypeVar("VisitEventT", bound=VisitEvent)
TimedEventT = TypeVar("TimedEventT", bound=TimedEvent)


@dataclass(frozen=True)
class Visits:
    """How events become sessions, as in the dataset that a model was trained on.

    Attributes
    ----------
    types
        Types of events that belong to sessions; None: all. An event without a type belongs to one too.
    gap
        Milliseconds without activity that end a customer's visit; None: visits are not ended by a gap.
    """

    types: Collection[str] | None = None
    gap: int | None = None

    def select_session_events(self, events: Sequence[VisitEventT]) -> Sequence[VisitEventT]:
        """Select the events that belong to a session. The others only show that the visit goes on."""
        types = self.types
        if types is None:
            return [event for event in events if event.item != NO_ITEM]
        return [event for event in events if event.item != NO_ITEM and (event.type is None or event.type in types)]

    def find_last_visit(self, events: Sequence[TimedEventT]) -> Sequence[TimedEventT]:
        """Find a customer's last session, as a dataset that was made now would have it.

        A visit without events that belong to a session is skipped, so the last session may be long ago.

        Parameters
        ----------
        events
            Everything that the customer did, oldest first.

        Returns
        -------
        Sequence
            The events of the session, oldest first.
        """
        counting = self.select_session_events(events)
        if self.gap is None or not counting:
            return counting
        last, begun = counting[-1].time, counting[-1].time
        for event in reversed(events):
            if event.time <= last:
                if begun - event.time > self.gap:
                    break
                begun = event.time
        return [event for event in counting if event.time >= begun]

    def count_reads(self, most: int) -> int:
        """Return how many of an owner's last events to read, so that usually `most` of them belong to sessions."""
        return most if self.types is None and self.gap is None else READ_FACTOR * most

    def needs_more(self, events: Sequence[VisitEventT], most: int) -> bool:
        """Tell whether an owner may have earlier events that belong to sessions, beyond those that were read."""
        return most < self.count_reads(most) <= len(events) and len(self.select_session_events(events)) < most
