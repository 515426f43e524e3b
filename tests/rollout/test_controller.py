"""Rollouts from their start to their end, in a store, a registry and files of the intake's; and killed in between."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from endcap.deploy import deploy, find_state, set_share
from endcap.deploy.state import Deployment
from endcap.errors import UserError
from endcap.experiments.decision_log import RolloutLogEntry
from endcap.experiments.ranking_token import TokenSigner
from endcap.experiments.rollout_state import RolloutCommand
from endcap.experiments.splits import TrafficSplit, hash_salt, weigh_share
from endcap.registry import Registry, get_default_uri
from endcap.registry.package import SPEC
from endcap.rollout import carrying_out
from endcap.rollout.controller import RolloutController
from endcap.rollout.exclusion import refuse_during_rollout
from endcap.rollout.messages import RolloutMessage
from endcap.spec import Recommender
from endcap.store import Store
from tests.experiments.reports import START, at, make_events, make_impressions
from tests.refusals import refused

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


class Shop:
    """A recommender with a champion and two challengers, a clock, and shoppers who click by the arm that they meet."""

    def __init__(self, store: Store, policy: dict[str, Any]) -> None:
        self.store, self.now, self.messages = store, at(0), list[RolloutMessage]()
        self.registry = Registry(get_default_uri(store))
        self._signer, self._rng, self._files = TokenSigner("shoes"), random.Random(1), 0
        for version in ("1", "2", "3"):
            document = {
                "apiVersion": "endcap/v2",
                "kind": "Recommender",
                "name": "shoes",
                "shop": "demo",
                "model": {"name": "popularity"},
                "serving": {"fallback": "refuse"},
                "rollout": policy,
            }
            self.spec = Recommender.model_validate(document)
            with store.publish("packages/shoes", version) as draft:
                (draft.path / SPEC).write_text(self.spec.model_dump_json())
            self.registry.add_version("shoes", draft.address, "approved", "a test", {})
        deploy(self.spec, "1", store)

    def make_controller(self) -> RolloutController:
        return RolloutController(self.store, "shoes", notify=[self.messages.append], read_clock=lambda: self.now)

    @property
    def state(self) -> Deployment:
        state = find_state("shoes", self.store)
        assert state is not None
        return state

    def receive(self, visits: int, **rates: float) -> None:
        """Have so many shoppers come in the next two minutes, and click at the rate of their arm."""
        state, salt = self.state, self.state.salt
        share, previous = (arm.share if arm else 0.0 for arm in (state.canary, state.previous))
        split = TrafficSplit(hash_salt(salt), canary=weigh_share(share), previous=weigh_share(previous))
        begun = round(self.now.timestamp() * 1000)
        impressions, events = [], []
        for number in range(visits):
            shopper = f"s{self._rng.randrange(50_000)}"
            arm = split.choose(shopper, salt)
            moment = begun + number * 120_000 // visits
            token = self._signer.write(
                "x", arm, "model", split=split, shopper=shopper, time=moment, request=str(moment)
            )
            ranking = f"{token}.{number}"
            then = at(moment - START + 100)
            impressions.append({"ranking_id": ranking, "item": "p1", "position": 0, "received": then})
            if self._rng.random() < rates[arm]:
                event = {"id": ranking, "type": "click", "item": "p1", "time": then, "received": then}
                events.append({**event, "ranking_id": ranking})
        for kind, table in (("impressions", make_impressions(impressions)), ("events", make_events(events))):
            folder = Path(self.store.root.removeprefix("file://")) / "intake" / kind / f"date={self.now:%Y-%m-%d}"
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, folder / f"{self._files:06}.parquet")
        self._files += 1
        self.now += 2 * MINUTE

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


@pytest.fixture
def shop(store: Store) -> Shop:
    return Shop(store, POLICY)


def test_a_version_that_does_no_harm_gets_everyone_and_the_one_before_stays_beside_it(shop: Shop) -> None:
    controller = shop.make_controller()
    controller.start("2")
    assert (shop.state.canary and shop.state.canary.share, shop.state.stable.version) == (0.1, "1")
    entry = shop.run(controller, 60, stable=0.2, canary=0.21)
    assert entry.after.phase == "guarding"
    shares = [entry.after.share for entry in controller.log.read_entries()]
    assert sorted(set(shares)) == [0.1, 0.5, 1.0]
    assert (shop.state.stable.version, shop.state.canary) == ("2", None)
    assert (shop.state.previous and (shop.state.previous.version, shop.state.previous.share)) == ("1", 0.1)
    champion = shop.registry.find_champion("shoes")
    assert champion is not None
    assert champion.version == "2"
    assert [message.share for message in shop.messages] == [0.1, 0.5, 1.0]
    assert controller.log.verify() == len(shares)


def test_a_version_that_harms_clicks_is_taken_back_and_refused(shop: Shop) -> None:
    controller = shop.make_controller()
    controller.start("2")
    entry = shop.run(controller, 20, stable=0.2, canary=0.1)
    assert entry.after.phase == "rolled-back"
    assert entry.after.reason in ("metric-harmed", "metric-harmed-early")
    assert (shop.state.stable.version, shop.state.canary) == ("1", None)
    assert shop.registry.get_version("shoes", "2").state == "rejected"
    assert shop.messages[-1].alert
    # It is over: further looks change nothing.
    before = shop.state
    assert controller.look() == entry
    assert shop.state == before


def test_a_promoted_version_that_turns_out_worse_than_the_one_before_is_taken_back(shop: Shop) -> None:
    controller = shop.make_controller()
    controller.start("2")
    shop.run(controller, 40, stable=0.2, canary=0.22)
    entry = shop.run(controller, 40, until=("rolled-back",), stable=0.1, previous=0.25)
    assert entry.after.phase == "rolled-back"
    assert (shop.state.stable.version, shop.state.previous) == ("1", None)
    champion = shop.registry.find_champion("shoes")
    assert champion is not None
    assert champion.version == "1"


def test_without_impressions_it_holds_and_says_so(shop: Shop) -> None:
    controller = shop.make_controller()
    controller.start("2")
    shop.now += 2 * MINUTE
    entry = controller.look()
    assert entry is not None
    assert (entry.after.phase, entry.after.reason, entry.after.share) == ("holding", "no-feed", 0.1)


def test_a_person_pauses_resumes_and_aborts(shop: Shop) -> None:
    controller = shop.make_controller()
    controller.start("2")
    assert controller.command(RolloutCommand("pause", "ann", "a sale")).after.phase == "paused"
    assert shop.run(controller, 3, stable=0.2, canary=0.25).after.phase == "paused"
    assert controller.command(RolloutCommand("resume", "ann")).after.phase == "rising"
    assert controller.command(RolloutCommand("abort", "ann", "enough")).after.phase == "aborted"
    assert (shop.state.stable.version, shop.state.canary) == ("1", None)
    with refused(UserError, "experiments.command-does-not-fit", action="abort"):
        controller.command(RolloutCommand("abort", "ann"))


def test_a_promoted_version_is_aborted_by_one_command(shop: Shop) -> None:
    controller = shop.make_controller()
    controller.start("2")
    controller.command(RolloutCommand("promote", "ann"))
    assert shop.state.stable.version == "2"
    controller.command(RolloutCommand("abort", "ann"))
    assert (shop.state.stable.version, shop.state.previous) == ("1", None)
    champion = shop.registry.find_champion("shoes")
    assert champion is not None
    assert champion.version == "1"


def test_shares_are_not_given_by_hand_meanwhile_and_one_that_is_is_adopted(shop: Shop) -> None:
    controller = shop.make_controller()
    controller.start("2")
    with refused(UserError, "rollout.runs", attempt="endcap deploy --share"):
        refuse_during_rollout("shoes", shop.store, "endcap deploy --share")
    set_share("shoes", 0.3, shop.store)
    entry = shop.run(controller, 1, stable=0.2, canary=0.2)
    assert (entry.after.reason, entry.after.share) == ("share-adopted", 0.3)
    controller.command(RolloutCommand("abort", "ann"))
    refuse_during_rollout("shoes", shop.store, "endcap deploy --share")


def test_a_newer_version_waits_and_begins_when_the_running_one_has_ended(shop: Shop) -> None:
    controller = shop.make_controller()
    controller.offer("2")
    assert controller.offer("3") is None
    assert controller.start_waiting() is None
    controller.command(RolloutCommand("abort", "ann"))
    entry = controller.start_waiting()
    assert entry is not None
    assert (entry.after.version, shop.state.canary and shop.state.canary.version) == ("3", "3")
    # What was rolled out once does not begin again by itself.
    controller.command(RolloutCommand("abort", "ann"))
    assert controller.start_waiting() is None
    assert controller.offer("2") is None


def test_versions_that_cannot_be_rolled_out_are_refused(shop: Shop) -> None:
    controller = shop.make_controller()
    with refused(UserError, "rollout.version-unfit", version="1"):
        controller.start("1")
    shop.registry.reject("shoes", "3", by="ann", why="slow")
    with refused(UserError, "rollout.version-unfit", version="3", found="rejected"):
        controller.start("3")


STEPS = ("_route", "_set_alias", "describe_entry", "_note")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_between_any_two_steps_neither_repeats_nor_skips_one(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    """Each part of carrying out fails once, before or after its work, at the start, a promotion and an abort."""
    original: Callable[..., Any] = getattr(carrying_out, step)
    is_armed = True

    def kill(*arguments: Any) -> Any:
        nonlocal is_armed
        result = original(*arguments) if after or not is_armed else None
        if is_armed:
            is_armed = False
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(carrying_out, step, kill)
    actions: list[Callable[[RolloutController], object]] = [
        lambda controller: controller.start("2"),
        lambda controller: controller.command(RolloutCommand("promote", "ann")),
        lambda controller: controller.command(RolloutCommand("abort", "ann")),
    ]
    for act in actions:
        is_armed = True
        with pytest.raises(KeyboardInterrupt):
            act(shop.make_controller())
        # Whoever comes next, on another machine perhaps, does what is missing.
        shop.make_controller().look_if_due()
    log = shop.make_controller().log
    steps = [entry for entry in log.read_entries() if entry.kind != "decision"]
    assert [entry.kind for entry in steps] == ["begin", "command", "command"]
    assert log.verify() >= len(steps)
    assert (shop.state.stable.version, shop.state.canary, shop.state.previous) == ("1", None, None)
    champion = shop.registry.find_champion("shoes")
    assert champion is not None
    assert champion.version == "1"
    assert {entry.number for entry in steps} <= {message.number for message in shop.messages}
