"""How often the loop of a rollout looks when a guardrail is broken and the version cannot be taken back."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from endcap.experiments.evidence import GuardrailEvidence
from endcap.rollout.controller import RolloutController
from endcap.rollout.request_watcher import GuardrailWatcher
from endcap.store import Store
from endcap_serving.local import rollout_loop
from endcap_serving.local.rollout_loop import RolloutLoop
from tests.rollout.shop import POLICY, Shop


class BrokenWatcher:
    """Reports a broken guardrail at each reading."""

    def __init__(self) -> None:
        self.readings, self.many = 0, threading.Event()

    def poll(self, *_: Any) -> bool:
        self.readings += 1
        if self.readings > 20:
            self.many.set()
        return True

    def measure(self, *_: Any) -> tuple[Iterable[GuardrailEvidence], Mapping[str, str]]:
        return (GuardrailEvidence("errors", 1e9, observed=0.5, reference=0.01, events=100),), {}


@pytest.mark.slow
def test_a_look_that_changed_nothing_is_not_repeated_at_each_reading(
    shop_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout_loop, "_PAUSE", 0.02)
    shop = Shop(shop_store, {**POLICY, "guardrails": [{"kind": "errors"}]})
    # The rollout began by a clock that was an hour ahead, so nothing is decided until this one has caught up.
    ahead = RolloutController(shop.store, "shoes", read_clock=lambda: datetime.now(UTC) + timedelta(hours=1))
    ahead.start("2")
    watcher = BrokenWatcher()
    loop = RolloutLoop(shop.store, "shoes", lambda event: None, cast(GuardrailWatcher, watcher))
    loop.start()
    try:
        assert watcher.many.wait(60)
    finally:
        loop.close()
    looks = [entry for entry in ahead.log.read_entries() if entry.kind == "decision"]
    assert {entry.after.reason for entry in looks} == {"clock-back"}
    # The first look is due, since there was none; the second one the guardrail asks for.
    assert 1 <= len(looks) <= 2
