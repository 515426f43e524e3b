"""A Redis that is killed, stopped, slow, full, read-only, locked, or talks nonsense: rankings and events do not mind.

While it is so, every ranking is one of the model's, in time, and every event is taken. When it is well again, rankings
know what customers did, and it follows events.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx

from endcap.errors import OnlineStoreError
from endcap.online import RecentEvent, open_online
from endcap.online.key_names import name_session_owner
from tests.chaos.attack import Attack, Seen, Stage, wait_until
from tests.chaos.intake_kills import temporary
from tests.chaos.redis_breaking import ONE_BAD_KEY, Faults
from tests.chaos.stack import NAME, Stack, deploy, served, shop_in
from tests.intake.servers import event
from tests.online.servers import RedisServer, SlowProxy
from tests.serving.conftest import Shop, customer

LASTS = 2.0
"""Seconds of a fault."""
IN_TIME = 2.0
"""Seconds that a ranking may take meanwhile: the time of a request."""
WELL = 20.0
"""Seconds until all is as before."""


@dataclass(frozen=True)
class Fault(Seen):
    """A fault, and what came of it. statuses, variants: of rankings meanwhile; degraded: how many of them, of other
    customers where the fault is one customer's; took: statuses of events; well: whether rankings know what customers
    did afterwards; follows: whether the store is told of events again."""

    statuses: tuple[int, ...] = (200,)
    variants: tuple[str, ...] = ("stable",)
    slowest: float = 0.0
    degraded: int = 0
    took: tuple[int, ...] = (200,)
    well: bool = True
    follows: bool = True


@dataclass(frozen=True)
class Events(Seen):
    """What the intake has acknowledged and the Parquet has, in the end."""

    lost: int = 0
    twice: int = 0
    temporary: tuple[str, ...] = ()


def attempts(stage: Stage) -> Iterator[Seen]:
    shop = shop_in(stage.place("store"))
    deploy(shop)
    taken: list[str] = []
    with RedisServer(stage.folder / "redis") as server, contextlib.closing(SlowProxy(server.port)) as proxy:
        with served(shop, stage.folder / "server.log", ENDCAP_ONLINE=proxy.url) as stack:
            scene = Scene(stage, shop, stack, server, proxy, taken)
            for number in stage.numbers:
                yield scene.play(number)
            intake = stack.store / "intake"
        # Asked to end, the intake seals what it has.
        there = _ids(intake)
        lost, twice = len(set(taken) - set(there)), len(there) - len(set(there))
        yield Events(-1, "events", lost, twice, temporary(stack.store))


class Scene:
    """All that a fault takes."""

    def __init__(
        self, stage: Stage, shop: Shop, stack: Stack, server: RedisServer, proxy: SlowProxy, taken: list[str]
    ) -> None:
        self._stage, self._shop, self._stack = stage, shop, stack
        self._server, self._proxy, self._taken = server, proxy, taken
        self._client = httpx.Client(timeout=20)
        self._faults = Faults(server, proxy, stage.chance(0), customer(1)).by_name()

    def play(self, number: int) -> Fault:
        names = list(self._faults)
        kind = names[number % len(names)]
        self._remember()
        took: set[int] = set()
        statuses, variants, slowest, degraded = set(), set(), 0.0, 0
        with self._faults[kind]():
            until, count = time.monotonic() + LASTS, 0
            while time.monotonic() < until:
                count += 1
                begun = time.monotonic()
                status, variant, missed = self._rank(2 if kind == ONE_BAD_KEY and count % 2 else 1)
                slowest = max(slowest, time.monotonic() - begun)
                statuses.add(status)
                variants.add(variant)
                # The customer whose key it is goes without; nobody else does.
                degraded += missed and (kind != ONE_BAD_KEY or count % 2 == 1)
                took.add(self._tell(f"{number}-{count}", f"s-{number}"))
                time.sleep(0.02)
        well = wait_until(lambda: self._known(), WELL, 0.1) is not None
        follows = wait_until(lambda: self._follows(number), WELL, 0.1) is not None
        said = tuple(sorted(statuses)), tuple(sorted(variants)), round(slowest, 2), degraded
        return Fault(number, kind, *said, tuple(sorted(took)), well, follows)

    def _rank(self, index: int) -> tuple[int, str, bool]:
        body: dict[str, Any] = {"instances": [{"customer": customer(index), "k": 3}]}
        try:
            answer = self._client.post(f"{self._stack.address}/v1/models/{NAME}:predict", json=body)
        except httpx.HTTPError:
            return 0, "", False
        variant = answer.headers.get("x-endcap-variant", "")
        return answer.status_code, variant, "x-endcap-degraded" in answer.headers

    def _tell(self, identity: str, session: str) -> int:
        port = self._stack.ports()["intake"]
        try:
            answer = self._client.post(f"http://127.0.0.1:{port}/v1/events", json=event(identity, session=session))
        except httpx.HTTPError:
            return 0
        if answer.status_code == 200:
            self._taken.append(identity)
        return answer.status_code

    def _remember(self) -> None:
        now = time.time_ns() // 1_000_000
        some = {f"customer:{customer(index)}": [RecentEvent(self._shop.ids[index], now)] for index in (1, 2)}
        with open_online(self._server.url, shop="demo", timeout=5) as store:
            store.append(some, timedelta(days=1))

    def _known(self) -> bool:
        with contextlib.suppress(OnlineStoreError):
            self._remember()
        return self._rank(1) == self._rank(2) == (200, "stable", False)

    def _follows(self, number: int) -> bool:
        session = f"after-{number}"
        self._tell(f"{session}-{time.time_ns()}", session)
        with contextlib.suppress(OnlineStoreError), open_online(self._server.url, shop="demo", timeout=5) as store:
            return bool(store.recent([name_session_owner(session, None)], 1)[0])
        return False


def _ids(out: Any) -> list[str]:
    import pyarrow.parquet as pq

    return [
        each
        for file in (out / "events").rglob("*.parquet")
        for each in pq.ParquetFile(file).read(["id"])["id"].to_pylist()
    ]


def judge(seen: Seen) -> Iterator[str]:
    if isinstance(seen, Fault):
        if seen.statuses != (200,):
            yield f"rankings met {seen.statuses}"
        if seen.variants != ("stable",):
            yield f"rankings were answered by {seen.variants}"
        if seen.slowest > IN_TIME:
            yield f"a ranking took {seen.slowest} s"
        if seen.kind == ONE_BAD_KEY and seen.degraded:
            yield f"{seen.degraded} rankings of other customers went without the store"
        if seen.took != (200,):
            yield f"events met {seen.took}"
        if not seen.well:
            yield f"rankings do not know what customers did within {WELL:.0f} s afterwards"
        if not seen.follows:
            yield f"the store is not told of events within {WELL:.0f} s afterwards"
    elif isinstance(seen, Events):
        if seen.lost:
            yield f"{seen.lost} acknowledged events are lost"
        if seen.twice:
            yield f"{seen.twice} events are there twice"
        if seen.temporary:
            yield f"temporary files are left: {', '.join(seen.temporary[:5])}"


ATTACK = Attack(
    "redis", "faults of the online store's Redis", attempts, judge, full=22, short=4, limit=360, needs=("redis-server",)
)
