"""Who is in the log is known to the service after a run, without a word about an online store; and `endcap rank`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import endcap
from endcap.cli.main import main
from endcap.deploy import find_served_datasets, forget_state
from endcap.online import FILE

K = 5
Say = Callable[..., Any]


@pytest.fixture
def deployed(judged: endcap.Project) -> endcap.Project:
    judged.deploy(judged.register(judged.refit()))
    return judged


@pytest.fixture
def history(deployed: endcap.Project) -> list[dict[str, Any]]:
    """What the first customer of the dataset with ten events did, oldest first."""
    dataset = deployed.features()
    ids = dataset.to_pandas("items")["item"].tolist()
    events, customers = dataset.to_pandas("events"), dataset.to_pandas("customers")
    row = int(customers.index[customers["events"] >= 10][0])
    mine = events[events["customer"] == row].sort_values("time", kind="stable").tail(50)
    customer = str(customers["customer"][row])
    return [
        {"customer": customer, "item": ids[item], "time": int(time)}
        for item, time in zip(mine["item"], mine["time"], strict=True)
    ]


def ranked(project: endcap.Project, history: list[dict[str, Any]]) -> list[str]:
    """By what the customer did, said in the request."""
    return project.rank(events=[{"item": event["item"], "time": event["time"]} for event in history], k=K).ids


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], folder: Path) -> Say:
    """What `endcap rank` prints about the store of these tests: a document with `--json`, else lines."""

    def run(*arguments: str, status: int = 0) -> Any:
        capsys.readouterr()
        try:
            main(["rank", *arguments, "--store", str(folder)])
            ended = 0
        except SystemExit as error:
            ended = int(error.code or 0)
        shown = capsys.readouterr().out
        assert ended == status, shown
        return json.loads(shown) if "--json" in arguments else shown.splitlines()

    return run


@pytest.mark.slow
def test_a_customer_of_the_log_is_ranked_for_personally(
    deployed: endcap.Project, history: list[dict[str, Any]], say: Say
) -> None:
    customer, wanted = history[0]["customer"], ranked(deployed, history)
    assert wanted != deployed.rank(items=[], k=K).ids
    known = deployed.rank(customer=customer, k=K)
    assert (known.ids, known.reason) == (wanted, "")
    assert deployed.rank(customer="nobody", k=K).reason == "unknown-customer"
    with deployed.serve() as address, endcap.Client(address, "trial", timeout=10) as client:
        served = client.rank(customer=customer, k=K)
        assert (served.ids, served.reason) == (wanted, "")
        stranger = client.rank(customer="nobody", k=K)
        assert {item.fallback for item in stranger.items} == {True}
        assert stranger.reason == "unknown-customer"
        # What does not count makes nobody a stranger, and takes nothing of what did.
        client.events([{"customer": shopper, "type": "search"} for shopper in (customer, "just come")])
        deadline = time.monotonic() + 60
        while client.rank(customer="just come", k=K).reason != "no-history":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert client.rank(customer=customer, k=K).ids == wanted
        shown = say("trial", "--customer", customer, "--k", str(K), "--url", address, "--json")
        assert [item["item"] for item in shown["items"]] == wanted
        assert all(item["title"] for item in shown["items"])


def test_an_online_store_that_is_lost_is_filled_by_the_next_run(
    deployed: endcap.Project, history: list[dict[str, Any]], folder: Path
) -> None:
    for file in folder.glob(f"{FILE}*"):
        file.unlink()
    assert deployed.rank(customer=history[0]["customer"], k=K).reason == "unknown-customer"
    assert find_served_datasets("trial", deployed.store) == [deployed.features().address]
    assert deployed.rank(customer=history[0]["customer"], k=K).ids == ranked(deployed, history)
    without = endcap.open("trial", store=folder, online="none", progress=lambda line: None)
    assert without.rank(customer=history[0]["customer"], k=K).reason == "online-store-away"


def test_rank_shows_what_the_service_would_answer(
    deployed: endcap.Project, history: list[dict[str, Any]], say: Say
) -> None:
    customer = history[0]["customer"]
    shown = say("trial", "--customer", customer, "--k", str(K), "--json")
    assert [item["item"] for item in shown["items"]] == ranked(deployed, history)
    assert (shown["model_version"], shown["variant"], "fallback" in shown) == ("1", "stable", False)
    titles = dict(zip(*deployed.rank(items=[], k=100).to_pandas()[["item", "title"]].values.T, strict=True))
    lines = say("trial", "--items", ",".join([*titles][:2]), "--items", "zzz", "--k", "3")
    assert max(map(len, lines)) <= 80
    assert any("zzz" in line for line in lines)
    assert sum(titles[item] in line for item in [*titles][:2] for line in lines) >= 2
    fresh = say("trial", "--candidates", "zzz,yyy", "--json")
    assert fresh["fallback"] == {"reason": "unknown-candidates", "items": 2}
    assert fresh["unknown_items"] == ["zzz", "yyy"]


def test_errors_of_rank_list_what_is_allowed(deployed: endcap.Project, say: Say) -> None:
    def fault(*arguments: str) -> tuple[str, Any]:
        error = say(*arguments, "--json", status=2)["error"]
        return error["code"], error["fields"].get("allowed")

    assert fault("trail") == ("cli.recommender-not-found", ["trial"])
    assert fault("trial", "--version", "77") == ("registry.version-not-found", ["1"])
    assert fault("trial", "--k", "0")[0] == "request.out-of-range"
    assert fault("trial", "--version", "1", "--url", "http://127.0.0.1:1")[0] == "cli.option-not-here"


def test_rank_makes_nothing_where_there_is_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["rank", "trial", "--store", str(tmp_path / "wrong"), "--json"])
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "cli.no-store"
    assert not [*tmp_path.iterdir()]


def test_rank_takes_the_champion_where_nothing_is_deployed(deployed: endcap.Project, say: Say) -> None:
    forget_state("trial", deployed.store)
    shown = say("trial", "--items", "", "--k", "2", "--json")
    assert (shown["model_version"], shown["variant"]) == ("1", None)
    deployed.deploy("1")
