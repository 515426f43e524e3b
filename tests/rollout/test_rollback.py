"""The champion before comes back by one command, with a rollout and without."""

from __future__ import annotations

import pytest

from endcap.deploy import deploy
from endcap.errors import UserError
from endcap.experiments.rollout_state import RolloutCommand
from endcap.rollout.history import read_history
from endcap.rollout.report import render_rollout
from endcap.rollout.screen import format_screen
from endcap.store import Store
from tests.refusals import refused
from tests.rollout.shop import POLICY, Shop


@pytest.fixture
def shop(shop_store: Store) -> Shop:
    return Shop(shop_store, POLICY)


def read_champion(shop: Shop) -> tuple[str, str]:
    champion = shop.registry.find_champion("shoes")
    assert champion is not None
    return champion.version, shop.state.stable.version


def test_without_a_rollout_the_champions_before_come_back_one_after_the_other(shop: Shop) -> None:
    for version in ("2", "3"):
        shop.registry.promote("shoes", version)
        deploy(shop.spec, version, shop.store)
    controller = shop.make_controller()
    entry = controller.roll_back("", "ann", "a bad week")
    assert (entry.after.version, entry.after.previous_version, entry.after.phase) == ("3", "2", "rolled-back")
    assert read_champion(shop) == ("2", "2")
    rejected = shop.registry.get_version("shoes", "3")
    assert (rejected.state, rejected.by, rejected.why) == ("rejected", "ann", "a bad week")
    assert [message.reason for message in shop.messages] == ["rolled-back-by-command"]
    controller.roll_back("", "ann", "worse still")
    assert read_champion(shop) == ("1", "1")
    with refused(UserError, "rollout.no-champion-before", champion="1"):
        controller.roll_back("", "ann", "again")
    assert controller.log.verify() == 2
    # Each stands for itself, and people can look at it.
    history = read_history(controller.log)
    assert [entry.after.version for entry in history.entries] == ["2"]
    assert "rollback" in format_screen(history)
    assert render_rollout(history)


def test_a_named_version_comes_back_past_the_one_that_keeps_a_share(shop: Shop) -> None:
    controller = shop.make_controller()
    for version in ("2", "3"):
        controller.start(version)
        controller.command(RolloutCommand("promote", "ann"))
    assert (shop.state.previous and shop.state.previous.version) == "2"
    controller.roll_back("1", "ann", "both are bad")
    assert read_champion(shop) == ("1", "1")
    assert shop.state.previous is None
    assert controller.log.verify() == 5
    # The rollout that promoted the champion has ended by it.
    assert [entry.kind for entry in controller.log.read_rollout()] == ["begin", "command", "rollback"]


def test_while_a_rollout_runs_its_own_command_is_named(shop: Shop) -> None:
    controller = shop.make_controller()
    controller.start("2")
    with refused(UserError, "rollout.runs", attempt="endcap registry rollback"):
        controller.roll_back("", "ann", "no")
    assert (shop.state.canary and shop.state.canary.version) == "2"


def test_versions_that_cannot_come_back_are_refused(shop: Shop) -> None:
    controller = shop.make_controller()
    shop.registry.reject("shoes", "3", by="ann", why="slow")
    for version in ("1", "3"):
        with refused(UserError, "rollout.version-unfit", version=version):
            controller.roll_back(version, "ann", "no")
