"""The lift over popularity from the intake's files: through looks, a kill, rollouts and promotions; and as a guard."""

from __future__ import annotations

from typing import Any

import pytest

from endcap.experiments.rollout_state import RolloutCommand
from endcap.rollout.lift import ChampionLift, LiftWatcher, read_lift
from endcap.store import Store
from tests.rollout.shop import MINUTE, POLICY, Shop


@pytest.fixture
def shop(store: Store) -> Shop:
    shop = Shop(store, {**POLICY, "guard": {"previous_share": 0.0}})
    shop.begin_baseline(0.2)
    return shop


def make_watcher(shop: Shop, messages: list[Any] | None = None) -> LiftWatcher:
    notify = [] if messages is None else [messages.append]
    return LiftWatcher(shop.store, "shoes", notify=notify, read_clock=lambda: shop.now)


def run(shop: Shop, watcher: LiftWatcher, looks: int, **rates: float) -> ChampionLift:
    lift = None
    for _ in range(looks):
        shop.receive(600, **rates)
        lift = watcher.look_if_due()
    assert lift is not None
    return lift


def test_the_lift_goes_on_after_a_kill_and_equals_that_of_one_look_at_everything(shop: Shop) -> None:
    assert make_watcher(shop).look_if_due() is not None, "it begins with the first look"
    first = run(shop, make_watcher(shop), 12, stable=0.3, baseline=0.2)
    assert (first.version, first.problem, first.mismatches) == ("1", "", 0)
    (clicks,) = first.table.metrics
    assert clicks.lower <= 0.5 <= clicks.upper
    assert clicks.lower > 0
    assert [lift.metric for lift in first.table.surfaces] == [""]
    watcher = make_watcher(shop)
    assert watcher.look_if_due() is None, "a look of the loop before is not older than look_every"
    second = run(shop, watcher, 3, stable=0.3, baseline=0.2)
    assert second.since == first.since
    # Another one, which has seen nothing yet, says the same at the same moment.
    document = shop.store.read_document("rollouts/shoes/lift")
    assert document is not None
    shop.store.update_document("rollouts/shoes/lift", lambda stored: {**document, "until": None})
    assert make_watcher(shop).look_if_due() == second == read_lift("shoes", shop.store)


@pytest.mark.slow
def test_each_champion_has_a_lift_of_its_own_and_a_rollout_beside_it_changes_nothing(shop: Shop) -> None:
    watcher, controller = make_watcher(shop), shop.make_controller()
    watcher.look_if_due()
    run(shop, watcher, 8, stable=0.3, baseline=0.2)
    controller.start("2")
    before = run(shop, watcher, 8, stable=0.3, baseline=0.2, canary=0.9)
    assert before.table.metrics[0].lower <= 0.5 <= before.table.metrics[0].upper
    assert before.mismatches == 0, "another salt draws nobody into the baseline or out of it"
    controller.command(RolloutCommand("promote", "ann"))
    shop.begin_baseline(0.2)
    watcher.look_if_due()
    after = run(shop, watcher, 12, stable=0.2, baseline=0.2)
    assert (after.version, [lift.version for lift in after.past]) == ("2", ["1"])
    assert after.past[0].table == before.table
    assert after.table.metrics[0].lower <= 0.0 <= after.table.metrics[0].upper
    assert ChampionLift.from_json(after.to_json()) == after


@pytest.mark.slow
def test_a_champion_below_popularity_is_told_once(shop: Shop) -> None:
    messages: list[Any] = []
    watcher = make_watcher(shop, messages)
    watcher.look_if_due()
    lift = run(shop, watcher, 25, stable=0.1, baseline=0.3)
    assert [loss.metric for loss in lift.losses] == ["ctr"]
    assert [(message.reason, message.alert, message.version) for message in messages] == [("below-baseline", True, "1")]


def test_without_a_baseline_nothing_is_measured(store: Store) -> None:
    shop = Shop(store, POLICY)
    assert make_watcher(shop).look_if_due() is None
    assert read_lift("shoes", store) is None


def test_a_promoted_version_without_a_previous_one_beside_it_is_guarded_by_the_baseline(shop: Shop) -> None:
    controller = shop.make_controller()
    controller.start("2")
    # What the version before did beside popularity is not held against the new one.
    for _ in range(6):
        shop.receive(600, stable=0.05, canary=0.05, baseline=0.3)
    controller.command(RolloutCommand("promote", "ann"))
    shop.begin_baseline(0.2)
    entry = shop.run(controller, 12, stable=0.3, baseline=0.3)
    assert (entry.after.phase, entry.after.reason) == ("promoted", "guarded")
    assert entry.evidence is not None
    assert entry.evidence.against == "baseline"
    assert entry.evidence.mismatches == 0
    shop.now += MINUTE
    entry = shop.run(controller, 40, until=("rolled-back",), stable=0.15, baseline=0.3)
    assert (entry.after.phase, shop.state.stable.version) == ("rolled-back", "1")
    assert entry.after.reason in ("metric-harmed", "metric-harmed-early")
    assert controller.log.verify() > 0
