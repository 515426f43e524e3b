"""The writer's thread: what becomes of each ranking, also when the place is away, the queue full or a day over."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from endcap.errors import StorageError
from endcap.pseudonyms import Pseudonymiser
from endcap.ranking import Answer, RankRequest, ShopperContext
from endcap.rules import Catalogue
from endcap.samples import read_catalogue, read_samples
from endcap.samples.choice import SampleChoice
from endcap.samples.files import decode_file, name_file
from endcap.samples.observation import LARGEST_REQUEST, MOST_ENTRIES, Observation
from endcap.samples.places import FolderPlace
from endcap.samples.reading import list_files
from endcap.samples.writer import SampleWriter, WriterLimits
from endcap.spec.rules import Rules

DAY_MS = 86_400_000
PSEUDONYMS = Pseudonymiser(b"a key of these tests")


class FaultyPlace(FolderPlace):
    """A folder that can be away, or hold its caller up."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.is_away = False
        self.tries = 0
        self.gate = threading.Event()
        self.gate.set()

    def write(self, name: str, content: bytes) -> None:
        self.gate.wait(30)
        self.tries += 1
        if self.is_away:
            raise StorageError("away", code="store.unavailable")
        super().write(name, content)


class Writing:
    """A writer to a folder, and what it counted."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        self.folder, self.place, self.counted = folder, FaultyPlace(folder), Counter[str]()
        self.writer = SampleWriter(
            lambda: self.place,
            "home",
            "pod-1",
            PSEUDONYMS,
            keep=timedelta(days=2),
            count=lambda outcome, rankings: self.counted.update({outcome: rankings}),
            limits=WriterLimits(**{"seconds": 3600.0, "retry": 0.02, **limits}),
        )

    def offer(self, numbers: Iterable[int], **values: Any) -> None:
        for number in numbers:
            self.writer.offer(observe(number, **values))

    def read(self) -> list[str]:
        return [sample.ranking_id for sample in read_samples(str(self.folder), "home")]


def now() -> int:
    return time.time_ns() // 1_000_000


def observe(number: int, **values: Any) -> Observation:
    request = RankRequest(items=["a"], customer="ann", k=2)
    answer = Answer(["b", "c"], [0.5, None], reason="few-scores")
    usual = Observation(f"t.{number}", number, "3", "stable", now(), request, ShopperContext(), answer, False, None)
    return usual._replace(**values)


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_end_writes_what_is_open_and_says_that_it_is_the_end(tmp_path: Path) -> None:
    writing = Writing(tmp_path, rows=3)
    writing.offer(range(5))
    writing.writer.close(30)
    files = list_files(writing.place, "home")
    described = [decode_file((tmp_path / file.name).read_bytes(), file.name)[1] for file in files]
    assert [(one.sequence, one.ended, one.outcomes["written"]) for one in described] == [(0, False, 3), (1, True, 5)]
    assert sorted(writing.read()) == [f"t.{number}" for number in range(5)]
    assert writing.counted == {"written": 5}
    (first, *_) = read_samples(str(tmp_path), "home")
    assert first.customer == PSEUDONYMS.pseudonymise("ann")
    assert "ann" not in first.request
    assert first.pseudonym_key == PSEUDONYMS.key_id


def test_samples_wait_while_the_place_is_away_and_beyond_the_bound_they_are_counted(tmp_path: Path) -> None:
    writing = Writing(tmp_path, rows=1, waiting_files=2)
    writing.place.is_away = True
    writing.offer(range(5))
    wait_for(lambda: writing.counted["place-away"] == 3)
    assert writing.read() == []
    writing.place.is_away = False
    wait_for(lambda: writing.counted["written"] == 2)
    assert writing.read() == ["t.0", "t.1"]
    writing.writer.close(30)


def test_what_cannot_be_written_at_the_end_is_counted_as_lost(tmp_path: Path) -> None:
    writing = Writing(tmp_path)
    writing.place.is_away = True
    writing.offer(range(2))
    writing.writer.close(30)
    assert writing.counted == {"lost-at-end": 2}


def test_a_full_queue_drops_at_once(tmp_path: Path) -> None:
    writing = Writing(tmp_path, rows=1, queue=2)
    writing.place.gate.clear()
    writing.offer([0])
    # The thread holds the first one, and waits for the place.
    wait_for(lambda: writing.writer._queue.empty())
    writing.offer(range(1, 6))
    dropped = writing.counted["queue-full"]
    assert 2 <= dropped <= 4
    writing.place.gate.set()
    writing.writer.close(30)
    assert writing.counted["written"] == 6 - dropped


@pytest.mark.parametrize(
    "request_",
    [
        RankRequest(items=["a"] * (MOST_ENTRIES + 1)),
        RankRequest(items=["a" * 1000 for _ in range(LARGEST_REQUEST // 1000 + 1)]),
    ],
    ids=["entries", "characters"],
)
def test_what_exceeds_a_bound_is_counted(tmp_path: Path, request_: RankRequest) -> None:
    writing = Writing(tmp_path)
    writing.offer([0], request=request_)
    writing.offer([1])
    writing.writer.close(30)
    assert writing.counted == {"too-large": 1, "written": 1}


def test_a_file_has_one_day_and_the_day_has_its_catalogue(tmp_path: Path) -> None:
    writing = Writing(tmp_path)
    catalogue = Catalogue(Rules(), blacklist=frozenset({"x"}), read_time=5)
    for day in (1, 0):
        writing.offer([day], time=now() - day * DAY_MS, catalogue=catalogue)
    writing.writer.close(30)
    assert len({file.day for file in list_files(writing.place, "home")}) == 2
    assert len(list(tmp_path.rglob("catalogue-*.arrow"))) == 2
    read = read_catalogue(str(tmp_path), "home", catalogue.version)
    assert read is not None
    assert read.blacklist == {"x"}


def test_old_days_are_removed_and_those_of_other_recommenders_stay(tmp_path: Path) -> None:
    def lay(recommender: str, day: date) -> None:
        FolderPlace(tmp_path).write(name_file(recommender, day, "pod-0", 0), b"")

    today = datetime.now(UTC).date()
    for recommender in ("home", "cart"):
        for age in (2, 3, 40):
            lay(recommender, today - timedelta(days=age))
    writing = Writing(tmp_path)
    writing.offer([0])
    writing.writer.close(30)

    def list_ages(recommender: str) -> Sequence[int]:
        return sorted({(today - file.day).days for file in list_files(writing.place, recommender)})

    assert list_ages("cart") == [2, 3, 40]
    assert list_ages("home") in ([0, 2], [0, 1, 2, 3])  # the second one, if midnight has passed meanwhile


def test_a_choice_depends_on_the_id_alone_and_the_bound_on_the_second() -> None:
    ids = [f"token-{number}.0" for number in range(10_000)]
    chosen = [ranking_id for ranking_id in ids if SampleChoice(0.1, 5).is_chosen(ranking_id)]
    assert 800 < len(chosen) < 1200
    assert chosen == [ranking_id for ranking_id in ids if SampleChoice(0.1, 9).is_chosen(ranking_id)]
    assert chosen != [ranking_id for ranking_id in ids if SampleChoice(0.1, 5, seed=1).is_chosen(ranking_id)]
    assert all(SampleChoice(1.0, 5).is_chosen(ranking_id) for ranking_id in ids)
    seconds = [10.0]
    choice = SampleChoice(1.0, 2, clock=lambda: seconds[0])
    assert [choice.admit() for _ in range(3)] == [True, True, False]
    seconds[0] = 11.5
    assert choice.admit()
