"""The story of the demo's month, its files and its clock. Three days of it run in tests/e2e/test_demo_month.py."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from endcap.cli.month_log import ArrivingLog, simulate_month
from endcap.cli.month_schedules import MonthClock, age_store
from endcap.cli.month_story import DAYS, HISTORY, Upload, get_day, get_recipe, is_rolled_out


def test_each_day_of_the_log_arrives_in_the_end() -> None:
    states = {day - upload.back: upload.state for day in range(1, DAYS + 1) for upload in get_day(day).uploads}
    assert sorted(states) == list(range(1 - HISTORY, DAYS))
    assert {day: state for day, state in states.items() if state != "whole"} == {5: "dirty"}
    for day in range(1, DAYS + 1):
        times = [upload.at for upload in get_day(day).uploads]
        assert times == sorted(times)


def test_shoppers_decide_once_on_a_recipe() -> None:
    assert [day for day in range(1, DAYS + 1) if is_rolled_out(day)] == [17, 20]
    assert [get_recipe(day) for day in (1, 14, 15, 19, 20, 21, 31)] == [
        "first",
        "worse",
        "first",
        "better",
        "harmful",
        "better",
        "better",
    ]


def test_files_arrive_whole_in_parts_and_spoilt(tmp_path: Path) -> None:
    log = ArrivingLog(simulate_month(1, 2), tmp_path)

    def read(upload: Upload) -> list[str]:
        return log.upload(1, upload).read_text().splitlines()

    night = timedelta(minutes=20)
    whole = read(Upload(night))
    assert (tmp_path / "items.csv").is_file()
    assert [file.name for file in (tmp_path / "events").iterdir()] == ["2026-02-28.csv"]
    for state, rows in (("half", 1 / 2), ("short", 3 / 4)):
        part = read(Upload(night, state=state))  # type: ignore[arg-type]
        assert part == whole[: len(part)]
        assert len(part) - 1 == int((len(whole) - 1) * rows)
    for state, every in (("dirty", 200), ("broken", 5)):
        spoilt = read(Upload(night, state=state))  # type: ignore[arg-type]
        assert sum(row != before for row, before in zip(spoilt, whole, strict=True)) == (len(whole) - 1) // every
    assert read(Upload(night)) == whole


def test_the_clock_jumps_ahead_and_never_back() -> None:
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    clock = MonthClock(begin)
    clock.jump(begin + timedelta(days=2))
    clock.jump(begin + timedelta(days=1))
    assert timedelta(days=2) <= clock.now() - begin < timedelta(days=2, hours=1)


def test_a_jump_ages_what_the_store_has(tmp_path: Path) -> None:
    manifest = tmp_path / "datasets" / "demo-month" / "d1" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    age_store(tmp_path, timedelta(days=1))
    assert time.time() - manifest.stat().st_mtime == pytest.approx(86_400, abs=3_600)
