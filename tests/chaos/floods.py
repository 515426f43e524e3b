"""Clients ask for much, or hold connections, from addresses of their own: ordinary shoppers are served beside them.

The gateway limits each address; the ordinary shopper has a key, and with it a rate of his own.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.access.credentials import make_client
from tests.chaos.attack import Attack, Seen, Stage, wait_until
from tests.chaos.stack import NAME, Beside, Shopper, Stack, deploy, served, shop_in, troubles_of

CLIENTS = 8
KEY = "the shop's own key"
RATE = "1:1"
"""What an address may send without a key: requests a second, and at once. Without it the list would answer half."""
REFUSED_PAUSE = 0.02
"""Seconds that a heavy client waits after it was refused."""
HELD = 400
LISTED = 0.25
"""Of the ordinary requests, what the list may have to answer."""
IN_TIME = 3.0
"""Seconds that an ordinary request may take: its time of 2 s, and a machine that is busy."""
WELL = 20.0


@dataclass(frozen=True)
class Flooded(Seen):
    """A flood. ordinary: requests beside it by their status; listed: the share that the list answered; flood: what
    the flood's own requests met; well: whether the stable version answers afterwards."""

    ordinary: tuple[tuple[int, int], ...] = ((200, 1),)
    wrong: int = 0
    listed: float = 0.0
    slowest: float = 0.0
    flood: tuple[tuple[int, int], ...] = ()
    well: bool = True


def attempts(stage: Stage) -> Iterator[Flooded]:
    shop = shop_in(stage.place("store"))
    deploy(shop)
    heavy = json.dumps({"instances": [{"items": shop.ids[:50], "k": 100}] * 300}).encode()
    kinds: dict[str, Callable[[Flood], None]] = {
        "heavy clients": lambda flood: flood.ask(heavy),
        "slow heads": lambda flood: flood.hold(b"POST / HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: "),
        "idle connections": lambda flood: flood.hold(b""),
        "connections opened and closed": lambda flood: flood.storm(),
    }
    policy = {"anonymous": ["rank"], "clients": [make_client("shop", KEY, rate={"perSecond": 500, "burst": 500})]}
    (access := stage.folder / "access.yaml").write_text(json.dumps(policy))
    limits = ["--access", str(access), "--rate", RATE]
    with served(shop, stage.folder / "server.log", limits) as stack:
        for number in stage.numbers:
            kind = list(kinds)[number % len(kinds)]
            yield _one(stage, number, kind, kinds[kind], stack, shop.ids[:3])


def _one(stage: Stage, number: int, kind: str, run: Callable[[Flood], None], stack: Stack, items: list[str]) -> Flooded:
    shopper = Shopper(stack, items, KEY)
    flood = Flood(stack.port)
    threads = [threading.Thread(target=_from, args=[run, flood, number], daemon=True) for number in range(CLIENTS)]
    with Beside(shopper, pause=0.03) as beside:
        for thread in threads:
            thread.start()
        time.sleep(stage.seconds)
        flood.over.set()
        for thread in threads:
            thread.join()
    well = wait_until(lambda: shopper.ask().variant == "stable", WELL, 0.2) is not None
    shopper.close()
    answers = beside.answers
    listed = sum(each.variant == "fallback" for each in answers) / max(len(answers), 1)
    stage.figures[f"{kind}: ordinary requests"] = len(answers)
    stage.figures[f"{kind}: of them by the list"] = round(listed, 3)
    ordinary = tuple(sorted(Counter(each.status for each in answers).items()))
    wrong = sum(not each.right for each in answers if each.status == 200)
    slowest = round(max((each.seconds for each in answers), default=0.0), 2)
    return Flooded(number, kind, ordinary, wrong, listed, slowest, tuple(sorted(flood.met.items())), well)


def _from(run: Callable[[Flood], None], flood: Flood, number: int) -> None:
    flood.here.source = f"127.0.0.{number + 2}"
    run(flood)


class Flood:
    """One flood's clients; each has an address of its own on loopback."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.over = threading.Event()
        self.met: Counter[int] = Counter()
        self.here: Any = threading.local()

    def ask(self, body: bytes) -> None:
        connection = self._connection()
        while not self.over.is_set():
            try:
                connection.request("POST", f"/v1/models/{NAME}:predict", body, {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                self.met[answer.status] += 1
                if answer.status == 429:
                    # The flood shares the processors with what it attacks, which no gateway could defend.
                    time.sleep(REFUSED_PAUSE)
            except (OSError, http.client.HTTPException):
                connection.close()
                self.met[0] += 1
                time.sleep(0.05)
        connection.close()

    def hold(self, begin: bytes) -> None:
        held: list[socket.socket] = []
        with contextlib.ExitStack() as stack:
            while not self.over.wait(0.02):
                if len(held) < HELD // CLIENTS:
                    with contextlib.suppress(OSError):
                        held.append(stack.enter_context(self._socket()))
                        held[-1].sendall(begin)
                for each in held:
                    with contextlib.suppress(OSError):
                        each.send(b"x" if begin else b"")

    def storm(self) -> None:
        while not self.over.is_set():
            with contextlib.suppress(OSError), self._socket() as each:
                each.sendall(b"GET / HTTP/1.1\r\n")
                self.met[0] += 1

    def _socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), 10, source_address=(self.here.source, 0))

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=20, source_address=(self.here.source, 0))


def judge(seen: Flooded) -> Iterator[str]:
    yield from troubles_of(seen.ordinary, seen.wrong, seen.listed, LISTED)
    if seen.slowest > IN_TIME:
        yield f"an ordinary request took {seen.slowest} s"
    if any(status == 500 for status, _ in seen.flood):
        yield "the flood was answered 500"
    if not seen.well:
        yield f"the stable version does not answer within {WELL:.0f} s afterwards"


ATTACK = Attack(
    "floods",
    "clients that ask for much or hold connections",
    attempts,
    judge,
    full=8,
    short=2,
    limit=240,
    seconds=(10.0, 4.0),
)
