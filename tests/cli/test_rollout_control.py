"""What a person decides about a rollout on the command line, and what a running one excludes."""

from __future__ import annotations

import json

import pytest

from endcap.cli.main import main
from endcap.store import Store
from tests.cli.printed_errors import find_code
from tests.rollout.shop import POLICY, Shop


@pytest.fixture
def shop(shop_store: Store) -> Shop:
    return Shop(shop_store, POLICY)


def test_a_rollout_is_started_paused_resumed_and_aborted(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    store = ["--store", shop.store.root]
    states = []
    for action in ("start", "pause", "resume", "abort"):
        version = ["2"] if action == "start" else []
        main(["rollout", action, "shoes", *version, *store, "--json"])
        states.append(json.loads(capsys.readouterr().out)["after"])
    assert [state["phase"] for state in states] == ["rising", "paused", "rising", "aborted"]
    assert [state["share"] for state in states] == [0.1, 0.1, 0.1, 0.0]
    assert (shop.state.stable.version, shop.state.canary) == ("1", None)


def test_who_decided_and_why_stays_in_the_log(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    store = ["--store", shop.store.root]
    main(["rollout", "start", "shoes", "2", *store])
    main(["rollout", "promote", "shoes", "--by", "ann", "--why", "the old one is broken", *store, "--json"])
    capsys.readouterr()
    last = shop.make_controller().log.find_last()
    assert last is not None
    assert last.command is not None
    assert (last.command.by, last.command.why) == ("ann", "the old one is broken")
    assert shop.state.stable.version == "2"


def test_the_champion_before_comes_back_by_one_command(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    store = ["--store", shop.store.root]
    shop.registry.promote("shoes", "2")
    main(["deploy", "shoes", "--version", "2", *store])
    capsys.readouterr()
    main(["registry", "rollback", "shoes", "--why", "a bad week", *store, "--json"])
    entry = json.loads(capsys.readouterr().out)
    assert (entry["after"]["version"], entry["after"]["previous_version"]) == ("2", "1")
    assert shop.state.stable.version == "1"
    main(["rollout", "finish", "shoes", *store, "--json"])
    assert json.loads(capsys.readouterr().out) is None


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["deploy", "shoes", "--share", "0.3"], "rollout.runs"),
        (["deploy", "shoes", "--version", "3"], "rollout.runs"),
        (["registry", "promote", "shoes", "2"], "rollout.runs"),
        (["registry", "reject", "shoes", "2", "--why", "slow"], "rollout.runs"),
        (["registry", "rollback", "shoes", "--why", "slow"], "rollout.runs"),
        (["rollout", "start", "shoes", "3"], "experiments.rollout-runs"),
        (["rollout", "resume", "shoes"], "experiments.command-does-not-fit"),
    ],
)
def test_a_running_rollout_excludes_what_it_does_itself(
    shop: Shop, arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", shop.store.root]
    main(["rollout", "start", "shoes", "2", *store])
    before = shop.state
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*arguments, *store])
    assert ended.value.code == 2
    assert find_code(capsys.readouterr().err) == code
    assert shop.state == before
