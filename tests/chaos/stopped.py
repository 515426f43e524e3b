"""Processes of a served recommender are stopped or killed, one at a time: shoppers are served again, and nobody helps.

A stopped process (SIGSTOP) keeps its connections and answers nothing; a killed one is gone at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx

from endcap.deploy.state_changes import set_share
from tests.chaos.attack import Attack, Seen, Stage, wait_until
from tests.chaos.stack import NAME, Beside, Shopper, Stack, deploy, opened, served, shop_in
from tests.intake.servers import event

BOUND = 60.0
"""Seconds until all is as before."""
ROLES = ("stable", "envoy", "intake", "canary")


@dataclass(frozen=True)
class Hit(Seen):
    """A process was stopped or killed. recovered: seconds until shoppers and events were taken as before, None: never
    within the bound; supervised: whether the supervisor lives; statuses: what shoppers met meanwhile."""

    recovered: float | None = 0.0
    supervised: bool = True
    statuses: tuple[int, ...] = (200,)


def attempts(stage: Stage) -> Iterator[Hit]:
    shop = shop_in(stage.place("store"))
    waiting = list(stage.numbers)
    while waiting:
        deploy(shop, 0.5)
        # A server that did not recover is not held against the next attempt, which gets another one.
        with served(shop, stage.folder / f"server-{waiting[0]}.log") as stack:
            assert wait_until(lambda now=stack: "canary" in now.roles(), BOUND) is not None
            hit = Hit(-1, "")
            while waiting and hit.supervised and hit.recovered is not None:
                hit = _one(
                    stage, waiting.pop(0), stack, shop.ids[:3], lambda share: set_share(NAME, share, opened(shop))
                )
                yield hit


def _one(stage: Stage, number: int, stack: Stack, items: list[str], change: Callable[[float], object]) -> Hit:
    role = ROLES[number % len(ROLES)]
    name = signal.SIGKILL if (number // len(ROLES)) % 2 or (stage.short and number % 2) else signal.SIGSTOP
    pid = stack.roles()[role]
    shopper = Shopper(stack, items)
    time.sleep(stage.chance(number).uniform(0, 0.5))
    with Beside(shopper, pause=0.2) as beside:
        os.kill(pid, name)
        begun = time.monotonic()
        # A change of the desired state meets the process that does not answer.
        change(round(0.4 + number / 100, 2))
        recovered = wait_until(lambda: pid not in stack.roles().values() and _whole(stack, number, role), BOUND, 0.2)
    taken = None if recovered is None else round(time.monotonic() - begun, 1)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    shopper.close()
    return Hit(
        number, f"{name.name} {role}", taken, stack.alive, tuple(sorted({each.status for each in beside.answers}))
    )


def _whole(stack: Stack, number: int, role: str) -> bool:
    """Whether a version answers shoppers, and events are taken; of the canary, whether one is there again."""
    try:
        with httpx.Client(timeout=5) as client:
            body = {"instances": [{"items": [], "k": 1}]}
            ranked = client.post(f"{stack.address}/v1/models/{NAME}:predict", json=body)
            took = client.post(f"http://127.0.0.1:{stack.ports()['intake']}/v1/events", json=event(f"s-{number}"))
    except (httpx.HTTPError, KeyError):
        return False
    answered = ranked.status_code == 200 and ranked.json()["predictions"][0]["variant"] != "fallback"
    return answered and took.status_code == 200 and role in stack.roles()


def judge(seen: Hit) -> Iterator[str]:
    if seen.recovered is None:
        yield f"not as before within {BOUND:.0f} s"
    if not seen.supervised:
        yield "the supervisor has ended"
    if 500 in seen.statuses:
        yield "shoppers were answered 500"


ATTACK = Attack(
    "stopped", "a process of a served recommender stopped or killed", attempts, judge, full=16, short=2, limit=700
)
