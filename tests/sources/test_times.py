"""Times: numbers by their unit, ISO 8601, formats; what is no time has its reason, and what to set is told."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.errors import DataError
from endcap.events import ingest
from endcap.sources.engine import open_engine
from endcap.sources.values import times
from endcap.sources.values.time_advice import advise
from endcap.spec.event_log import TimeRule
from endcap.store import Store, open_store
from tests.events.shops import facts, make_shop, open_snapshot, stored, write_csv
from tests.refusals import mistaken, refused

LENIENT = {"max_bad_share": 1.0}


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        ({"unit": "s"}, "1396860669", 1396860669000),
        ({"unit": "s"}, "1396860669.277", 1396860669277),
        ({"unit": "s"}, " 1.396860669E9 ", 1396860669000),
        ({"unit": "s"}, "8.81250949E8", 881250949000),
        ({"unit": "ms"}, "1396860669277", 1396860669277),
        ({"unit": "ms"}, "1396860669277.0", 1396860669277),
        ({"unit": "us"}, "1396860669276500", 1396860669277),
        ({"unit": "us"}, "1.396860669277E15", 1396860669277),
        ({"unit": "ns"}, "1396860669277499999", 1396860669277),  # as a double it is …277500000
        ({"unit": "ns"}, "1396860669278000000", 1396860669278),
        ({}, "2014-04-07T08:51:09.277Z", 1396860669277),
        ({"zone": "Europe/Berlin"}, "2014-04-07T10:51:09.277", 1396860669277),
        ({"zone": "Europe/Berlin"}, "2014-04-07T08:51:09.277Z", 1396860669277),
        ({"zone": "Europe/Berlin"}, "2014-04-07T08:51:9Z", 1396860669000),
        ({"zone": "Europe/Berlin"}, "20140407T105109,277", 1396860669277),
        ({"zone": "Europe/Berlin"}, "20140407T085109Z", 1396860669000),
        ({"zone": "Europe/Berlin"}, "2014-01-07 09:00:00", 1389081600000),
        ({"zone": "Asia/Kolkata"}, "2014-04-07 14:21:09", 1396860669000),
        ({"zone": "America/New_York"}, "2014-04-07", 1396843200000),
        ({"format": "%m/%d/%Y %H:%M"}, "4/7/2014 8:51", 1396860660000),
        ({"format": "%d.%m.%Y %H:%M:%S", "zone": "Europe/Berlin"}, "07.04.2014 10:51:09", 1396860669000),
        ({"format": "%d.%m.%Y %H:%M:%S %z", "zone": "Europe/Berlin"}, "07.04.2014 10:51:09 +0200", 1396860669000),
        ({"format": "%d.%m.%Y %H:%M:%S %z", "zone": "Europe/Berlin"}, "07.04.2014 08:51:09 Z", 1396860669000),
        ({"format": "%a, %d %b %Y %H:%M:%S %Z"}, "Mon, 07 Apr 2014 08:51:09 GMT", 1396860669000),
        ({"format": "%b %d, %Y, %I:%M:%S %p"}, "Apr 7, 2014, 08:51:09 AM", 1396860669000),
        ({"format": ["%d.%m.%Y", "%d.%m.%Y %H:%M"]}, "07.04.2014 08:51", 1396860660000),
        (
            {"format": ["%Y-%m-%d %H:%M:%S CET", "%Y-%m-%d %H:%M:%S CEST"], "zone": "Europe/Berlin"},
            "2014-04-07 10:51:09 CEST",
            1396860669000,
        ),
    ],
)
def test_time(tmp_path: Path, store: Store, rule: dict[str, Any], text: str, expected: int) -> None:
    log = write_csv(tmp_path / "log.csv", [f's,c,i,"{text}",view'])
    assert stored(store, ingest(make_shop(log, events={"time": rule}), store), "time") == [(expected,)]


FORMS = {
    "2021-03-04 05:06:07 UTC": "05:06:07",
    "2021-03-04 05:06:07 GMT": "05:06:07",
    "2021-03-04T05:06:07Z": "05:06:07",
    "2021-03-04t05:06:07z": "05:06:07",
    "2021-03-04T05:06:07 Z": "05:06:07",
    "2021-03-04 05:06:07UTC": "05:06:07",
    "2021-03-04T07:06:07+02:00": "05:06:07",
    "2021-03-04T07:06:07+0200": "05:06:07",
    "2021-03-04 07:06:07+02": "05:06:07",
    "2021-03-04 07:06:07 +02:00": "05:06:07",
    "2021-03-03T19:36:07-09:30": "05:06:07",
    "2021-03-04T05:06:07.891Z": "05:06:07.891",
    "2021-03-04T05:06:07.8906Z": "05:06:07.891",
    "2021-03-04T05:06:07.891234567891Z": "05:06:07.891",
    "2021-03-04 05:06:07,891": "05:06:07.891",
    "2021-03-04T07:06:07,891+02:00": "05:06:07.891",
    "2021-03-04": "00:00",
    "2021-03-04Z": "00:00",
    "2021-03-03 24:00:00": "00:00",
    "2021-03-04T05:06": "05:06",
    "2021-03-04T05:06Z": "05:06",
    "2021-03-04T05": "05:00",
    "20210304T050607Z": "05:06:07",
    "20210304T0506+0000": "05:06",
    "20210304T050607.891": "05:06:07.891",
    "20210304": "00:00",
    "2021/03/04 05:06:07": "05:06:07",
    "2021-3-4 5:06:07": "05:06:07",
    "  2021-03-04  05:06:07 ": "05:06:07",
    "2021-03-04 05:06:07 +0000 UTC": "05:06:07",
    "2021-03-04 07:06:07 +0200 CEST": "05:06:07",
    "2021-03-04T07:06:07+02:00[Europe/Berlin]": "05:06:07",
    "2021-03-04 23:59:60": times.NO_SUCH,  # no month ends here
    "2021-02-29": times.NO_SUCH,
    "2021-03-04 24:00:01": times.NO_SUCH,
    "2021-03-04 05:60:00": times.NO_SUCH,
    "2021-13-04T05:06:07Z": times.NO_SUCH,
    **{
        f"2021-03-04 05:06:07 {word}": times.ZONE_WORD
        for word in ("BST", "IST", "CST", "EST", "PST", "CET", "CEST", "MSK", "NZ", "X", "Europe/Berlin", "GMT+2")
    },
    "2021-03-04 05:06:07 +0200 UTC": times.ZONE_WORD,
    "2021-03-04 05:06:07 AM": times.CLOCK_12,
    "2021-03-04 5:06 pm": times.CLOCK_12,
    "2021-03-04T05:06:07+15:00": times.NOT_ISO,
    "2021-03-04T05:06:07+02:99": times.NOT_ISO,
    **dict.fromkeys(("04.03.2021 05:06", "3/4/2021 5:06", "21/03/04 05:06:07"), times.NOT_ISO),
    **dict.fromkeys(("2021-063", "2021-W09-4", "2021-03-04-05", "2021-03-04+02:00"), times.NOT_ISO),
    "Thu, 04 Mar 2021 05:06:07 GMT": times.NOT_ISO,
    "Mar 4, 2021, 5:06:07 AM": times.NOT_ISO,
    **dict.fromkeys(("infinity", "-infinity", "now", "epoch", "today", "2021-03-04 (BC)"), times.NOT_ISO),
    "1614834367": times.NUMBER_NOT_ISO,
    "20210304050607": times.NUMBER_NOT_ISO,
    "0021-03-04": times.BEFORE_1990,
}


@pytest.fixture(scope="module")
def read_forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of each of the forms: its epoch ms, or the reason why it is bad."""
    folder = tmp_path_factory.mktemp("forms")
    store = open_store(str(folder / "store"))
    texts = list(FORMS)
    log = write_csv(folder / "log.csv", [f's,c,{number},"{text}",view' for number, text in enumerate(texts)])
    address = ingest(make_shop(log, events=LENIENT), store)
    results: dict[str, Any] = {texts[int(item)]: ms for item, ms in stored(store, address, "item, time")}
    for line in open_snapshot(store, address).quarantine.read_text().splitlines():
        row = json.loads(line)
        results[texts[int(row["values"]["item"])]] = row["reason"]
    return results


@pytest.mark.parametrize(("text", "expected"), FORMS.items())
def test_a_form_is_read_right_or_refused_with_its_reason(read_forms: dict[str, Any], text: str, expected: str) -> None:
    if expected.startswith("time "):
        assert read_forms[text] == expected
    else:
        moment = datetime.fromisoformat(f"2021-03-04T{expected}").replace(tzinfo=UTC)
        assert read_forms[text] == round(moment.timestamp() * 1000)


@pytest.mark.parametrize("text", ["2016-12-31T23:59:60Z", "2017-01-01T00:59:60+01:00", "20161231T235960"])
def test_a_leap_second_is_the_moment_after_it(tmp_path: Path, store: Store, text: str) -> None:
    log = write_csv(tmp_path / "log.csv", [f"s,c,i,{text},view"])
    assert stored(store, ingest(make_shop(log), store), "time") == [(1483228800000,)]


@pytest.mark.parametrize(
    ("rule", "text", "reason"),
    [
        ({"unit": "s"}, "2021-03-04", times.NOT_NUMBER),
        ({"unit": "ns"}, "99999999999999999999999", times.IN_FUTURE),
        ({"unit": "ns"}, "0x17", times.NOT_NUMBER),
        ({"unit": "s"}, "1,614,834,367", "time has marks of thousands: write the number without them"),
        ({"format": "%d.%m.%Y"}, "2021-03-04", times.NOT_FORMAT),
        ({"format": "%d.%m.%Y"}, "31.02.2021", times.NOT_FORMAT),
        ({"format": "%d.%m.%Y"}, "04.03.21", times.BEFORE_1990),
        ({"format": "%Y-%m-%d %H:%M:%S %Z"}, "2021-03-04 05:06:07 BST", times.NOT_FORMAT),
    ],
)
def test_no_time(tmp_path: Path, store: Store, rule: dict[str, Any], text: str, reason: str) -> None:
    log = write_csv(tmp_path / "log.csv", [f's,c,i,"{text}",view', 's,c,i,"",view'])
    with refused(DataError, "events.bad-rows", reasons=dict(Counter([reason, "time is empty"]))) as stopped:
        ingest(make_shop(log, events={"time": rule} | LENIENT), store)
    example = {"source": str(log), "line": 2, "value": text}
    assert stopped.value.fields["examples"][reason] == example
    assert text in str(stopped.value)


def test_the_snapshot_says_an_example_of_each_reason(tmp_path: Path, store: Store) -> None:
    rows = ["s,c,i,2021-03-04,view", "s,c,i,never,view", "s,c,1.0,2021-03-04,view", f"s,c,i,{'long' * 50},view"]
    shop = make_shop(write_csv(tmp_path / "log.csv", rows), events=LENIENT)
    examples = facts(store, ingest(shop, store))["examples"]["events"]
    assert {reason.partition(":")[0]: (example["line"], example["value"]) for reason, example in examples.items()} == {
        "time is not ISO 8601 text": (3, "never"),
        "item is a float such as 123.0": (4, "1.0"),
    }
    first = write_csv(tmp_path / "log.csv", [rows[0], rows[3]])
    (example,) = facts(store, ingest(make_shop(first, events=LENIENT), store))["examples"]["events"].values()
    assert len(example["value"]) < 120


SECONDS = 1614834367
MANY = {"s": SECONDS, "ms": SECONDS * 10**3, "us": SECONDS * 10**6, "ns": SECONDS * 10**9}


@pytest.mark.parametrize("declared", ["s", "ms", "us", "ns", "iso"])
@pytest.mark.parametrize("true", ["s", "ms", "us", "ns"])
def test_the_advice_for_another_unit_leads_to_times(tmp_path: Path, store: Store, declared: str, true: str) -> None:
    log = write_csv(tmp_path / "log.csv", [f"s,c,i{n},{MANY[true]},view" for n in range(3)])
    if declared != true:
        with refused(DataError, "events.bad-rows") as stopped:
            ingest(make_shop(log, events={"time": {"unit": declared}}), store)
        assert stopped.value.fields["advice"].endswith(f": set events.time.unit to {true}")
    address = ingest(make_shop(log, events={"time": {"unit": true}}), store)
    assert stored(store, address, "time // 1000") == [(SECONDS,)] * 3


@pytest.mark.parametrize(
    ("rule", "values", "advice"),
    [
        ({"unit": "s"}, ["2014-04-07"], "set events.time.unit to iso"),
        ({"unit": "s"}, ["20140407"], "set events.time.unit to iso"),
        ({"unit": "ms"}, ["07.04.2014 08:51"], "to '%d.%m.%Y %H:%M', and take events.time.unit out"),
        ({}, ["23.04.2014 08:51:09", "01.02.2014 08:51:09"], "set events.time.format to '%d.%m.%Y %H:%M:%S'"),
        ({}, ["4/7/2014 8:51", "4/23/2014 8:51"], "set events.time.format to '%m/%d/%Y %H:%M'"),
        ({}, ["4/7/2014 8:51", "4/8/2014 8:51"], "'%m/%d/%Y %H:%M' or '%d/%m/%Y %H:%M', whichever it is"),
        ({}, ["4/23/14 8:51 PM"], "set events.time.format to '%m/%d/%y %I:%M %p'"),
        ({}, ["20140407085109"], "set events.time.format to '%Y%m%d%H%M%S'"),
        ({}, ["2014-097"], "set events.time.format to '%Y-%j'"),
        ({}, ["2014-W15-1"], "set events.time.format to '%G-W%V-%u'"),
        ({}, ["Mon, 07 Apr 2014 08:51:09 GMT"], "set events.time.format to '%a, %d %b %Y %H:%M:%S %Z'"),
        ({}, ["07/Apr/2014:08:51:09 +0200"], "set events.time.format to '%d/%b/%Y:%H:%M:%S %z'"),
        ({}, ["2014-04-07 08:51:09 PM"], "set events.time.format to '%Y-%m-%d %I:%M:%S %p'"),
        ({}, ["45000.5", "41736"], "a spreadsheet's days, such as 45000.5: write them as ISO 8601 text"),
        ({"format": "%d.%m.%Y"}, ["2014-04-07"], "take events.time.format out"),
        ({"format": "%d.%m.%Y"}, ["1396860669"], "set events.time.unit to s and take events.time.format out"),
        ({"format": "%d.%m.%Y"}, ["23.04.14"], "set events.time.format to '%d.%m.%y'"),
        ({}, ["2014-04-07 08:51:09 CET", "2014-07-07 08:51:09 CEST"], "CEST', '%Y-%m-%d %H:%M:%S CET']"),
        ({}, ["2014-04-07 08:51:09 Europe/Berlin"], "'%Y-%m-%d %H:%M:%S Europe/Berlin'"),
    ],
)  # fmt: skip
def test_what_to_set_is_told_by_the_values(
    tmp_path: Path, store: Store, rule: dict[str, Any], values: list[str], advice: str
) -> None:
    log = write_csv(tmp_path / "log.csv", [f's,c,i,"{value}",view' for value in values])
    with refused(DataError, "events.bad-rows") as stopped:
        ingest(make_shop(log, events={"time": rule}), store)
    assert stopped.value.fields["advice"].endswith(advice)
    assert advice in str(stopped.value)


def test_words_of_no_form_bring_no_advice() -> None:
    assert advise(times.NOT_ISO, ["never", None], TimeRule()) is None
    assert advise(times.NOT_ISO, [], TimeRule()) is None


@pytest.mark.parametrize(
    ("time", "code"),
    [
        ({"unit": "ms", "format": "%d.%m.%Y"}, "conflict"),
        *(
            ({"format": wrong}, "not-allowed")
            for wrong in ("", "%", "%Q", "text", "%H:%M", "%d.%m. %H:%M", "%Y", "%Y-%m", "%d.%m.%Y %I:%M")
        ),
    ],
)
def test_a_format_that_gives_no_time_is_a_mistake(time: dict[str, Any], code: str) -> None:
    with mistaken((("events", "time", "format"), code)):
        make_shop("log.csv", events={"time": time})


def test_formats_that_take_each_others_days_are_a_mistake() -> None:
    with mistaken((("events", "time", "format", 1), "not-allowed")):
        make_shop("log.csv", events={"time": {"format": ["%m/%d/%Y", "%d/%m/%Y"]}})


def test_typed_times_are_read_whatever_the_format(tmp_path: Path, store: Store) -> None:
    moment = datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC)
    table = pa.table({"session": ["s"], "item": ["i"], "time": pa.array([moment], pa.timestamp("ns", "UTC"))})
    pq.write_table(table, tmp_path / "log.parquet")
    rule = {"columns": {"session": "session"}, "time": {"format": "%d.%m.%Y", "zone": "Asia/Kolkata"}}
    assert stored(store, ingest(make_shop(tmp_path / "log.parquet", events=rule), store), "time") == [(1614834367000,)]


def test_of_mixed_units_the_undeclared_is_bad(tmp_path: Path, store: Store) -> None:
    rows = ["s,c,i,1396860669,view"] * 3 + ["s,c,i,1396860669277,view"]
    shop = make_shop(write_csv(tmp_path / "log.csv", rows), events={"time": {"unit": "s"}, "max_bad_share": 0.25})
    address = ingest(shop, store)
    assert facts(store, address)["bad"] == {"events": {"time lies in the future": 1}}
    assert facts(store, address)["events"] == 3


def test_a_zone_that_the_engine_does_not_know(tmp_path: Path) -> None:
    with refused(DataError, "events.zone-unknown", found="Mars/Olympus"), open_engine(tmp_path, "Mars/Olympus"):
        pass
