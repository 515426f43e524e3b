"""A recommender with a champion and challengers, and shoppers who click by the arm that they meet."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from endcap.deploy import deploy, find_state
from endcap.deploy.state import CanaryTarget, Deployment, write_state
from endcap.experiments.log_entry import RolloutLogEntry
from endcap.experiments.ranking_token import TokenSigner
from endcap.experiments.splits import TrafficSplit, hash_salt, weigh_share
from endcap.registry import Registry, get_default_uri
from endcap.registry.package import SPEC
from endcap.rollout.controller import RolloutController
from endcap.rollout.messages import RolloutMessage
from endcap.spec import Recommender
from endcap.store import Store
from tests.experiments.reports import START, at, make_events, make_impressions

MINUTE = timedelta(minutes=1)
POLICY: dict[str, Any] = {
    "metrics": [{"kind": "ctr", "types": ["click"], "window": "5m", "delay": "1m"}],
    "guardrails": [],
    "first_share": 0.1,
    "steps": [{"share": 0.5, "worst": -0.4}],
    "margin": 0.3,
    "look_every": "2m",
    "guard": {"previous_share": 0.1},
}


class Crowd:
    """Shoppers at random, of so many, of whom reports tell what they saw and clicked."""

    def __init__(self, size: int = 50_000) -> None:
        self._size, self._signer, self._rng = size, TokenSigner("shoes"), random.Random(1)

    def visit(
        self, state: Deployment, begins: datetime, visits: int, span: timedelta, **rates: float
    ) -> dict[str, pa.Table]:
        """Return the intake's tables of so many visits, by kind. rates: of clicks, by the arm that a shopper meets."""
        arms = {"canary": state.canary, "previous": state.previous, "baseline": state.baseline}
        weights = {name: weigh_share(arm.share) for name, arm in arms.items() if arm is not None}
        split = TrafficSplit(hash_salt(state.salt), **weights)
        begun = round(begins.timestamp() * 1000)
        impressions, events = [], []
        for number in range(visits):
            shopper = f"s{self._rng.randrange(self._size)}"
            arm = split.choose(shopper, state.salt)
            moment = begun + number * round(1000 * span.total_seconds()) // visits
            token = self._signer.write(
                "x", arm, "model", split=split, shopper=shopper, time=moment, request=str(moment)
            )
            ranking = f"{token}.{number}"
            then = at(moment - START + 100)
            impressions.append({"ranking_id": ranking, "item": "p1", "position": 0, "received": then})
            if self._rng.random() < rates[arm]:
                event = {"id": ranking, "type": "click", "item": "p1", "time": then, "received": then}
                events.append({**event, "ranking_id": ranking})
        return {"impressions": make_impressions(impressions), "events": make_events(events)}


class Shop:
    """A recommender with a champion and two challengers, a clock, and shoppers who click by the arm that they meet."""

    def __init__(self, store: Store, policy: dict[str, Any], **sections: Any) -> None:
        self.store, self.now, self.messages = store, at(0), list[RolloutMessage]()
        self.registry = Registry(get_default_uri(store))
        self._crowd, self._files = Crowd(), 0
        for version in ("1", "2", "3"):
            self.register(version, policy, **sections)
        deploy(self.spec, "1", store)

    def register(self, version: str, policy: dict[str, Any], **sections: Any) -> None:
        """Register a version by a spec with a policy, and with other sections."""
        document = {
            "apiVersion": "endcap/v2",
            "kind": "Recommender",
            "name": "shoes",
            "shop": "demo",
            "model": {"name": "popularity"},
            "serving": {"fallback": "refuse"},
            "rollout": policy,
            **sections,
        }
        self.spec = Recommender.model_validate(document)
        with self.store.publish("packages/shoes", version) as draft:
            (draft.path / SPEC).write_text(self.spec.model_dump_json())
        self.registry.add_version("shoes", draft.address, "approved", "a test", {})

    def make_controller(self) -> RolloutController:
        return RolloutController(self.store, "shoes", notify=[self.messages.append], read_clock=lambda: self.now)

    @property
    def state(self) -> Deployment:
        state = find_state("shoes", self.store)
        assert state is not None
        return state

    def begin_baseline(self, share: float) -> None:
        """Give popularity a share. Its package is an address only here."""
        target = CanaryTarget(version="popularity", package="baselines/shoes/1", share=share)
        write_state(self.state.model_copy(update={"baseline": target}), self.store)

    def receive(self, visits: int, span: timedelta = 2 * MINUTE, **rates: float) -> None:
        """Have so many shoppers come in the next minutes, and click at the rate of their arm."""
        self.write_reports(self._crowd.visit(self.state, self.now, visits, span, **rates))
        self.now += span

    def write_reports(self, tables: Mapping[str, pa.Table]) -> None:
        """Write a file of each kind, as the intake does."""
        for kind, table in tables.items():
            folder = Path(self.store.root.removeprefix("file://")) / "intake" / kind / f"date={self.now:%Y-%m-%d}"
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, folder / f"{self._files:06}.parquet")
        self._files += 1

    def run(
        self,
        controller: RolloutController,
        looks: int,
        until: tuple[str, ...] = ("guarding", "promoted", "rolled-back"),
        **rates: float,
    ) -> RolloutLogEntry:
        """Look every two minutes while shoppers come, until the rollout has a phase of `until`, or in vain."""
        entry = None
        for _ in range(looks):
            self.receive(600, **rates)
            entry = controller.look()
            if entry is not None and entry.after.phase in until:
                break
        assert entry is not None
        return entry
