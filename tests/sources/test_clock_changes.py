"""Local times at a change of the clock: those that occur twice, and those that do not exist."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from endcap.events import ingest
from endcap.sources.values.clock import LocalClock
from endcap.store import Store
from tests.events.shops import facts, make_shop, stored, write_csv

BERLIN = "Europe/Berlin"
AUTUMN = ["02:50", "02:55", "02:05", "02:10", "03:01"]


def read(tmp_path: Path, store: Store, zone: str, rows: list[tuple[str, str, str]]) -> tuple[list[str], dict[str, int]]:
    """The instants of rows of (session, customer, local time) in reading order, and what was counted."""
    lines = [f"{session},{customer},i,{time},view" for session, customer, time in rows]
    log = write_csv(tmp_path / "log.csv", lines)
    address = ingest(make_shop(log, events={"time": {"zone": zone}}), store)
    moments = [datetime.fromtimestamp(ms / 1000, UTC) for (ms,) in stored(store, address, "time")]
    return [f"{moment:%m-%d %H:%M}" for moment in moments], facts(store, address)["times"]


def of_one(times: list[str]) -> list[tuple[str, str, str]]:
    return [("s", "c", time) for time in times]


@pytest.mark.parametrize(
    ("zone", "times", "expected", "counted"),
    [
        (
            BERLIN,
            ["2025-03-30 01:59", "2025-03-30 02:30", "2025-03-30 03:01"],
            ["03-30 00:59", "03-30 01:30", "03-30 01:01"],
            (0, 1),
        ),
        (
            BERLIN,
            [f"2025-10-26 {time}" for time in ("01:59", *AUTUMN)],
            ["10-25 23:59", "10-26 00:50", "10-26 00:55", "10-26 01:05", "10-26 01:10", "10-26 02:01"],
            (4, 0),
        ),
        (BERLIN, ["2025-10-26T02:30:00+01:00", "2025-10-26T02:30:00+02:00"], ["10-26 01:30", "10-26 00:30"], (0, 0)),
        (
            "America/New_York",
            ["2024-11-03 01:40", "2024-11-03 01:20", "2024-03-10 02:15"],
            ["11-03 05:40", "11-03 06:20", "03-10 07:15"],
            (2, 1),
        ),
        # Half an hour.
        (
            "Australia/Lord_Howe",
            ["2024-04-07 01:45", "2024-04-07 01:35", "2024-10-06 02:10", "2024-10-06 02:31"],
            ["04-06 14:45", "04-06 15:05", "10-05 15:40", "10-05 15:31"],
            (2, 1),
        ),
        # At midnight: a day that begins at one, or whose last hour comes twice.
        ("America/Sao_Paulo", ["2018-11-04", "2018-02-17 23:30", "2018-02-17 23:10"],
         ["11-04 03:00", "02-18 01:30", "02-18 02:10"], (2, 1)),
        ("Asia/Beirut", ["2022-03-27 00:30", "2022-10-29 23:50", "2022-10-29 23:05"],
         ["03-26 22:30", "10-29 20:50", "10-29 21:05"], (2, 1)),
        # Winter time is what lasts a month.
        ("Africa/Casablanca", ["2024-03-10 02:50", "2024-03-10 02:05", "2024-04-14 02:30"],
         ["03-10 01:50", "03-10 02:05", "04-14 02:30"], (2, 1)),
        ("Europe/London", ["2024-10-27 01:30", "2024-10-27 01:30Z", "2024-10-27 01:10"],
         ["10-27 00:30", "10-27 01:30", "10-27 01:10"], (2, 0)),
        ("UTC", ["2025-10-26 02:50", "2025-10-26 02:05"], ["10-26 02:50", "10-26 02:05"], (0, 0)),
    ],
)  # fmt: skip
def test_what_a_clock_shows_twice_or_skips(
    tmp_path: Path, store: Store, zone: str, times: list[str], expected: list[str], counted: tuple[int, int]
) -> None:
    moments, counts = read(tmp_path, store, zone, of_one(times))
    assert moments == expected
    assert (counts["ambiguous"], counts["shifted"]) == counted


def test_the_order_goes_on_from_block_to_block(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endcap.sources.formats.read_csv.BLOCK", 64)
    moments, counts = read(tmp_path, store, BERLIN, of_one([f"2025-10-26 {time}" for time in AUTUMN]))
    assert moments == ["10-26 00:50", "10-26 00:55", "10-26 01:05", "10-26 01:10", "10-26 02:01"]
    assert counts["ambiguous"] == 4


def test_each_owner_has_an_order_of_its_own(tmp_path: Path, store: Store) -> None:
    rows = [
        ("s1", "c1", "02:50"),
        ("s2", "c2", "02:05"),
        ("s3", "", "02:40"),
        ("s4", "c1", "02:20"),  # the customer's other session
        ("s4", "", "02:10"),  # nobody's: of the session
        ("s3", "", "02:30"),
        ("s2", "c2", "02:06"),
        ("c1", "", "02:00"),  # a session that is called as a customer is
    ]
    moments, _ = read(
        tmp_path, store, BERLIN, [(session, customer, f"2025-10-26 {time}") for session, customer, time in rows]
    )
    assert [moment[6:] for moment in moments] == [
        "00:50", "00:05", "00:40", "01:20", "00:10", "01:30", "00:06", "00:00",
    ]  # fmt: skip


def test_each_year_has_an_order_of_its_own(tmp_path: Path, store: Store) -> None:
    times = ["2025-10-26 02:10", "2024-10-27 02:30", "2025-10-26 02:20", "2024-10-27 02:20"]
    moments, _ = read(tmp_path, store, BERLIN, of_one(times))
    assert moments == ["10-26 00:10", "10-27 00:30", "10-26 00:20", "10-27 01:20"]


@pytest.mark.parametrize("owners", [1, 7])
@pytest.mark.parametrize("falling", [False, True])
@pytest.mark.parametrize("block", [1 << 20, 256])
def test_a_log_in_either_order_gives_the_true_instants(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, owners: int, falling: bool, block: int
) -> None:
    monkeypatch.setattr("endcap.sources.formats.read_csv.BLOCK", block)
    # Each owner is there from before the change to after it, and at steps short enough to show the second hour.
    start = datetime(2025, 10, 25, 23, 0, tzinfo=UTC)
    true = [(start + timedelta(minutes=7 * step), f"c{step % owners}") for step in range(40 * owners)]
    rows = [(f"s{owner}", owner, f"{moment.astimezone(ZoneInfo(BERLIN)):%Y-%m-%d %H:%M}") for moment, owner in true]
    moments, _ = read(tmp_path, store, BERLIN, rows[::-1] if falling else rows)
    expected = [f"{moment:%m-%d %H:%M}" for moment, _ in true]
    wrong = sum(a != b for a, b in zip(moments, expected[::-1] if falling else expected, strict=True))
    # An owner whose first time of the hour is late in its second pass tells nothing.
    assert wrong <= owners - 1


def test_a_published_day_is_the_zones(tmp_path: Path, store: Store) -> None:
    log = tmp_path / "views.csv"
    log.write_text("sessionId;userId;itemId;timeframe;eventdate\n1;NA;7;1000;2016-10-30\n1;NA;8;9000000;2016-10-30\n")
    shop = make_shop({"path": str(log), "layout": "diginetica-views"}, events={"time": {"zone": BERLIN}})
    midnight = round(datetime(2016, 10, 29, 22, tzinfo=UTC).timestamp() * 1000)
    assert stored(store, ingest(shop, store), "time") == [(midnight + 1000,), (midnight + 9_000_000,)]


def test_a_format_without_an_offset_is_the_zones(tmp_path: Path, store: Store) -> None:
    log = write_csv(tmp_path / "log.csv", ["s,c,i,26.10.2025 02:50,view", "s,c,i,26.10.2025 02:10,view"])
    rule = {"format": ["%d.%m.%Y %H:%M %z", "%d.%m.%Y %H:%M"], "zone": BERLIN}
    address = ingest(make_shop(log, events={"time": rule}), store)
    assert stored(store, address, "strftime(make_timestamp(time * 1000), '%H:%M')") == [("00:50",), ("01:10",)]
    assert facts(store, address)["times"] == {"ambiguous": 2, "shifted": 0}


@pytest.mark.parametrize(
    "zone", [BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Beirut", "Africa/Casablanca", "Pacific/Apia"]
)
def test_all_other_times_are_as_the_data_base_says(tmp_path: Path, store: Store, zone: str) -> None:
    draw, here = random.Random(7), ZoneInfo(zone)
    dates = [datetime(1991, 1, 1) + timedelta(days=number) for number in range(34 * 365)]
    offsets = [date.replace(tzinfo=here).utcoffset() for date in dates]
    # A snapshot has a file a day, so that few days cost little: those of changes, and as many others.
    changes = [date for date, before, after in zip(dates, offsets, offsets[1:], strict=False) if before != after]
    days = draw.sample(changes, 20) + draw.sample(dates, 20)
    locals_ = [draw.choice(days) + timedelta(minutes=draw.randrange(1440)) for _ in range(3000)]
    rows = [(f"s{number}", "", f"{local:%Y-%m-%d %H:%M}") for number, local in enumerate(locals_)]
    lines = [f"{session},{customer},i,{time},view" for session, customer, time in rows]
    address = ingest(make_shop(write_csv(tmp_path / "log.csv", lines), events={"time": {"zone": zone}}), store)
    # Its rule for the doubtful ones (fold 0) is ours for owners with one event.
    expected = [round(local.replace(tzinfo=here).timestamp() * 1000) for local in locals_]
    assert [ms for (ms,) in stored(store, address, "time")] == expected


def test_owners_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Store) -> None:
    monkeypatch.setattr("endcap.sources.values.clock.OWNERS", 2)
    times = [("a", "02:50"), ("b", "02:50"), ("c", "02:50"), ("c", "02:10"), ("a", "02:10")]
    moments, _ = read(tmp_path, store, BERLIN, [(owner, owner, f"2025-10-26 {time}") for owner, time in times])
    assert [moment[6:] for moment in moments] == ["00:50", "00:50", "00:50", "01:10", "00:10"]
    assert LocalClock(BERLIN).ambiguous == 0
