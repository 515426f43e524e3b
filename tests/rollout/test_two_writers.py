"""A rollout's steps beside others who change what is served: after any interleaving, traffic and champion agree."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from endcap.deploy import deploy
from endcap.errors import UserError
from endcap.experiments.entry_progress import EntryProgress
from endcap.experiments.rollout_state import RolloutCommand
from endcap.registry import Registry
from endcap.rollout import carrying_out, controller
from endcap.rollout.controller import RolloutController
from endcap.store import Store
from tests.rollout.shop import POLICY, Shop

Act = Callable[[RolloutController], object]
ACTS: dict[str, Act] = {
    "promote": lambda made: made.command(RolloutCommand("promote", "ann")),
    "abort": lambda made: made.command(RolloutCommand("abort", "ann")),
    "rollback": lambda made: made.roll_back("", "ann", "bad week"),
}
STEPS = ((carrying_out, "_route"), (carrying_out, "_set_alias"), (EntryProgress, "note"), (controller, "send_message"))


@pytest.fixture
def shop(shop_store: Store) -> Shop:
    return Shop(shop_store, POLICY)


def prepare(shop: Shop, act: str) -> None:
    made = shop.make_controller()
    made.start("2")
    if act != "promote":
        made.command(RolloutCommand("promote", "ann"))


def check_agreement(shop: Shop, act: str) -> None:
    champion = shop.registry.find_champion("shoes")
    assert champion is not None
    expected = "2" if act == "promote" else "1"
    assert (champion.version, shop.state.stable.version) == (expected, expected)
    last = shop.make_controller().log.find_last()
    assert last is not None
    assert EntryProgress(shop.store, "shoes").is_finished(last)


def deploy_both(shop: Shop) -> list[str]:
    """Deploy both versions as an old run's retry or a person would. Returns the codes of what was refused."""
    codes = []
    for version in ("1", "2"):
        try:
            deploy(shop.spec, version, shop.store, end_canary=True)
        except UserError as error:
            codes.append(error.code)
    return codes


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(("place", "name"), STEPS, ids=[name for _, name in STEPS])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_deployment_between_a_kill_and_the_rest_of_a_step_is_refused(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, act: str, place: Any, name: str, after: bool
) -> None:
    prepare(shop, act)
    original = getattr(place, name)

    def kill(*arguments: Any, **options: Any) -> None:
        if after:
            original(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(place, name, kill)
        with pytest.raises(KeyboardInterrupt):
            ACTS[act](shop.make_controller())
    last = shop.make_controller().log.find_last()
    assert last is not None
    is_half_done = not EntryProgress(shop.store, "shoes").is_carried_out(last)
    assert ("rollout.step-unfinished" in deploy_both(shop)) == is_half_done
    # The same call goes on where the killed one ended.
    if not EntryProgress(shop.store, "shoes").is_finished(last):
        ACTS[act](shop.make_controller())
    check_agreement(shop, act)
    entries = list(shop.make_controller().log.read_entries())
    assert [entry.number for entry in entries] == list(range(2 if act == "promote" else 3))


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(("place", "name"), STEPS, ids=[name for _, name in STEPS])
def test_a_deployment_during_a_step_comes_before_or_after_the_whole_of_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, act: str, place: Any, name: str
) -> None:
    prepare(shop, act)
    original, other = getattr(place, name), threading.Thread(target=deploy_both, args=[shop])

    def meet(*arguments: Any, **options: Any) -> Any:
        if not other.ident:
            other.start()
            other.join(0.3)
        return original(*arguments, **options)

    monkeypatch.setattr(place, name, meet)
    ACTS[act](shop.make_controller())
    other.join()
    check_agreement(shop, act)


deploy_module = importlib.import_module("endcap.deploy.deploy")  # the room exports the function by the same name
DEPLOYMENT_STEPS = (
    (Registry, "find_champion"),
    (deploy_module, "refuse_unfinished_step"),
    (deploy_module, "refuse_during_rollout"),
    (deploy_module, "change_state"),
)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(("place", "name"), DEPLOYMENT_STEPS, ids=[name for _, name in DEPLOYMENT_STEPS])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_step_during_a_deployment_comes_before_or_after_the_whole_of_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, act: str, place: Any, name: str, after: bool
) -> None:
    prepare(shop, act)
    original = getattr(place, name)
    made = shop.make_controller()
    other = threading.Thread(target=ACTS[act], args=[made])

    def meet(*arguments: Any, **options: Any) -> Any:
        early = original(*arguments, **options) if after else None
        if not other.ident:
            other.start()
            other.join(0.3)
        return early if after else original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(place, name, meet)
        deploy_both(shop)
    if not other.ident:
        other.start()
    other.join()
    check_agreement(shop, act)
