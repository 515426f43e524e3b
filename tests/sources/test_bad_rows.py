"""Bad rows are set aside with line and reason; too many of them stop the run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.errors import DataError
from endcap.events import ingest
from endcap.sources.values.times import NOT_ISO
from endcap.store import Store
from tests.events.shops import ROWS, facts, make_shop, open_snapshot, stored, write_csv
from tests.refusals import refused

LENIENT = {"max_bad_share": 1.0}
GOOD = "s1,c1,good,2024-03-01T10:00:00Z,view"


def quarantined(store: Store, address: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in open_snapshot(store, address).quarantine.read_text().splitlines()]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("s,c,,2024-03-01,view", "item is empty"),
        (",c,i,2024-03-01,view", "session is empty, and sessions.by is 'given'"),
        ("s,c,i,,view", "time is empty"),
        ("s,c,i,yesterday,view", "time is not ISO 8601 text"),
        ("s,c,i,2024-02-30,view", "time is a day or an hour that does not exist"),
        ("s,c,i,1709287200,view", "time is a number where ISO 8601 text is expected"),
        ("s,c,i,1989-12-31T23:59:59Z,view", "time lies before 1990"),
        ("s,c,i,2199-01-01,view", "time lies in the future"),
        ("s,c,123.0,2024-03-01,view", "item is a float such as 123.0"),
        ("s,c,-7.0,2024-03-01,view", "item is a float such as 123.0"),
        ("s,c,1.2e+08,2024-03-01,view", "item is a number such as 1.2E+08"),
        ("s,c,1E+05,2024-03-01,view", "item is a number such as 1.2E+08"),
        ("7.0,c,i,2024-03-01,view", "session is a float such as 123.0"),
        ("s,c,nan,2024-03-01,view", "item is nan"),
        ("s,c,i,2024-03-01", "4 columns where 5 are expected"),
        ("s,c,i,2024-03-01,view,more", "6 columns where 5 are expected"),
    ],
)
def test_a_bad_row_is_kept_with_its_line_and_reason(tmp_path: Path, store: Store, row: str, reason: str) -> None:
    log = write_csv(tmp_path / "log.csv", [GOOD, row, GOOD])
    address = ingest(make_shop(log, events=LENIENT), store)
    (bad,) = quarantined(store, address)
    assert bad["reason"].startswith(reason)
    assert (bad["table"], bad["source"], bad["line"]) == ("events", str(log), 3)
    assert row in (bad.get("text"), ",".join(bad.get("values", {}).values()))
    assert facts(store, address)["bad"] == {"events": {bad["reason"]: 1}}
    assert stored(store, address, "item") == [("good",), ("good",)]


def test_lines_are_those_of_the_file(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        '"s\n1",c,two lines,2024-03-01,view',  # lines 2 and 3: an id holds no line's end
        "",
        "only,three,columns",  # 5
        's,c,"5"" nails\r\n\r\n",never,view',  # 6 to 8
        "s,c,,2024-03-01,view",  # 9
        's,c,"quoted ""\n""",2024-03-01,view',  # 10 and 11: neither does this one
        "s,c,i,never,view",  # 12
        's,c,5 inch ",2024-03-01,view',  # 13
        ",,,,",
        "s,c,i,never,view",  # 15
        's,c,"never closed,2024-03-01,view',  # 16
        "s,c,swallowed,2024-03-01,view",
    ]
    log = write_csv(tmp_path / "log.csv", rows)
    for block in (1 << 20, 150):
        monkeypatch.setattr("endcap.sources.formats.read_csv.BLOCK", block)
        monkeypatch.setattr("endcap.sources.utf8.CHUNK", block)
        address = ingest(make_shop(log, events=LENIENT | {"time": {"zone": f"Etc/GMT+{block % 7}"}}), store)
        bad = quarantined(store, address)
        assert [row["line"] for row in sorted(bad, key=lambda row: row["line"])] == [2, 5, 6, 9, 10, 12, 15, 16]
        assert stored(store, address, "item") == [('5 inch "',)]
        # The unclosed quote took a line with it: both count.
        assert facts(store, address)["bad"]["events"]["a quote is opened and never closed"] == 2


def test_text_that_is_not_utf8(tmp_path: Path, store: Store) -> None:
    log = tmp_path / "log.csv"
    good = b"s,c,\xc3\xa9,2024-03-01,view\n"
    latin, garbage = b"s,c,\xe9,2024-03-01,view\n", b"\x00\xff\xfe,\x80\n"
    log.write_bytes(b"session,customer,item,time,type\n" + good + latin + good + garbage + good)
    address = ingest(make_shop(log, events=LENIENT), store)
    assert stored(store, address, "item") == [("é",)] * 3
    bad = quarantined(store, address)
    assert {row["reason"] for row in bad} == {"not UTF-8 text: set the source's encoding, such as latin-1 or cp1252"}
    assert {row["line"]: row["text"] for row in bad} == {3: r"s,c,\xe9,2024-03-01,view", 5: "\0\\xff\\xfe,\\x80"}


def test_json_lines_that_are_none(tmp_path: Path, store: Store) -> None:
    log = tmp_path / "log.jsonl"
    good = '{"session": 1, "customer": null, "item": 12345678901234567890, "time": "2024-03-01", "type": "view"}'
    bad = ['{"session": 1, "item": ', '["s"]', "null", '{"session": 1, "item": 7.0, "time": "2024-03-01"}', '{"x": 1}']
    log.write_text("\n".join([good, *bad, "", good]))
    address = ingest(make_shop(log, events=LENIENT), store)
    assert stored(store, address, "session, customer, item") == [("1", None, "12345678901234567890")] * 2
    assert Counter(row["reason"].partition(":")[0] for row in quarantined(store, address)) == {
        "not a JSON object": 3,
        "item is a float such as 123.0": 1,
        "item is empty": 1,
    }
    assert sorted(row["line"] for row in quarantined(store, address)) == [2, 3, 4, 5, 6]


def test_ids_stored_as_floats_in_parquet_say_what_to_do(tmp_path: Path, store: Store) -> None:
    table = pa.table({"session": [1, 2], "item": [7.0, 8.0], "time": ["2024-03-01"] * 2})
    pq.write_table(table, tmp_path / "log.parquet")
    shop = make_shop(tmp_path / "log.parquet", events={"columns": {"session": "session"}})
    with refused(DataError, "events.bad-rows", bad=2, rows=2) as stopped:
        ingest(shop, store)
    (reason,) = stopped.value.fields["reasons"]
    assert "write ids as integers or text" in reason


def test_too_many_bad_rows_stop_the_run_and_stay_to_be_read(tmp_path: Path, store: Store) -> None:
    rows = [GOOD] * 97 + ["s,c,,2024-03-01,view"] * 2 + ["s,c,i,never,view"]
    shop = make_shop(write_csv(tmp_path / "log.csv", rows), events={"max_bad_share": 0.02})
    reasons = {"item is empty": 2, NOT_ISO: 1}
    with refused(DataError, "events.bad-rows", table="events", bad=3, rows=100, limit=0.02, reasons=reasons) as stopped:
        ingest(shop, store)
    message = str(stopped.value)
    assert "3 of 100 rows of events are bad (3.0%; allowed: 2.0%, events.max_bad_share)" in message
    log = str(tmp_path / "log.csv")
    assert stopped.value.fields["examples"] == {
        "item is empty": {"source": log, "line": 99, "value": "s, c, , 2024-03-01, view"},
        NOT_ISO: {"source": log, "line": 101, "value": "never"},
    }
    assert f"'never' in line 101 of {log}" in message
    kept = Path(stopped.value.fields["path"])
    assert message.endswith(f": {kept}")
    assert [json.loads(line)["line"] for line in kept.read_text().splitlines()] == [99, 100, 101]
    assert store.list("snapshots/test") == []
    assert ingest(make_shop(tmp_path / "log.csv", events={"max_bad_share": 0.03}), store)


def test_the_same_good_rows_with_other_bad_ones_are_another_snapshot_of_the_same_content(
    tmp_path: Path, store: Store
) -> None:
    bad = ["s,c,,2024-03-01,view", "s,c,i,never,view"]
    logs = {"clean": ROWS, "one": [*ROWS, bad[0]], "two": [*ROWS, *bad], "again": [bad[1], *ROWS, bad[0]]}
    clean, one, two, again = (
        ingest(make_shop(write_csv(tmp_path / f"{name}.csv", rows), events=LENIENT), store)
        for name, rows in logs.items()
    )
    assert [sum(facts(store, one).get("bad", {}).get("events", {}).values()) for one in (clean, one, two)] == [0, 1, 2]
    assert [len(quarantined(store, one)) for one in (clean, one, two)] == [0, 1, 2]
    assert len({clean, one, two}) == 3
    assert len({facts(store, one)["fingerprint"] for one in (clean, one, two, again)}) == 1


@pytest.mark.parametrize(
    ("offset", "reason"),
    [
        ("9223372036854775807", "time lies in the future"),
        ("-9223372036854775808", "time lies before 1990"),
        ("1e400", "time lies in the future"),
        ("soon", "time is not a day in eventdate and milliseconds in timeframe"),
    ],
)
def test_an_offset_that_no_time_has_is_a_bad_row(tmp_path: Path, store: Store, offset: str, reason: str) -> None:
    log = tmp_path / "views.csv"
    log.write_text(f"sessionId;userId;itemId;timeframe;eventdate\n1;NA;7;1000;2016-05-09\n1;NA;8;{offset};2016-05-09\n")
    address = ingest(make_shop({"path": str(log), "layout": "diginetica-views"}, events=LENIENT), store)
    assert [row["reason"] for row in quarantined(store, address)] == [reason]
    assert stored(store, address, "item, time") == [("7", 1462752001000)]


def test_what_the_engine_cannot_read_names_the_file(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "endcap.events.event_mapping.list_time_checks", lambda column, unit: [("CAST(item AS INTEGER) = 1", "no")]
    )
    log = write_csv(tmp_path / "log.csv", [GOOD])
    with refused(DataError, "events.values-unreadable", path=str(log)) as stopped:
        ingest(make_shop(log), store)
    assert "good" in stopped.value.fields["reason"]


def test_all_rows_bad_stops_whatever_is_allowed(tmp_path: Path, store: Store) -> None:
    log = write_csv(tmp_path / "log.csv", ["s,c,,2024-03-01,view"] * 3)
    with refused(DataError, "events.bad-rows", table="events", bad=3, rows=3):
        ingest(make_shop(log, events=LENIENT), store)


def test_a_hopeless_log_is_given_up_early(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endcap.sources.quarantine.EARLY", 100)
    monkeypatch.setattr("endcap.sources.formats.read_csv.BLOCK", 8192)
    log = write_csv(tmp_path / "log.csv", ["s,c,i,never,view"] * 10_000)
    with refused(DataError, "events.bad-rows") as stopped:
        ingest(make_shop(log), store)
    assert len(Path(stopped.value.fields["path"]).read_text().splitlines()) < 5_000


def test_gap_sessions_need_the_customer_and_not_the_session(tmp_path: Path, store: Store) -> None:
    log = write_csv(tmp_path / "log.csv", [",c1,i1,2024-03-01,view", "s,,i1,2024-03-01,view"])
    address = ingest(make_shop(log, sessions={"by": "gap"}), store)
    assert stored(store, address, "session, customer") == [(None, "c1")]
    assert facts(store, address)["left_out"] == {"events": {"without_customer": 1}}


def test_duplicates_stay_or_go_as_the_shop_says(tmp_path: Path, store: Store) -> None:
    log = write_csv(tmp_path / "log.csv", [*ROWS, ROWS[2], ROWS[0].replace("view", "cart"), ROWS[2]])
    every, once = (ingest(make_shop(log, events={"drop_duplicates": drop}), store) for drop in (False, True))
    assert facts(store, every)["events"] == 7
    assert facts(store, once)["events"] == 5
    assert facts(store, once)["duplicates"] == 2
    assert stored(store, once, "position") == [(0,), (1,), (2,), (3,), (5,)]
    clean = write_csv(tmp_path / "clean.csv", [*ROWS, ROWS[0].replace("view", "cart")])
    assert facts(store, ingest(make_shop(clean), store))["fingerprint"] == facts(store, once)["fingerprint"]
