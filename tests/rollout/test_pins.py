"""What is served is pinned: no rollout, deploy step or command changes it until it is unpinned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from endcap.cli.main import main
from endcap.cli.status import list_statuses
from endcap.deploy import deploy, set_share
from endcap.deploy.pins import pin_state, unpin_state
from endcap.errors import UserError
from endcap.experiments.rollout_state import RolloutCommand
from endcap.rollout.controller import RolloutController
from endcap.rollout.version_queue import VersionQueue
from endcap.store import Store
from tests.refusals import refused
from tests.rollout.shop import POLICY, Shop


@pytest.fixture
def shop(shop_store: Store) -> Shop:
    return Shop(shop_store, POLICY)


@pytest.mark.parametrize(
    ("rate", "reason", "phase"), [(0.25, "pinned", "guarding"), (0.1, "pinned-harm", "rolled-back")]
)
def test_a_rollout_holds_while_it_is_pinned_and_goes_on_afterwards(
    shop: Shop, rate: float, reason: str, phase: str
) -> None:
    controller = shop.make_controller()
    controller.start("2")
    pin_state("shoes", shop.store, by="ann", why="a sale")
    before = shop.state
    entry = shop.run(controller, 12, stable=0.2, canary=rate)
    assert (entry.after.reason, entry.after.share) == (reason, 0.1)
    assert shop.state == before
    assert [message.reason for message in shop.messages if message.alert] == (["pinned-harm"] if rate < 0.2 else [])
    unpin_state("shoes", shop.store)
    assert shop.run(controller, 40, stable=0.2, canary=rate).after.phase == phase
    assert controller.log.verify() > 0


REFUSED: dict[str, Callable[[Shop, RolloutController], Any]] = {
    "promote": lambda shop, made: made.command(RolloutCommand("promote", "ann")),
    "abort": lambda shop, made: made.command(RolloutCommand("abort", "ann")),
    "share": lambda shop, made: set_share("shoes", 0.3, shop.store),
}


@pytest.mark.parametrize("name", REFUSED)
def test_commands_that_would_change_it_are_refused_and_a_pause_is_not(shop: Shop, name: str) -> None:
    controller = shop.make_controller()
    controller.start("2")
    pin_state("shoes", shop.store, by="ann", why="a sale")
    before = shop.state
    with refused(UserError, "deploy.pinned", by="ann", why="a sale"):
        REFUSED[name](shop, controller)
    assert shop.state == before
    assert controller.command(RolloutCommand("pause", "ann")).after.phase == "paused"


def test_newer_versions_wait_and_begin_when_it_is_unpinned(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    controller = shop.make_controller()
    store = ["--store", shop.store.root]
    main(["deploy", "shoes", "--pin", "--by", "ann", "--why", "a sale", *store])
    assert VersionQueue(controller).offer("3") is None
    with refused(UserError, "deploy.pinned"):
        controller.start("2")
    with refused(UserError, "deploy.pinned"):
        deploy(shop.spec, "2", shop.store)
    # What changes nothing is no change.
    assert deploy(shop.spec, "1", shop.store) == shop.state
    (status,) = list_statuses(shop.store, shop.registry)
    assert status.pin is not None
    assert (status.pin.by, status.pin.why) == ("ann", "a sale")
    main(["deploy", "shoes", "--unpin", *store])
    capsys.readouterr()
    assert shop.state.pin is None
    entry = VersionQueue(controller).offer("3")
    assert entry is not None
    assert (shop.state.canary and shop.state.canary.version) == "3"
