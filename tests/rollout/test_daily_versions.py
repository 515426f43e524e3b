"""A version every day for a month, while a rollout takes days: no version starves, and every week promotes.

To starve is to wait for ever. Under `queue` a version that waits begins when the running rollout ends, unless a newer
one has taken its place. Under `supersede` and `refresh` each takes the running one's place, or waits until it may.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from endcap.experiments.log_entry import RolloutLogEntry
from endcap.experiments.rollout_state import GUARDED
from endcap.rollout.version_queue import VersionQueue
from endcap.store import Store
from tests.rollout.shop import POLICY, Shop

STEP = timedelta(hours=12)
DAYS = 30
EVERY_DAY: dict[str, Any] = {
    **POLICY,
    "look_every": "12h",
    "max_silence": "1d",
    "history": "0s",
    "steps": [{"share": 0.5, "worst": -0.5}],
    "longest": "10d",
}


def live(shop: Shop, policy: dict[str, Any], visits: int) -> list[RolloutLogEntry]:
    """Offer a version of equal quality each day, and look twice a day. Returns the log."""
    controller = shop.make_controller()
    for number in range(DAYS * 2):
        if number % 2 == 0:
            version = str(2 + number // 2)
            if int(version) > 3:
                shop.register(version, policy)
            VersionQueue(controller).offer(version)
        shop.receive(visits, STEP, stable=0.2, canary=0.2, previous=0.2)
        if controller.look_if_due() is not None:
            VersionQueue(controller).start_waiting()
    assert controller.log.verify() > DAYS
    return list(controller.log.read_entries())


def list_promotions(entries: list[RolloutLogEntry]) -> list[tuple[datetime, str]]:
    return [
        (entry.time, entry.after.version)
        for entry in entries
        if entry.after.phase in GUARDED and entry.before is not None and entry.before.phase not in GUARDED
    ]


def find_longest_wait(moments: list[datetime], begin: datetime, end: datetime) -> timedelta:
    times = [begin, *moments, end]
    return max(after - before for before, after in pairwise(times))


@pytest.mark.slow
@pytest.mark.parametrize(("while_running", "visits"), [("queue", 900), ("refresh", 900), ("supersede", 900)])
def test_every_week_promotes_a_version_and_none_waits_for_ever(
    shop_store: Store, while_running: str, visits: int
) -> None:
    policy = {**EVERY_DAY, "while_running": while_running}
    shop = Shop(shop_store, policy)
    begin = shop.now
    entries = live(shop, policy, visits)
    promoted = list_promotions(entries)
    assert find_longest_wait([time for time, _ in promoted], begin, shop.now) <= timedelta(days=7)
    # Nobody runs, or waits, beyond its turn: shoppers meet a version that is at most a week old.
    met = [(entry.time, int(entry.after.version)) for entry in entries if not entry.after.is_over]
    assert all((time - begin).days - (version - 2) <= 7 for time, version in met)
    if while_running != "queue":
        taken = [entry for entry in entries if entry.command is not None]
        assert {entry.command.action for entry in taken if entry.command} <= {"refresh", "supersede"}
