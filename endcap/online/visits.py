"""Which of a shopper's recent events a ranking reads: those of the last visit that a model would have learnt from."""

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
    """How a shop's sessions are made, as of the dataset that a model was trained on.

    types: of the events in them (None: all); an event that says none counts. gap: ms without any activity that end a
    customer's visit; None: sessions are not cut so.
    """

    types: Collection[str] | None = None
    gap: int | None = None

    def select_session_events(self, events: Sequence[VisitEventT]) -> Sequence[VisitEventT]:
        """Those that a session has; the others are activity beside."""
        types = self.types
        if types is None:
            return [event for event in events if event.item != NO_ITEM]
        return [event for event in events if event.item != NO_ITEM and (event.type is None or event.type in types)]

    def find_last_visit(self, events: Sequence[TimedEventT]) -> Sequence[TimedEventT]:
        """The events of the last session in all that a customer did, oldest first: what a dataset of now would have.

        The visit of the last event that counts, though it be long ago: a visit of other activity alone is no session,
        and takes no place of one.
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
        """How many of an owner's last events to read, so that `most` that count are among them as a rule."""
        return most if self.types is None and self.gap is None else READ_FACTOR * most

    def needs_more(self, events: Sequence[VisitEventT], most: int) -> bool:
        """Whether an owner of whom so many events were read may have some before that count too."""
        return most < self.count_reads(most) <= len(events) and len(self.select_session_events(events)) < most
