"""Simulated shoppers who use a real service: they ask the gateway for rankings, and report to the intake.

Clicks name their ranking, and have the type `click`. What a shopper views without a ranking has the type `view`: where
a metric counts views as clicks too, those of items that a ranking showed count for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

from endcap.client import AsyncClient
from endcap.errors import EndcapError
from endcap.simulation.live_counts import LiveCounts, LiveTally
from endcap.simulation.live_shoppers import LiveShoppers, LiveVisit

_REPORT_EVERY = 0.2
"""Seconds between the calls that report what shoppers did."""
_MOST_RECORDS = 1_000
"""Records of one such call."""
_LONGEST_BACKLOG = 1.0
"""Seconds by which arrivals may be late and are caught up."""
_KINDS = ("impressions", "events", "orders")


class LiveShop:
    """Sends simulated shoppers to a service, so many visits a second.

    Parameters
    ----------
    address
        The gateway's address.
    recommender
        The recommender's name.
    shoppers
        Who comes, and how they behave.
    visits_per_second
        How many visits begin a second, at random moments.
    k
        How many items a ranking has.
    pause
        The mean seconds that a shopper looks at a ranking.
    most_visits
        How many visits go on at a time. Later shoppers wait for a place: a slow service has fewer visits.
    timeout, key, token
        As in `endcap.Client`.
    """

    def __init__(
        self,
        address: str,
        recommender: str,
        shoppers: LiveShoppers,
        *,
        visits_per_second: float = 10.0,
        k: int = 10,
        pause: float = 0.2,
        most_visits: int = 100,
        timeout: float = 1.0,
        key: str = "",
        token: str = "",
    ) -> None:
        self._shoppers = shoppers
        self._rate, self._k, self._pause, self._most_visits = visits_per_second, k, pause, most_visits
        self._client_options: dict[str, Any] = {
            "url": address,
            "recommender": recommender,
            "timeout": timeout,
            "key": key,
            "token": token,
        }
        self._next_visit = 0
        self._tally = LiveTally()

    def run(self, visits: int) -> LiveCounts:
        """Send this number of visits, and return when they and their reports are over.

        Returns
        -------
        LiveCounts
            What all visits of this shop did so far, those of earlier calls too.
        """
        asyncio.run(self._run(asyncio.Event(), visits))
        return self.count()

    @contextlib.contextmanager
    def keep_open(self) -> Iterator[None]:
        """Send visits for the length of a block, in a thread of its own.

        At its end no visit begins, visits leave after the ranking that they look at, and all reports are sent.
        """
        loop, stop = asyncio.new_event_loop(), asyncio.Event()
        errors: list[BaseException] = []

        def work() -> None:
            try:
                with asyncio.Runner(loop_factory=lambda: loop) as runner:
                    runner.run(self._run(stop, None))
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work, name="live-shop", daemon=True)
        thread.start()
        try:
            yield
        finally:
            # The loop is closed already if the thread failed.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stop.set)
            thread.join()
        if errors:
            raise errors[0]

    def count(self) -> LiveCounts:
        """Return what shoppers did so far; any thread may ask."""
        return self._tally.copy_counts()

    async def _run(self, stop: asyncio.Event, visits: int | None) -> None:
        async with AsyncClient(**self._client_options) as client:
            reports = _Reports(client, self._tally)
            closing = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(reports.keep_sending(closing))
                try:
                    await self._admit(client, reports, stop, visits)
                finally:
                    closing.set()
            await reports.send()

    async def _admit(self, client: AsyncClient, reports: _Reports, stop: asyncio.Event, visits: int | None) -> None:
        """Let shoppers come until `stop`, or until so many came, and wait until they have left."""
        moments = random.Random(self._next_visit)  # noqa: S311
        places = asyncio.Semaphore(self._most_visits)
        arrival = time.monotonic()
        end = None if visits is None else self._next_visit + visits

        async def attend(visit: LiveVisit) -> None:
            try:
                await self._attend(visit, client, reports, stop)
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            while self._next_visit != end:
                arrival = max(arrival + moments.expovariate(self._rate), time.monotonic() - _LONGEST_BACKLOG)
                if await _wait(stop, arrival - time.monotonic()):
                    return
                await places.acquire()
                visit = self._shoppers.start_visit(self._next_visit)
                self._next_visit += 1
                self._tally.add_visit(visit.shopper.id)
                group.create_task(attend(visit))

    async def _attend(self, visit: LiveVisit, client: AsyncClient, reports: _Reports, stop: asyncio.Event) -> None:
        """Go through one visit. It ends early if the service refuses a ranking."""
        shopper = visit.shopper
        owner = {"shopper": shopper.id, "session": f"live-{visit.number}"}
        customer = shopper.id if shopper.is_signed_in else None
        if customer is not None:
            owner["customer"] = customer
        reports.add("events", {**owner, "item": visit.views[0], "type": "view"})
        stays = True
        while stays:
            try:
                ranking = await client.rank(shopper=shopper.id, items=list(visit.views), customer=customer, k=self._k)
            except EndcapError as error:
                self._tally.add_failure(error.code)
                return
            reaction = self._shoppers.react(ranking.ids, visit)
            self._tally.add_ranking(ranking.variant, ranking.model_version or "", reaction)
            for position, item in enumerate(ranking.ids[: reaction.places_seen]):
                record = {"ranking_id": ranking.id, "item": item, "position": position}
                reports.add("impressions", {**owner, **record})
            has_left = await _wait(stop, self._pause * reaction.pause)
            act = {**owner, "item": reaction.next_view}
            if reaction.clicked is not None:
                act["ranking_id"] = ranking.id
            reports.add("events", {**act, "type": "view" if reaction.clicked is None else "click"})
            if reaction.carts:
                reports.add("events", {**act, "type": "cart"})
            if reaction.buys:
                line = {
                    "item": reaction.next_view,
                    "quantity": 1,
                    "price": self._shoppers.prices.get(reaction.next_view),
                }
                reports.add("orders", {"customer": shopper.id, "shopper": shopper.id, "items": [line]})
            stays = reaction.stays and not has_left


class _Reports:
    """What shoppers did and nobody has reported yet; many records go in one call."""

    def __init__(self, client: AsyncClient, tally: LiveTally) -> None:
        self._tally = tally
        self._senders = {"impressions": client.impressions, "events": client.events, "orders": client.orders}
        self._records: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _KINDS}

    def add(self, kind: str, record: dict[str, Any]) -> None:
        self._records[kind].append({**record, "time": int(time.time() * 1000)})

    async def keep_sending(self, closing: asyncio.Event) -> None:
        while not await _wait(closing, _REPORT_EVERY):
            await self.send()

    async def send(self) -> None:
        """Send all records, impressions first. Records whose call fails are counted as lost."""
        for kind in _KINDS:
            records, self._records[kind] = self._records[kind], []
            for begin in range(0, len(records), _MOST_RECORDS):
                batch = records[begin : begin + _MOST_RECORDS]
                try:
                    receipt = await self._senders[kind](batch)
                except EndcapError as error:
                    self._tally.add_lost(kind, len(batch), error.code)
                else:
                    self._tally.add_receipt(kind, receipt)


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Wait so many seconds, or until the event is set. Return whether it is."""
    if event.is_set() or seconds <= 0:
        return event.is_set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
