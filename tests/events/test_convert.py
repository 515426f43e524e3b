"""Published layouts become standard logs."""

from __future__ import annotations

import json
from pathlib import Path

from endcap.errors import DataError
from endcap.events import convert, ingest
from endcap.sources.values.times import NOT_ISO
from endcap.store import Store
from tests.events.shops import make_shop, stored
from tests.refusals import refused

CLICKS = "1,2014-04-07T10:51:09.277Z,214536502,0\n2,2014-04-07T13:56:37.614Z,214662742,S\n"
BUYS = "420374,2014-04-06T18:44:58.314Z,214537888,12462,1\n"


def test_yoochoose_clicks(tmp_path: Path) -> None:
    (tmp_path / "yoochoose-clicks.dat").write_text(CLICKS)
    target = tmp_path / "out" / "clicks.csv"
    assert convert(tmp_path / "yoochoose-clicks.dat", "yoochoose-clicks", target) == {
        "events": 2,
        "bad_rows": 0,
        "left_out": 0,
    }
    assert target.read_text().replace('"', "").splitlines() == [
        "session,customer,item,time,type",
        "1,,214536502,2014-04-07T10:51:09.277Z,click",
        "2,,214662742,2014-04-07T13:56:37.614Z,click",
    ]


def test_yoochoose_as_a_shops_sources(tmp_path: Path, store: Store) -> None:
    (tmp_path / "clicks.dat").write_text(CLICKS)
    (tmp_path / "buys.dat").write_text(BUYS)
    shop = make_shop(
        {"path": str(tmp_path / "clicks.dat"), "layout": "yoochoose-clicks"},
        {"path": str(tmp_path / "buys.dat"), "layout": "yoochoose-buys"},
    )
    assert stored(store, ingest(shop, store)) == [
        ("1", None, "214536502", 1396867869277, "click"),
        ("2", None, "214662742", 1396878997614, "click"),
        ("420374", None, "214537888", 1396809898314, "buy"),
    ]


def test_bad_rows_lie_beside_the_target(tmp_path: Path) -> None:
    (tmp_path / "log.dat").write_text(CLICKS * 100 + "3,never,1,0\n")
    assert convert(tmp_path / "log.dat", "yoochoose-clicks", tmp_path / "log.csv") == {
        "events": 200,
        "bad_rows": 1,
        "left_out": 0,
    }
    (bad,) = (tmp_path / "log.csv.quarantine.jsonl").read_text().splitlines()
    assert (json.loads(bad)["line"], json.loads(bad)["reason"]) == (201, NOT_ISO)


def test_too_many_bad_rows_leave_the_target_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "log.dat").write_text(CLICKS + "3,never,1,0\n")
    (tmp_path / "log.csv").write_text("older")
    with refused(DataError, "events.bad-rows", bad=1, rows=3):
        convert(tmp_path / "log.dat", "yoochoose-clicks", tmp_path / "log.csv")
    assert (tmp_path / "log.csv").read_text() == "older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "log.csv.quarantine.jsonl", "log.dat"]


def test_what_cannot_be_converted(tmp_path: Path) -> None:
    (tmp_path / "log.dat").write_text(CLICKS)
    with refused(DataError, "events.layout-unknown", found="columns") as stopped:
        convert(tmp_path / "log.dat", "columns", tmp_path / "log.csv")
    assert "yoochoose-clicks" in stopped.value.fields["allowed"]
    with refused(DataError, "events.format-unknown", found=["log.json"], allowed=[".csv", ".parquet"]):
        convert(tmp_path / "log.dat", "yoochoose-clicks", tmp_path / "log.json")
    (tmp_path / "log.csv").write_text("session,time,item,category\n")
    with refused(DataError, "events.column-missing", found=["session,time,item,category"], delimiter=","):
        convert(tmp_path / "log.csv", "diginetica-views", tmp_path / "out.csv")
