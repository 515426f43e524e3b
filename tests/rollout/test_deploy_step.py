"""The deploy step of a spec with a section `rollout`: it begins rollouts, and gives no shares itself."""

from __future__ import annotations

import pytest

import endcap
from endcap.experiments.rollout_state import RolloutCommand
from endcap.rollout.version_queue import VersionQueue
from endcap.store import Store
from tests.rollout.shop import POLICY, Shop


@pytest.mark.parametrize(("while_running", "served"), [("queue", "2"), ("supersede", "3"), ("refresh", "3")])
def test_a_challenger_gets_the_rollouts_share_and_a_newer_one_what_the_policy_says(
    shop_store: Store, while_running: str, served: str
) -> None:
    shop = Shop(shop_store, {**POLICY, "while_running": while_running})
    recommender = shop.spec.model_dump(mode="json", exclude_unset=True)
    events = {"sources": [{"path": "events.csv"}], "columns": {"item": "item", "time": "time", "session": "session"}}
    project = endcap.open(
        {"recommender": recommender, "shop": {"name": "demo", "events": events}}, store=shop_store.root
    )
    first = project.deploy("2")
    assert first.state is not None
    assert (first.state.stable.version, first.state.canary and first.state.canary.share) == ("1", 0.1)
    salt = first.state.salt
    # The retry of a step changes nothing; nor does the champion's.
    assert project.deploy("2").state == project.deploy("1").state == first.state
    second = project.deploy("3")
    assert second.state is not None
    assert (second.state.canary and second.state.canary.version, second.state.canary.share) == (served, 0.1)
    # The same recipe on newer data keeps its shoppers, and another version meets others.
    assert (second.state.salt == salt) == (while_running != "supersede")
    log = shop.make_controller().log
    assert log.verify() == len(list(log.read_entries()))


def test_a_version_whose_rollout_ended_does_not_begin_again_by_a_retry(shop_store: Store) -> None:
    shop = Shop(shop_store, POLICY)
    controller = shop.make_controller()
    VersionQueue(controller).offer("2")
    controller.command(RolloutCommand("abort", "ann"))
    assert VersionQueue(controller).offer("2") is None
    assert shop.state.canary is None
    # A person may begin it again.
    assert controller.start("2").after.phase == "rising"
    assert shop.state.canary is not None
