"""endcap rollout plan: what it tells, and which policies it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from endcap.cli.main import main
from tests.spec.test_load import RECOMMENDER, SHOP, write


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    write(tmp_path / "shops" / "toys.yaml", SHOP)
    return write(tmp_path / "home.yaml", RECOMMENDER + "rollout: {}\n")


def fail(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def test_a_plan_tells_days_power_and_what_a_bad_version_would_cost(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["rollout", "plan", str(spec), "--shoppers", "100000", "--ctr", "0.1", "--rankings", "3"])
    text = capsys.readouterr().out
    assert "100,000 shoppers a day" in text
    assert "ctr at +0 %, no_harm with a margin of 3 %: promoted with a probability of 100% within 2w" in text
    assert "half of such versions after 1." in text
    assert "a version at -20 %:" in text
    assert "assumed: a third of all shoppers comes each day (--people)" in text
    assert "(--ctr)" not in text


def test_a_plan_is_json_for_scripts(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["rollout", "plan", str(spec), "--shoppers", "100000", "--ctr", "0.1", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["recommender"] == "home"
    assert document["plan"]["power"] > 0.99
    assert document["plan"]["steps"][0] == [0.01, 0.0]
    assert [metric["metric"] for metric in document["plan"]["metrics"]] == ["ctr", "conversion", "revenue"]
    assert document["traffic"]["shoppers"] == 100_000


@pytest.mark.slow
def test_a_hopeless_policy_is_refused_with_what_would_help(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fail("rollout", "plan", spec, "--shoppers", "20000", "--ctr", "0.02", "--json") == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "cli.hopeless-rollout"
    assert error["fields"]["advice"][0]["changes"]
    assert error["fields"]["plan"]["plan"]["power"] < 0.5
    assert "--set rollout.margin=" in error["message"]


@pytest.mark.slow
def test_a_shop_with_too_few_shoppers_is_told_so(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fail("rollout", "plan", spec, "--shoppers", "300") == 2
    captured = capsys.readouterr()
    assert "too few shoppers come" in captured.err
    assert "a version at -20 %:" in captured.out


def test_a_spec_without_the_section_has_nothing_to_plan(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(spec, RECOMMENDER)
    assert fail("rollout", "plan", spec, "--shoppers", "300") == 2
    assert "[cli.no-rollout-section]" in capsys.readouterr().err


def test_without_shoppers_the_store_is_needed(spec: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert fail("rollout", "plan", spec, "--store", tmp_path / "nowhere") == 2
    assert "[cli.no-store]" in capsys.readouterr().err
