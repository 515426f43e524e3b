"""What shoppers did, as the intake wrote it: each file once, as soon as it is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import pyarrow as pa

from endcap.rollout.feed_places import FeedFile, open_feed_place
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store

KINDS = ("impressions", "events", "orders")
LONGEST_SEGMENT = 300.0
"""Seconds after which the intake closes a segment, where nobody is in a hurry."""
_SHORTEST_SEGMENT = 1.0
_SEALED_WITHIN = 0.2
"""The part of a segment's age that sealing and a busy machine may take on top of it."""


@dataclass(frozen=True)
class FeedBatch:
    """New rows of one kind.

    Attributes
    ----------
    kind
        One of `KINDS`.
    rows
        As the intake writes them (`docs/intake-reference.md`).
    day
        The day of their folder. All rows that were received before it lie in folders of earlier days.
    """

    kind: str
    rows: pa.Table
    day: date


def choose_segment_age(policy: RolloutSpec | None) -> float:
    """Return the seconds after which the intake closes a segment, so that a look sees what came before it."""
    if policy is None:
        return LONGEST_SEGMENT
    return min(LONGEST_SEGMENT, max(_SHORTEST_SEGMENT, policy.look_every.total_seconds() / 2))


@dataclass(frozen=True)
class IntakeOutput:
    """Where an intake writes, and how soon.

    Attributes
    ----------
    address
        A folder or ``s3://bucket/prefix``. None: the folder `intake` of the store.
    segment_age
        The seconds after which it closes a segment. None: what `choose_segment_age` returns, as beside `endcap serve`.
    """

    address: str | None = None
    segment_age: float | None = None

    def find_lag(self, policy: RolloutSpec | None) -> timedelta:
        """Return how long after a record was received its file is there. What comes later does not count any more."""
        age = choose_segment_age(policy) if self.segment_age is None else self.segment_age
        return timedelta(seconds=age * (1 + _SEALED_WITHIN) + _SHORTEST_SEGMENT)


class IntakeFeed:
    """The intake's files from a day on, each once. What it keeps is the numbers in their names.

    Parameters
    ----------
    store
        The store beside whose artifacts the intake writes.
    since
        Files of earlier days are left out.
    intake
        Where the intake writes, and how soon; None: as beside `endcap serve`.

    Notes
    -----
    A bucket lists names only in their order, and a rollout has many files. So a look lists what follows the highest
    number of each instance, in the folders of days since the one before the last look. A file in an older folder has
    only records that the last look waited for no longer. Each look also lists one folder as a whole, in turn: so a
    file that came late, with a number below the highest, is read too.
    """

    def __init__(self, store: Store, since: datetime, intake: IntakeOutput | None = None) -> None:
        self.intake = intake or IntakeOutput()
        self._place = open_feed_place(self.intake.address or f"{store.root}/intake")
        # A segment that was open at midnight has the day before.
        self._first = self._recent = _find_day_before(since)
        self._read: dict[str, _ReadNames] = {}
        self._looks = 0

    def read_new(self, now: datetime) -> Iterator[FeedBatch]:
        """Read the files that were not read yet, a few at a time, in the order of days.

        Parameters
        ----------
        now
            The moment of the look, UTC.

        Raises
        ------
        StorageError
            A file cannot be read. It is tried again at the next call.
        NotFoundError
            A file in a bucket was replaced while it was read. The next call reads the new one.
        """
        days = [(kind, day) for kind in KINDS for day in self._place.list_days(kind) if _read_day(day) >= self._first]
        days.sort(key=lambda entry: (_read_day(entry[1]), KINDS.index(entry[0])))
        turn = days[self._looks % len(days)][1] if days else ""
        self._looks += 1
        for kind, day in days:
            names = self._read.setdefault(day, _ReadNames())
            is_whole = day == turn or not names.is_complete
            if is_whole or _read_day(day) >= self._recent:
                listed = self._place.list_files(day, {} if is_whole else names.highest)
                for file, rows in self._place.read([file for file in listed if not names.has(file)]):
                    names.add(file)
                    yield FeedBatch(kind, rows, _read_day(day))
                names.is_complete = True
        self._recent = max(self._recent, _find_day_before(now))


class _ReadNames:
    """The names of a folder's files that were read. is_complete: all that were there at some look."""

    def __init__(self) -> None:
        self.is_complete = False
        self.highest: dict[str, int] = {}
        self._numbers: dict[str, set[int]] = {}
        self._foreign_names: set[str] = set()

    def has(self, file: FeedFile) -> bool:
        if file.number is None:
            return file.name in self._foreign_names
        instance, number = file.number
        return number in self._numbers.get(instance, ())

    def add(self, file: FeedFile) -> None:
        if file.number is None:
            self._foreign_names.add(file.name)
            return
        instance, number = file.number
        self._numbers.setdefault(instance, set()).add(number)
        self.highest[instance] = max(number, self.highest.get(instance, number))


def _find_day_before(moment: datetime) -> date:
    return (moment - timedelta(days=1)).date()


def _read_day(folder: str) -> date:
    try:
        return date.fromisoformat(folder.rpartition("date=")[2])
    except ValueError:
        return date.min
