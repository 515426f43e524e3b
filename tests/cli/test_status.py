"""endcap status: what serves of every recommender, next to its last run."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from endcap.cli.main import main
from endcap.cli.status import Status, list_statuses
from endcap.deploy import CanaryTarget, Deployment, ShadowTarget, Target, begin_ab, withdraw
from endcap.deploy.state import write_state
from endcap.experiments.layout import Layout
from endcap.registry import Version, find_registry
from endcap.runs import Start, begin_run, end_run
from endcap.store import Store

UNTIL = datetime(2026, 3, 10, tzinfo=UTC)


class FakeRegistry:
    """A registry of toys: 1 champion, 2 rejected, 3 challenger, 4 approved, 5 waiting for a person; and of hats."""

    def list_names(self) -> list[str]:
        return ["hats", "toys"]

    def list_versions(self, name: str) -> list[Version]:
        states = {"1": "approved", "2": "rejected", "3": "approved", "4": "approved", "5": "pending", "6": "rejected"}
        aliases = {"1": ["champion"], "3": ["challenger"]}
        return [
            Version(name, number, f"packages/{number}", state, "ann", "", "", aliases.get(number, []))
            for number, state in (states if name == "toys" else {"1": "pending"}).items()
        ]


def package(store: Store, version: str) -> str:
    with store.publish("datasets/shop", f"data-{version}") as dataset:
        dataset.facts |= {"until": int(UNTIL.timestamp() * 1000), "snapshot": "file:///snapshot"}
    with store.publish("packages/toys", version) as draft:
        draft.facts["dataset"] = dataset.address
    return draft.address


@pytest.fixture
def deployed(store: Store) -> Store:
    """toys: version 1 serves, 3 is its canary; the shadow's package lies in another store."""
    stable = Target(version="1", package=package(store, "1"))
    canary = CanaryTarget(version="3", package=package(store, "3"), share=0.1)
    shadow = ShadowTarget(version="2", package="s3://elsewhere/packages/toys/2", share=0.5)
    state = Deployment(recommender="toys", stable=stable, salt="ab", changed=datetime.now(UTC))
    write_state(state, store)
    write_state(state.model_copy(update={"canary": canary, "shadow": shadow}), store)
    begin_run(store, "r-1", Start(recommender="toys"))
    end_run(store, "r-1", "CANCELED", [])
    begin_run(store, "r-2", Start(recommender="shoes"))
    return store


def of(store: Store, registry: Any) -> dict[str, Status]:
    return {status.recommender: status for status in list_statuses(store, registry)}


def test_every_recommender_that_is_deployed_registered_or_run_is_there(deployed: Store) -> None:
    assert list(of(deployed, FakeRegistry())) == ["hats", "shoes", "toys"]
    assert list(of(deployed, None)) == ["shoes", "toys"]


def test_the_challengers_of_an_ab_test_are_there_with_their_shares(deployed: Store) -> None:
    layout = Layout.begin({"stable": 300_000, "challenger-2": 700_000})
    withdraw("toys", "3", deployed)
    challengers = [Target(version=version, package=package(deployed, version)) for version in ("4", "5")]
    begin_ab("toys", challengers, layout, "cd", deployed)
    served = [(each.role, each.version, each.share) for each in of(deployed, None)["toys"].served]
    # One without shoppers is not served.
    assert served == [("stable", "1", 0.3), ("challenger-2", "5", 0.7), ("shadow", "2", 0.5)]


def test_what_serves_is_told_with_share_time_and_data(deployed: Store) -> None:
    toys = of(deployed, FakeRegistry())["toys"]
    served = {one.role: (one.version, one.share, one.until, one.snapshot) for one in toys.served}
    assert served == {
        "stable": ("1", 0.9, UNTIL, "file:///snapshot"),
        "canary": ("3", 0.1, UNTIL, "file:///snapshot"),
        "shadow": ("2", 0.5, None, ""),
    }
    times = [one.since for one in toys.served]
    assert times[0] is not None
    assert times[0] < times[1] == times[2] == toys.changed  # type: ignore[operator]
    assert toys.aliases == {"champion": "1", "challenger": "3"}


def test_what_is_newer_and_not_rejected_waits(deployed: Store) -> None:
    found = of(deployed, FakeRegistry())
    assert [(one.version, one.state) for one in found["toys"].waiting] == [("4", "approved"), ("5", "pending")]
    assert [one.version for one in found["hats"].waiting] == ["1"]


def test_the_last_run_stands_beside(deployed: Store) -> None:
    found = of(deployed, None)
    runs = {name: (one.last_run.name, one.last_run.state) for name, one in found.items() if one.last_run}
    assert runs == {"toys": ("r-1", "canceled"), "shoes": ("r-2", "running")}


def test_a_state_of_the_release_before_has_no_times_and_keeps_what_follows(store: Store) -> None:
    old = {
        "recommender": "toys",
        "stable": {"version": "1", "package": "packages/1"},
        "salt": "ab",
        "changed": "2026-03-02T10:00:00Z",
    }
    store.write_document("deployments/toys", old)
    (before,) = of(store, None)["toys"].served
    assert before.since is None
    state = Deployment.model_validate(old)
    canary = CanaryTarget(version="2", package="packages/2", share=0.1)
    write_state(state.model_copy(update={"canary": canary}), store)
    assert [one.since is None for one in of(store, None)["toys"].served] == [True, False]


def test_it_prints_text_and_json_and_makes_no_registry(deployed: Store, capsys: pytest.CaptureFixture[str]) -> None:
    main(["status", "--store", deployed.root])
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert [line for line in shown.splitlines() if line and line[0] != " "] == ["shoes", "toys"]
    main(["status", "--store", deployed.root, "--json"])
    shoes, toys = json.loads(capsys.readouterr().out)
    assert (shoes["served"], [one["version"] for one in toys["served"]]) == ([], ["1", "3", "2"])
    assert toys["last_run"]["run"] == "r-1"
    assert find_registry("", deployed) is None


def test_an_empty_store_names_the_command_that_comes_first(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    main(["status", "--store", store.root])
    assert "endcap run" in capsys.readouterr().out
