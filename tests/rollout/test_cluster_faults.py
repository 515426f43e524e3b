"""Faults at random between a controller and all that it speaks to, and kills in between, repeatable by a seed.

A storm of faults follows each request of a person. When it is over, the traffic is right within two rounds, which are
four seconds; and at the end the log has each step once.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
import urllib3
from kubernetes.client.exceptions import ApiException

from endcap.errors import TransientError
from endcap.messages import addresses, webhook
from endcap.rollout.messages import RolloutMessage
from endcap.store import Store
from tests.rollout.cluster_shop import ClusterShop, serve_from_a_bucket

ROUND = timedelta(seconds=2)
FAULTS = 500
KILLS = 50
LEAST = 10
"""Faults of each kind."""
STORE_CALLS = ("read_document", "update_document", "list_documents", "fetch")


class Killed(BaseException):
    """The process ends here."""


class Storm:
    """Strikes calls at random while it rages."""

    def __init__(self, seed: int) -> None:
        self.rages = False
        self.faults, self.kills = dict.fromkeys(("api", "store", "webhook"), 0), 0
        self._rng = random.Random(seed)

    def strike(self, place: str, make: Callable[[random.Random], Exception], chance: float = 0.03) -> None:
        if not self.rages:
            return
        draw = self._rng.random()
        if draw < 0.01:
            self.kills += 1
            raise Killed
        if draw < 0.01 + chance:
            self.faults[place] += 1
            raise make(self._rng)


class StruckStore:
    """A store whose calls fail before or after their work."""

    def __init__(self, store: Store, storm: Storm) -> None:
        self._store, self._storm = store, storm

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in STORE_CALLS:
            return method

        def call(*arguments: Any, **options: Any) -> Any:
            self._storm.strike("store", self._fail)
            result = method(*arguments, **options)
            self._storm.strike("store", self._fail)
            return result

        return call

    def _fail(self, rng: random.Random) -> Exception:
        return TransientError("the store does not answer", code="store.unreachable")


def fail_api(moment: str) -> Callable[[random.Random], Exception]:
    def make(rng: random.Random) -> Exception:
        if moment == "after" or rng.random() < 0.3:
            return urllib3.exceptions.ProtocolError("the connection broke")
        error = ApiException(status=rng.choice((429, 500, 503)), reason="fault")
        error.headers = {"Retry-After": "1"}
        return error

    return make


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_traffic_is_right_soon_after_any_storm_and_no_step_is_missing_or_twice(
    shop_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_from_a_bucket(monkeypatch)
    (address,) = addresses.read_addresses({addresses.VARIABLE: "http://hooks.test/"})
    storm, shop = Storm(7), ClusterShop(shop_store)
    delivered: list[bytes] = []
    raised, problems = set[str](), list[str]()

    async def post(url: str, headers: dict[str, str], body: bytes) -> tuple[int, httpx.Headers]:
        storm.strike("webhook", lambda rng: httpx.ConnectError("no route"), 0.4)
        delivered.append(body)
        return 200, httpx.Headers()

    monkeypatch.setattr(webhook, "_post", post)
    shop.api.disturb = lambda moment: storm.strike("api", fail_api(moment))

    def start() -> None:
        store: Any = StruckStore(shop_store, storm)

        def send(message: RolloutMessage) -> None:
            problems.append(webhook.post_message(message.to_message(store), address).problem)

        shop.loop = shop.start_loop(store, [send])

    def weather(rounds: int) -> None:
        storm.rages = True
        for _ in range(rounds):
            try:
                shop.loop.tick()
            except Killed:
                start()
            except Exception as error:
                # The process logs it, and goes on with the next round.
                raised.add(getattr(error, "code", repr(error)).split(".")[0])
            shop.now += ROUND
        storm.rages = False

    # The stable version serves before the first storm.
    start()
    shop.ask("2")
    shop.tick(4)
    shop.api.delete("modelrollouts", "shoes-2")
    shop.tick(2)
    expected = ["begin 2", "abort"]
    stories: list[tuple[Callable[[], None], list[str], tuple[str, str, float]]] = [
        (lambda: shop.ask("2"), ["begin 2"], ("1", "2", 0.1)),
        (lambda: shop.want("2", paused=True), ["pause"], ("1", "2", 0.1)),
        (lambda: shop.want("2", paused=False), ["resume"], ("1", "2", 0.1)),
        (lambda: shop.want("2", outcome="Promote"), ["promote"], ("2", "", 0.0)),
        (lambda: shop.want("2", outcome="Abort"), ["abort"], ("1", "", 0.0)),
        (lambda: shop.ask("3"), ["begin 3"], ("1", "3", 0.1)),
        (lambda: shop.api.delete("modelrollouts", "shoes-3"), ["abort"], ("1", "", 0.0)),
        (lambda: shop.api.delete("modelrollouts", "shoes-2"), [], ("1", "", 0.0)),
    ]
    while sum(storm.faults.values()) < FAULTS or storm.kills < KILLS or min(storm.faults.values()) < LEAST:
        for act, steps, served in stories:
            act()
            weather(4)
            shop.tick(2)
            assert shop.served == served, steps
            expected += steps
    log = shop.make_controller().log
    assert log.verify() > len(expected)
    steps = [
        f"begin {entry.after.version}" if entry.kind == "begin" else entry.command.action
        for entry in log.read_entries()
        if entry.kind == "begin" or entry.command is not None
    ]
    assert steps == expected
    assert raised <= {"cluster", "store"}
    assert delivered
    assert any(problems)
