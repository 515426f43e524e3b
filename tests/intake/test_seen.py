"""Ids are known for 24 hours, whatever ends, merges or turns the clock back meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from endcap_serving.intake import known_ids as room
from endcap_serving.intake.known_ids import HOUR_MS, KnownIds, hash_id

HOURS = 3_600_000_000_000


class Clock:
    """The machine's clock, which may be set, and the time since it started, which may not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.since = time.time_ns(), 10**12
        monkeypatch.setattr(room.time, "time_ns", lambda: self.wall)
        monkeypatch.setattr(room.time, "monotonic_ns", lambda: self.since)

    def passes(self, hours: float) -> None:
        self.wall += int(hours * HOURS)
        self.since += int(hours * HOURS)

    def is_set(self, hours: float) -> None:
        self.wall += int(hours * HOURS)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def numbers(names: Iterable[object]) -> list[int]:
    return [hash_id(b"events", str(name)) for name in names]


def take(seen: KnownIds, sequence: int, names: Iterable[object]) -> list[int]:
    """A segment's life: its ids are added, it is closed, its array is written."""
    hashes = numbers(names)
    seen.add(hashes)
    seen.close(sequence)
    seen.keep(sequence, [np.array(hashes, np.uint64)])
    return hashes


@pytest.mark.parametrize("count", [1, 3, 500, 5000])
def test_each_of_its_ids_is_known_and_no_other(tmp_path: Path, count: int) -> None:
    seen = KnownIds(tmp_path)
    taken, others = take(seen, 1, range(count)), numbers(range(count, 2 * count))
    for asked in (taken + others, [*taken[:20], *others[:20]]):
        assert seen.find_known(asked) == set(asked) & set(taken)
    assert hash_id(b"orders", "0") != taken[0]


def test_ids_are_known_from_the_open_segment_to_the_merged_hour_and_after_a_restart(
    tmp_path: Path, clock: Clock
) -> None:
    seen = KnownIds(tmp_path)
    every: list[int] = []
    for sequence in range(1, 31):
        every += take(seen, sequence, range(100 * sequence, 100 * sequence + 100))
        assert seen.find_known(every) == set(every)
        seen.tidy()
        clock.passes(0.1)
    files = list((tmp_path / "ids").iterdir())
    assert len(files) <= 3 + room.MOST_ARRAYS
    again = KnownIds(tmp_path)
    assert again.find_known(every) == set(every)
    assert not again.find_known(numbers(["another"]))
    assert again.has_segment(1)
    assert again.has_segment(30)
    assert not again.has_segment(31)


def test_ids_are_forgotten_after_24_hours_and_not_before(tmp_path: Path, clock: Clock) -> None:
    seen = KnownIds(tmp_path)
    first = take(seen, 1, ["a"])
    for hour in range(23):
        clock.passes(1)
        take(seen, hour + 2, [hour])
        seen.tidy()
    clock.passes(0.9)
    seen.tidy()
    assert seen.find_known(first) == set(first)
    clock.passes(0.2)
    seen.tidy()
    assert not seen.find_known(first)
    assert len(list((tmp_path / "ids").iterdir())) == 23


def test_a_clock_that_goes_back_forgets_nothing(tmp_path: Path, clock: Clock) -> None:
    seen = KnownIds(tmp_path)
    first = take(seen, 1, ["a"])
    clock.is_set(-48)
    second = take(seen, 2, ["b"])
    seen.tidy()
    assert seen.find_known(first + second) == {*first, *second}
    again = KnownIds(tmp_path)
    third = take(again, 3, ["c"])
    again.tidy()
    assert again.find_known(first + second + third) == {*first, *second, *third}
    stamps = [int(file.name.split("-")[0]) for file in sorted((tmp_path / "ids").iterdir())]
    assert max(stamps) - min(stamps) < HOUR_MS


def test_a_clock_that_jumps_ahead_while_it_runs_forgets_nothing(tmp_path: Path, clock: Clock) -> None:
    seen = KnownIds(tmp_path)
    first = take(seen, 1, ["a"])
    clock.is_set(+100)
    seen.tidy()
    assert seen.find_known(first) == set(first)


def test_a_merge_that_was_cut_off_leaves_no_array_twice(tmp_path: Path, clock: Clock) -> None:
    seen = KnownIds(tmp_path)
    every = [*take(seen, 1, range(5)), *take(seen, 2, range(5, 9))]
    parts = {file.name: file.read_bytes() for file in (tmp_path / "ids").iterdir()}
    clock.passes(2)
    seen.tidy()
    for name, content in parts.items():
        (tmp_path / "ids" / name).write_bytes(content)
    again = KnownIds(tmp_path)
    assert again.find_known(every) == set(every)
    assert len(list((tmp_path / "ids").iterdir())) == 1
