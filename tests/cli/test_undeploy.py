"""`endcap undeploy` takes what `endcap deploy` takes, and `--render` names the overlay that fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from endcap.cli import deploy, undeploy
from endcap.cli.main import main
from endcap.deploy.overlays import OVERLAYS, choose_overlay
from endcap.deploy.pins import pin_state, unpin_state
from endcap.deploy.state import find_state, read_state, write_state
from endcap.errors import NotFoundError
from endcap.store import Store, open_store
from tests.cli.printed_errors import parse_error
from tests.deploy.fake_kserve import recommender, state
from tests.refusals import refused
from tests.spec.test_load import specs

__all__ = ["specs"]
OF_A_CHANGE = {"by", "pin", "popularity", "why", "version", "share", "shadow", "shadow_share", "force", "render"}
"""Options that say what is to be served, and how it is applied."""


def test_it_takes_the_same_options() -> None:
    took, takes = ({name.name for name in one.command.params} for one in (deploy, undeploy))
    assert took - takes == OF_A_CHANGE
    assert takes <= took


@pytest.mark.parametrize("by_file", [True, False])
def test_a_recommender_is_named_or_its_spec_given(
    specs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], by_file: bool
) -> None:
    store = open_store(str(tmp_path / "store"))
    served = state("1").model_copy(update={"recommender": "home"})
    store.write_document("deployments/home", served.model_dump(mode="json"))
    name = str(specs / "home.yaml") if by_file else "home"
    where = ("--store", str(tmp_path / "store"), "--registry", "http://registry.invalid", "--json")
    main(["deploy", name, *where])
    assert json.loads(capsys.readouterr().out)["stable"]["version"] == "1"
    main(["undeploy", name, *where])
    assert json.loads(capsys.readouterr().out) == {"recommender": "home", "forgotten": True}
    with refused(NotFoundError, "deploy.not-deployed"):
        read_state("home", store)


def test_what_is_pinned_stays_and_is_said_to_be(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    write_state(state("1"), store)
    pin_state("shoes", store, by="ann", why="sale")
    for where in ([], ["--namespace", "shop"], ["--namespace", "shop", "--dry-run"]):
        with pytest.raises(SystemExit):
            main(["undeploy", "shoes", "--store", store.root, "--json", *where])
        assert parse_error(capsys.readouterr().out)["code"] == "deploy.pinned"
    assert read_state("shoes", store).pin is not None
    main(["registry", "list", "shoes", "--store", store.root, "--json"])
    assert json.loads(capsys.readouterr().out)["pin"]["by"] == "ann"
    unpin_state("shoes", store)
    main(["undeploy", "shoes", "--store", store.root])
    assert find_state("shoes", store) is None


@pytest.mark.parametrize("command", ["deploy", "undeploy"])
def test_a_dry_run_needs_a_cluster(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "store").mkdir()
    with pytest.raises(SystemExit):
        main([command, "home", "--dry-run", "--store", str(tmp_path / "store"), "--json"])
    assert parse_error(capsys.readouterr().out)["code"] == "cli.option-missing"


@pytest.mark.parametrize(
    ("kubernetes", "overlay"),
    [
        ({}, "cpu"),
        ({"gpu": {"count": 0}}, "cpu"),
        ({"mode": "Knative"}, "cpu"),
        ({"gpu": {"count": 1}}, "standard-gpu"),
        ({"gpu": {"count": 1}, "mode": "Knative"}, "knative-gpu"),
    ],
)
def test_the_overlay_that_fits_is_named(kubernetes: dict[str, Any], overlay: str) -> None:
    assert choose_overlay(recommender(**kubernetes)) == overlay
    assert overlay in OVERLAYS
