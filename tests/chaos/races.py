"""Changes of the desired state at once, each acknowledged: every one of them is there afterwards.

Two write at a time, one the canary's share and one the shadow's, each with a store of its own, as two commands do. A
store in a folder, and one in a bucket.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from endcap.deploy.state import Target, read_state
from endcap.deploy.state_changes import set_shadow, set_share
from endcap.errors import EndcapError
from endcap.store import Store, open_store
from tests.chaos.attack import Attack, Seen, Stage
from tests.chaos.stack import NAME, STABLE, deploy, shop_in
from tests.serving.conftest import Shop
from tests.store.servers import moto

IN_BUCKET = 4
"""Each fourth pair is in the bucket."""
BUCKET = "races"


@dataclass(frozen=True)
class Pair(Seen):
    """Two changes at once. Of each whether it was acknowledged, and whether it is there; refused: codes."""

    acknowledged: tuple[bool, bool] = (True, True)
    there: tuple[bool, bool] = (True, True)
    refused: tuple[str, ...] = ()


def attempts(stage: Stage) -> Iterator[Pair]:
    shop = shop_in(stage.place("store"))
    with moto() as server, ThreadPoolExecutor(2) as pool:
        os.environ.update(server.environment() | {"ENDCAP_CACHE": str(stage.place("cache"))})
        server.client().make_bucket(BUCKET)
        places = {"folder": shop.store.root, "bucket": f"s3://{BUCKET}/store"}
        for address in places.values():
            deploy(shop, 0.5, open_store(address))
        for number in stage.numbers:
            kind = "bucket" if number % IN_BUCKET == 0 else "folder"
            yield _pair(stage, number, kind, places[kind], shop, pool)


def _pair(stage: Stage, number: int, kind: str, address: str, shop: Shop, pool: ThreadPoolExecutor) -> Pair:
    chance, start = stage.chance(number), threading.Barrier(2)
    share, copied = round(chance.uniform(0.001, 1), 6), round(chance.uniform(0.001, 1), 6)
    shadow = Target(version="3", package=shop.packages[STABLE])
    changes: list[Callable[[Store], object]] = [
        lambda store: set_share(NAME, share, store),
        lambda store: set_shadow(NAME, shadow, copied, store),
    ]
    refused: list[str] = []

    def change(make: Callable[[Store], object]) -> bool:
        store = open_store(address)
        start.wait()
        try:
            make(store)
        except EndcapError as error:
            refused.append(error.code)
            return False
        return True

    first, second = pool.map(change, changes)
    state = read_state(NAME, open_store(address))
    there = (bool(state.canary and state.canary.share == share), bool(state.shadow and state.shadow.share == copied))
    return Pair(number, f"pair in a {kind}", (first, second), there, tuple(refused))


def judge(seen: Pair) -> Iterator[str]:
    for name, acknowledged, there in zip(("share", "shadow"), seen.acknowledged, seen.there, strict=True):
        if acknowledged and not there:
            yield f"a change of the {name} was acknowledged and is lost"
    if seen.refused:
        yield f"a change was refused: {', '.join(seen.refused)}"


ATTACK = Attack("races", "share and shadow changed at once", attempts, judge, full=400, short=60, limit=180)
