"""What records of an intake change in an online store: the one rule, for the intake and for who computes the past."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from endcap.online.base import NO_ITEM, RecentEvent
from endcap.online.key_names import list_owners, name_customer_owner, name_session_owner

PURCHASE = "purchase"
"""The type of the events that an order's lines become."""
MOST_CUSTOMERS = 2
"""Customers that the store keeps for one session id. Readers only ask whether there is more than one."""


@dataclass(frozen=True)
class Retention:
    """What the online store keeps, and for how long.

    Parameters
    ----------
    events
        How long it keeps events.
    owned
        How long it keeps the items that a customer owns. None: for good.
    owned_types
        Types of events after which the customer owns the item. Orders always count.
    """

    events: timedelta = timedelta(days=7)
    owned: timedelta | None = None
    owned_types: Collection[str] = ()


@dataclass
class StoreUpdate:
    """What records change in the store, by owner.

    Attributes
    ----------
    events
        Events of customers and sessions.
    customers
        Customers who have a session of the id, by nobody's session of that id.
    owned
        Items that customers own.
    """

    events: dict[str, list[RecentEvent]] = field(default_factory=lambda: defaultdict(list))
    customers: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    owned: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(
        self,
        items: Sequence[str],
        time: int,
        type_: str | None,
        *,
        customer: str | None,
        session: str | None,
        is_recent: bool,
        owns: bool,
    ) -> None:
        """Add a record.

        Parameters
        ----------
        items
            Its items; `NO_ITEM` for an event without one.
        time
            Its time in epoch milliseconds.
        type_
            Its type.
        customer, session
            Whose it is.
        is_recent
            Whether it is younger than the store keeps events. An event that the store would have forgotten by now does
            not become recent because it arrives late.
        owns
            Whether the customer owns the items now.
        """
        if list(items) == [NO_ITEM]:
            # Activity without an item keeps a customer's visit alive. It neither cuts a session that the shop names,
            # nor makes it a customer's.
            session = None
        if is_recent:
            for owner in list_owners(session, customer):
                self.events[owner] += [RecentEvent(item, time, type_) for item in items]
            if session is not None and customer is not None:
                self.customers[name_session_owner(session, None)].add(customer)
        if customer is not None and owns:
            self.owned[name_customer_owner(customer)].update(item for item in items if item != NO_ITEM)
