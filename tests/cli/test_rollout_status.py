"""endcap rollout status, history and report: what they print of a log in a store."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from endcap.cli.main import main
from endcap.experiments.decision_log import DecisionLog
from endcap.store import open_store
from tests.cli.printed_errors import find_code
from tests.rollout.stories import POLICY, tell_story


@pytest.fixture
def store(tmp_path: Path) -> str:
    url = str(tmp_path / "store")
    opened = open_store(url)
    now = tell_story(opened, -0.3, 80)
    log = DecisionLog(opened, "home")
    log.begin("8", "packages/home/c", "6", "packages/home/a", POLICY, now + timedelta(hours=1))
    return url


def test_the_status_is_of_the_latest_rollout(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["rollout", "status", "home", "--store", store])
    assert "home: version 8 is rising, 1 % of the shoppers have it" in capsys.readouterr().out
    main(["rollout", "status", "home", "--store", store, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (document["state"]["version"], document["state"]["share"]) == ("8", 0.01)
    assert document["evidence"] is None
    assert [step["share"] for step in document["expected"]] == [0.05, 0.1, 0.25, 0.5, 1.0]


def test_the_history_has_a_line_a_decision(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["rollout", "history", "home", "--store", store])
    assert len(capsys.readouterr().out.splitlines()) == 2
    main(["rollout", "history", "home", "--store", store, "--all"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "home: version 7 against 6"
    assert sum("collecting" in line for line in lines) == 1
    assert any("roll back 1 % -> 0 % metric-harmed" in " ".join(line.split()) for line in lines)
    main(["rollout", "history", "home", "--store", store, "--all", "--looks", "--json"])
    steps = json.loads(capsys.readouterr().out)
    assert [step["number"] for step in steps] == list(range(len(steps)))
    assert steps[-2]["step"] == "roll_back"


def test_the_report_is_a_file(store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "page.html"
    main(["rollout", "report", "home", "--store", store, "--version", "7", "--out", str(file)])
    assert capsys.readouterr().out.strip() == str(file)
    assert "version 7 against 6" in file.read_text()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["status", "nothing"], "experiments.no-rollout"),
        (["history", "nothing"], "experiments.no-rollout"),
        (["report", "home", "--version", "5"], "experiments.no-rollout-of-version"),
        (["report", "home", "--out", "/nowhere/page.html"], "cli.cannot-write"),
    ],
)
def test_what_is_not_there_is_told(
    store: str, arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["rollout", *arguments, "--store", store])
    assert find_code(capsys.readouterr().err) == code
