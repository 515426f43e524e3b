"""A recommender with a champion and challengers, and shoppers who click by the arm that an A/B test gives them."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

from endcap.ab.controller import AbController
from endcap.experiments.ab_log import AbLogEntry
from endcap.experiments.ranking_token import TokenSigner
from endcap.experiments.splits import hash_salt, hash_shopper
from endcap.messages import Message
from endcap.store import Store
from tests.experiments.reports import START, at, make_events, make_impressions
from tests.rollout.shop import MINUTE, Shop

ROLLOUT: dict[str, Any] = {
    "metrics": [{"kind": "ctr", "types": ["click"], "window": "5m", "delay": "1m"}],
    "guardrails": [],
    "first_share": 0.1,
    "steps": [{"share": 0.5, "worst": -0.4}],
    "margin": 0.3,
    "look_every": "2m",
}
AB: dict[str, Any] = {
    "epoch": "20m",
    "look_every": "10m",
    "min_epochs": 3,
    "longest": "8h",
    "draws": 2_000,
    "max_moved": 0.4,
}


class AbShop(Shop):
    """The shop of the rollouts' tests, with versions 1 to 4 and a section `ab`."""

    def __init__(self, store: Store, ab: dict[str, Any] | None = None) -> None:
        self.told: list[Message] = []
        self._signer, self._rng = TokenSigner("shoes"), random.Random(1)
        sections = {"ab": AB | (ab or {})}
        super().__init__(store, ROLLOUT, **sections)
        self.register("4", ROLLOUT, **sections)

    def make_test(self) -> AbController:
        return AbController(self.store, "shoes", notify=[self.told.append], read_clock=lambda: self.now)

    def visit(self, visits: int, span: timedelta = 10 * MINUTE, *, arm: str = "", **rates: float) -> None:
        """Have so many shoppers come in the next minutes, and click at the rate of the version that they meet.

        arm: what all rankings say in place of the arm that the layout gives.
        """
        state = self.state
        assert state.ab is not None
        versions = {"stable": state.stable.version, **{name: each.version for name, each in state.ab.arms.items()}}
        layout, split = state.ab.layout, state.ab.layout.split(hash_salt(state.salt), 0)
        begun = round(self.now.timestamp() * 1000)
        impressions, events = [], []
        for number in range(visits):
            shopper = f"s{self._rng.randrange(50_000)}"
            met = layout.find_arm(hash_shopper(shopper, state.salt))
            moment = begun + number * round(1000 * span.total_seconds()) // visits
            token = self._signer.write(
                "x",
                arm or met,
                "model",
                split=split,
                shopper=shopper,
                time=moment,
                request=str(moment),  # type: ignore[arg-type]
            )
            ranking = f"{token}.{number}"
            then = at(moment - START + 100)
            row = {"ranking_id": ranking, "item": "p1", "position": 0, "received": then, "shopper": shopper}
            impressions.append(row)
            if self._rng.random() < rates[f"v{versions[met]}"]:
                event = {"id": ranking, "type": "click", "item": "p1", "time": then, "received": then}
                events.append({**event, "ranking_id": ranking})
        self.write_reports({"impressions": make_impressions(impressions), "events": make_events(events)})
        self.now += span

    def run_test(self, controller: AbController, looks: int, **rates: float) -> AbLogEntry:
        """Look every ten minutes while shoppers come, until the test is over, or in vain."""
        entry = None
        for _ in range(looks):
            self.visit(1_500, **rates)
            entry = controller.look_if_due()
            if entry is not None and entry.after.is_over:
                break
        assert entry is not None
        return entry
