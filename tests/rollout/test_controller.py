"""Rollouts from their start to their end, in a store, a registry and files of the intake's; and killed in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from endcap.deploy import set_share
from endcap.errors import UserError
from endcap.experiments.entry_progress import EntryProgress
from endcap.experiments.exclusion import refuse_during_rollout
from endcap.experiments.rollout_state import RolloutCommand
from endcap.registry.decision_hold import hold_name
from endcap.rollout import carrying_out
from endcap.rollout.controller import RolloutController
from endcap.rollout.version_queue import VersionQueue
from endcap.store import Store
from tests.refusals import refused
from tests.rollout.shop import MINUTE, POLICY, Shop


@pytest.fixture
def shop(shop_store: Store) -> Shop:
    return Shop(shop_store, POLICY)


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


@pytest.mark.parametrize("by", ["clicks", "ann"])
def test_traffic_comes_back_while_somebody_else_decides_on_the_recommender(shop: Shop, by: str) -> None:
    controller = shop.make_controller()
    controller.start("2")

    def take_back() -> None:
        if by == "ann":
            controller.command(RolloutCommand("abort", "ann"))
        else:
            shop.run(controller, 20, stable=0.2, canary=0.1)

    taker = threading.Thread(target=take_back)
    held = shop.store.hold(hold_name("shoes"))
    if by == "clicks":
        # All that the first look needs is there before it.
        for _ in range(20):
            shop.receive(600, stable=0.2, canary=0.1)
    with held:
        taker.start()
        deadline = time.monotonic() + 60
        while shop.state.canary is not None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert not any(entry.after.is_over for entry in controller.log.read_entries())
    taker.join()
    *_, last = controller.log.read_entries()
    assert last.after.phase == ("aborted" if by == "ann" else "rolled-back")
    assert (shop.state.stable.version, shop.state.canary) == ("1", None)
    assert controller.log.verify() > 0


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


def test_messages_say_what_happened_with_numbers_and_what_to_do(shop: Shop) -> None:
    controller = shop.make_controller()
    controller.start("2")
    shop.run(controller, 60, stable=0.3, canary=0.05)
    messages = [message.to_message(shop.store) for message in shop.messages]
    assert (messages[0].kind, messages[-1].kind) == ("rollout.begun", "rollout.rolled-back")
    assert messages[-1].severity == "warning"
    assert messages[-1].metrics["ctr"] < 0
    assert messages[-1].facts["reason"].startswith("metric-harmed")
    assert messages[-1].action
    assert len({message.id for message in messages}) == len(messages)


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
    VersionQueue(controller).offer("2")
    assert VersionQueue(controller).offer("3") is None
    assert VersionQueue(controller).start_waiting() is None
    controller.command(RolloutCommand("abort", "ann"))
    entry = VersionQueue(controller).start_waiting()
    assert entry is not None
    assert (entry.after.version, shop.state.canary and shop.state.canary.version) == ("3", "3")
    # What was rolled out once does not begin again by itself.
    controller.command(RolloutCommand("abort", "ann"))
    assert VersionQueue(controller).start_waiting() is None
    assert VersionQueue(controller).offer("2") is None


def test_versions_that_cannot_be_rolled_out_are_refused(shop: Shop) -> None:
    controller = shop.make_controller()
    with refused(UserError, "rollout.version-unfit", version="1"):
        controller.start("1")
    shop.registry.reject("shoes", "3", by="ann", why="slow")
    with refused(UserError, "rollout.version-unfit", version="3", found="rejected"):
        controller.start("3")


STEPS = (
    (carrying_out, "_route"),
    (carrying_out, "_set_alias"),
    (carrying_out, "describe_entry"),
    (EntryProgress, "note"),
)


@pytest.mark.parametrize(("place", "step"), STEPS, ids=[step for _, step in STEPS])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_between_any_two_steps_neither_repeats_nor_skips_one(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, place: Any, step: str, after: bool
) -> None:
    """Each part of carrying out fails once, before or after its work, at the start, a promotion and an abort."""
    original: Callable[..., Any] = getattr(place, step)
    is_armed = True

    def kill(*arguments: Any, **options: Any) -> Any:
        nonlocal is_armed
        result = original(*arguments, **options) if after or not is_armed else None
        if is_armed:
            is_armed = False
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(place, step, kill)
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
