"""Commands that read, called where no store is: nothing is made, and the error names the place that was looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap.cli.main import main
from tests.cli.printed_errors import parse_error

READING = [
    ["deploy", "toys"],
    ["evaluate", "toys/1"],
    ["events", "query", "toys", "--tables"],
    ["rank", "toys"],
    ["registry", "list"],
    ["registry", "approve", "toys", "1", "--why", "good"],
    ["runs"],
    ["runs", "show", "toys-1"],
    ["serve", "toys"],
    ["status"],
    ["undeploy", "toys"],
]


@pytest.mark.parametrize("call", READING, ids=" ".join)
def test_nothing_is_made_in_a_wrong_folder_and_the_right_one_is_named(
    call: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong, right = tmp_path / "shop" / "notes", tmp_path / "shop" / ".endcap" / "store"
    wrong.mkdir(parents=True)
    monkeypatch.chdir(wrong)
    for near in ("", str(right)):
        with pytest.raises(SystemExit) as ended:
            main([*call, "--json"])
        error = parse_error(capsys.readouterr().out)
        assert (ended.value.code, error["code"]) == (2, "cli.no-store")
        assert error["fields"] == {"store": str(wrong / ".endcap" / "store"), "near": near}
        assert list(wrong.iterdir()) == []
        right.mkdir(parents=True, exist_ok=True)


def test_a_store_without_a_registry_gets_none_by_being_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--store", str(tmp_path))
    main(["registry", "list", *where])
    capsys.readouterr()
    for call in (["promote", "toys", "1"], ["list", "toys", "--registry", f"sqlite:///{tmp_path}/mlflow.db"]):
        with pytest.raises(SystemExit) as ended:
            main(["registry", *call, "--json", *where])
        assert (ended.value.code, parse_error(capsys.readouterr().out)["code"]) == (2, "cli.no-registry")
    assert list(tmp_path.iterdir()) == []
