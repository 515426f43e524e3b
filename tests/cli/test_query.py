"""endcap events query."""

from __future__ import annotations

import csv
import io
import json

import pytest

from endcap.cli.main import main
from endcap.store import open_store
from tests.events.shops import ROWS
from tests.events.test_query import make


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("made")
    return ["--store", make(open_store(str(folder / "store")), folder, ROWS).store.root]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    capsys.readouterr()
    main(["events", "query", *arguments])
    shown = capsys.readouterr()
    return shown.out, shown.err


def test_rows_are_shown_as_a_table_json_and_csv(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    sql = "select session, customer, count(*) as n, 1 as n from events group by all order by session"
    out, err = run(capsys, "test", sql, *arguments)
    assert [line.split() for line in out.splitlines()[1:]] == [["s1", "c1", "2", "1"], ["s2", "2", "1"]]
    assert err == ""
    one = "select session, customer from events order by file, position"
    out, err = run(capsys, "test", one, *arguments, "--json", "--limit", "1")
    assert json.loads(out) == [{"session": "s1", "customer": "c1"}]
    assert "--limit" in err
    out, err = run(capsys, "test", "select 1 as a, 2 as a", *arguments, "--json")
    assert list(json.loads(out)[0].values()) == [1, 2]
    out, err = run(capsys, "test", one, *arguments, "--csv")
    assert list(csv.reader(io.StringIO(out)))[3] == ["s2", ""]
    assert len(out.splitlines()) == 5


def test_tables_are_listed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, "test", "--tables", *arguments)
    assert "session_events" in out
    out, _ = run(capsys, "test", "--tables", "--json", *arguments)
    assert next(table for table in json.loads(out) if table["name"] == "events")["rows"] == 4


@pytest.mark.parametrize(
    "wrong",
    [[], ["select 1", "--tables"], ["select 1", "--json", "--csv"], ["selec"]],
)
def test_a_wrong_call_ends_with_2(arguments: list[str], wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["events", "query", "test", *wrong, *arguments])
    assert ended.value.code == 2
