"""Times: seconds, milliseconds and ISO text with a zone rule; the wrong unit is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from endcap.errors import DataError
from endcap.events import ingest
from endcap.events.engine import engine
from endcap.store import Store
from tests.events.shops import facts, make_shop, stored, write_csv
from tests.refusals import refused


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        ({"unit": "s"}, "1396860669", 1396860669000),
        ({"unit": "s"}, "1396860669.277", 1396860669277),
        ({"unit": "s"}, " 1.396860669E9 ", 1396860669000),
        ({"unit": "ms"}, "1396860669277", 1396860669277),
        ({"unit": "ms"}, "1396860669277.0", 1396860669277),
        ({}, "2014-04-07T08:51:09.277Z", 1396860669277),
        ({}, "2014-04-07T08:51:09.277123456Z", 1396860669277),
        ({}, "2014-04-07T10:51:09.277+02:00", 1396860669277),
        ({}, "2014-04-07 08:51:09 UTC", 1396860669000),
        ({}, "2014-04-07", 1396828800000),
        ({"zone": "Europe/Berlin"}, "2014-04-07T10:51:09.277", 1396860669277),
        ({"zone": "Europe/Berlin"}, "2014-04-07T08:51:09.277Z", 1396860669277),
        ({"zone": "Europe/Berlin"}, "2014-01-07 09:00:00", 1389081600000),
        ({"zone": "America/New_York"}, "2014-04-07", 1396843200000),
    ],
)
def test_time(tmp_path: Path, store: Store, rule: dict[str, Any], text: str, expected: int) -> None:
    log = write_csv(tmp_path / "log.csv", [f"s,c,i,{text},view"])
    assert stored(store, ingest(make_shop(log, events={"time": rule}), store), "time") == [(expected,)]


@pytest.mark.parametrize(
    ("unit", "text", "advice"),
    [
        ("s", "1396860669277", "the times look like milliseconds: set events.time.unit to ms"),
        ("ms", "1396860669", "the times look like seconds: set events.time.unit to s"),
        ("iso", "1396860669", "the times are numbers: set events.time.unit to s or ms"),
        ("s", "2014-04-07", "the times are no numbers: set events.time.unit to iso"),
    ],
)
def test_the_wrong_unit_is_told(tmp_path: Path, store: Store, unit: str, text: str, advice: str) -> None:
    log = write_csv(tmp_path / "log.csv", [f"s,c,i,{text},view"] * 3)
    with refused(DataError, "events.bad-rows", advice=advice):
        ingest(make_shop(log, events={"time": {"unit": unit}}), store)


def test_of_mixed_units_the_undeclared_is_bad(tmp_path: Path, store: Store) -> None:
    rows = ["s,c,i,1396860669,view"] * 3 + ["s,c,i,1396860669277,view"]
    shop = make_shop(write_csv(tmp_path / "log.csv", rows), events={"time": {"unit": "s"}, "max_bad_share": 0.25})
    address = ingest(shop, store)
    assert facts(store, address)["bad"] == {"events": {"time lies in the future": 1}}
    assert facts(store, address)["events"] == 3


def test_a_zone_that_the_engine_does_not_know(tmp_path: Path) -> None:
    with refused(DataError, "events.zone-unknown", found="Mars/Olympus"), engine(tmp_path, "Mars/Olympus"):
        pass
