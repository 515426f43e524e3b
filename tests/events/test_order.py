"""The order of events of one time: the declared column, then the place in the files, then the bytes of their ids."""

from __future__ import annotations

from pathlib import Path

from endcap.events import ingest
from endcap.store import Store
from tests.events.shops import COLUMNS, make_shop, open_snapshot, write_csv

HEADER = "session,customer,item,time,type,line"
ORDERED = {"columns": {**COLUMNS, "order": "line"}}


def test_a_row_without_a_whole_number_in_the_declared_column_is_bad(store: Store, tmp_path: Path) -> None:
    good = ["1", "-3", "+4", "12.0", " 7 ", "9223372036854775807", "000"]
    bad = ["", "  ", "x", "1.5", "1e3", "9223372036854775808", "1,000", "NULL"]
    rows = [f's,c,i{number},2024-03-01T10:00:00Z,view,"{line}"' for number, line in enumerate(good + bad)]
    file = write_csv(tmp_path / "log.csv", rows, HEADER)
    facts = open_snapshot(store, ingest(make_shop(file, events={**ORDERED, "max_bad_share": 1}), store)).facts
    assert facts["events"] == len(good)
    assert facts["bad"]["events"] == {
        "order is empty": 2,
        "order is not a whole number of at most 64 bits": len(bad) - 2,
    }
    assert facts["examples"]["events"]["order is not a whole number of at most 64 bits"]["value"] == "x"
