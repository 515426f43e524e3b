"""Hostile requests to all that listens: no 500, an answer or an end within a time, no growth, and ordinary shoppers
are served beside them."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from endcap.processes import is_alive
from tests.chaos import grammar
from tests.chaos.attack import Attack, Seen, Stage
from tests.chaos.processes import memory
from tests.chaos.request import Hostile, post
from tests.chaos.stack import Beside, Repeated, Shopper, deploy, served, shop_in, troubles_of
from tests.chaos.wire import Answer, send
from tests.intake.servers import run_server

TARGETS = {"gateway": 60, "stable": 15, "intake": 15, "list": 10}
BOUND = 40.0
"""Seconds in which an answer or an end must come: the predictor waits 30 for a head."""
THREADS = 32
WARM, WARM_SHORT = 1500, 200
"""Requests that each target gets before memory counts."""
LARGE, LARGE_AT_ONCE = 15 << 20, 4
"""Bytes of a large one, and how many of those each target gets then."""
GROWTH = 0.05
"""Of its memory in the first minute, what a process may have gained at the end."""
GROWTH_SHORT = 0.10
"""In the short form, whose last seconds are compared with its first ones: what fills once is not full by then."""
LISTED = 0.05
"""Of the ordinary requests, what the list may have to answer."""
RIGHT_AFTER = 20.0
MIB = 2**20
MEASURED = ("supervisor", "stable", "envoy", "intake")


@dataclass(frozen=True)
class Sent(Seen):
    """A hostile request. target: who got it; status: the worst."""

    target: str = ""
    status: int = 0
    outcome: str = "answered"
    seconds: float = 0.0


@dataclass(frozen=True)
class Memory(Seen):
    """Bytes of a role, in the first minute and at the end; allowed: as a share, the growth."""

    role: str = ""
    first: float = 0.0
    last: float = 0.0
    allowed: float = GROWTH


@dataclass(frozen=True)
class Ordinary(Seen):
    """Ordinary requests beside. statuses: how many of each; wrong: answered 200 with other items; after: the last one
    was answered by the stable version."""

    statuses: tuple[tuple[int, int], ...] = ()
    wrong: int = 0
    listed: float = 0.0
    after: bool = True


@dataclass(frozen=True)
class Lives(Seen):
    """Whether a process is the one that it was before."""

    role: str = ""
    same: bool = True


def attempts(stage: Stage) -> Iterator[Seen]:
    shop = shop_in(stage.place("store"))
    deploy(shop)
    # An intake of its own, which makes Parquet from the first seconds on, and can be reached without the gateway.
    with (
        served(shop, stage.folder / "server.log") as stack,
        run_server(stage.place("intake"), "--segment-age", "5s") as intake,
    ):

        def roles() -> dict[str, int]:
            return {**stack.roles(), "intake": intake.process.pid}

        before, ports = roles(), {**stack.ports(), "intake": intake.port}
        if stage.only is None:
            _warm(stage, ports)
        shopper = Shopper(stack, shop.ids[:3])
        with Watch(roles) as watch, Beside(shopper) as beside:
            yield from _sent(stage, ports)
        # Who was asked much has a moment to answer again.
        deadline = time.monotonic() + RIGHT_AFTER
        while not (after := (last := shopper.ask()).variant == "stable" and last.right) and time.monotonic() < deadline:
            time.sleep(0.2)
        shopper.close()
        statuses = Counter(each.status for each in beside.answers)
        listed = sum(each.variant == "fallback" for each in beside.answers) / max(len(beside.answers), 1)
        wrong = sum(not each.right for each in beside.answers if each.status == 200)
        stage.figures["ordinary requests beside"] = len(beside.answers)
        stage.figures["of them by the list"] = round(listed, 4)
        yield Ordinary(-1, "ordinary", tuple(sorted(statuses.items())), wrong, listed, after)
        for role, pid in before.items():
            yield Lives(-1, "process", role, roles().get(role) == pid and is_alive(pid))
        if stage.only is None:
            yield from watch.growth(stage)


def _warm(stage: Stage, ports: dict[str, int]) -> None:
    """What fills once is full before memory counts: caches, and buffers of large bodies."""
    with ThreadPoolExecutor(THREADS) as pool:
        for number in range(WARM_SHORT if stage.short else WARM):
            for target in TARGETS:
                request = grammar.made(stage.chance(-1 - number))
                if request.kind != "slow":
                    pool.submit(_one, number, target, ports[target], request)
        large = Hostile("large", (post("/v1/events", b" " * LARGE),), then="half")
        for target, port in list(ports.items()) * LARGE_AT_ONCE:
            pool.submit(_one, -1, target, port, large)


def _sent(stage: Stage, ports: dict[str, int]) -> Iterator[Sent]:
    """All requests, evenly over the attack's length, as their answers come."""
    begun, pending = time.monotonic(), set[Future[Sent]]()
    with ThreadPoolExecutor(THREADS) as pool:
        for number in stage.numbers:
            target, port, request = _drawn(stage, number, ports)
            if stage.only is None:
                time.sleep(max(0.0, begun + stage.seconds * number / stage.count - time.monotonic()))
            pending.add(pool.submit(_one, number, target, port, request))
            done = {each for each in pending if each.done()}
            pending -= done
            yield from (each.result() for each in done)
        yield from (each.result() for each in pending)
    stage.figures["requests a second"] = round(stage.count / (time.monotonic() - begun), 1)


def _drawn(stage: Stage, number: int, ports: dict[str, int]) -> tuple[str, int, Hostile]:
    chance = stage.chance(number)
    target = chance.choices(list(TARGETS), list(TARGETS.values()))[0]
    return target, ports[target], grammar.made(chance)


def _one(number: int, target: str, port: int, request: Hostile) -> Sent:
    answer: Answer = send("127.0.0.1", port, request, BOUND)
    return Sent(number, request.kind, target, max(answer.statuses, default=0), answer.outcome, round(answer.seconds, 2))


class Watch(Repeated[dict[str, int]]):
    """Looks at the processes' memory every second: bytes by role."""

    def __init__(self, roles: Callable[[], dict[str, int]]) -> None:
        super().__init__(lambda: {role: memory(pid) for role, pid in roles().items()}, 1.0)

    def growth(self, stage: Stage) -> Iterator[Memory]:
        """The end against the first minute, in the short form against its first third: medians of the samples."""
        count = len(self.results)
        first = self.results[30:60] if not stage.short else self.results[count // 6 : count // 3]
        last = self.results[-30:] if not stage.short else self.results[-count // 6 :]
        for role in MEASURED:
            then = statistics.median([each[role] for each in first if role in each] or [0])
            now = statistics.median([each[role] for each in last if role in each] or [0])
            stage.figures[f"memory of {role}, growth in %"] = round(100 * (now / then - 1), 2) if then else 0.0
            stage.figures[f"memory of {role}, MiB"] = round(now / MIB, 1)
            yield Memory(-1, "memory", role, then, now, GROWTH_SHORT if stage.short else GROWTH)


def judge(seen: Seen) -> Iterator[str]:
    if isinstance(seen, Sent):
        if seen.status == 500:
            yield f"the {seen.target} answered 500"
        if seen.outcome in ("late", "refused"):
            yield f"the {seen.target}: {seen.outcome}, {seen.seconds} s"
    elif isinstance(seen, Memory):
        if seen.last > seen.first * (1 + seen.allowed) or not seen.first:
            first, last = seen.first / MIB, seen.last / MIB
            yield f"{seen.role} had {first:.1f} MiB in the first minute, {last:.1f} at the end"
    elif isinstance(seen, Lives):
        if not seen.same:
            yield f"{seen.role} is another process than before, or none"
    elif isinstance(seen, Ordinary):
        yield from troubles_of(seen.statuses, seen.wrong, seen.listed, LISTED)
        if not seen.after:
            yield "the stable version does not answer after it"


ATTACK = Attack(
    "hostile",
    "hostile requests to gateway, predictor, intake and list server",
    attempts,
    judge,
    full=30_000,
    short=2_000,
    limit=600,
    seconds=(300.0, 25.0),
)
