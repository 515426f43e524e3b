"""A dataset's sessions, read from its files one range at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from endcap.features.baskets import keep_customers
from endcap.features.dataset_files import (
    build_sessions,
)
from endcap.features.parquet_rows import ParquetRows
from endcap.features.sessions import Ints, Sessions
from endcap.features.split import NEVER, Boundaries, compute_boundaries, drop_last_moments, where
from endcap.spec.evaluation import Order
from endcap.spec.event_features import EventFeature
from endcap.spec.split import GivenSplit, LeaveOneOutSplit, TimeSplit

BLOCK_EVENTS = 100_000
"""Events that are read at once, about a row group of a dataset's files."""


PartExtent = tuple[int, int, int]
"""The extent of a part: how many of the first sessions it has, the time at which its events end, and how many of each
session's last moments are left out."""


@dataclass(frozen=True)
class SessionRange:
    """Sessions begin … end - 1, which have the events first … last - 1."""

    begin: int
    end: int
    first: int
    last: int


@dataclass(frozen=True)
class PartCounts:
    """Events of each row of the item table, when each item first occurs, and the part's events and last time."""

    items: Ints
    first_seen: Ints
    events: int
    last: int


class DatasetReader:
    """Reads a dataset's sessions and events by their numbers."""

    def __init__(self, dataset: Path, features: Sequence[EventFeature], prefix: str = "") -> None:
        self.sessions = ParquetRows(dataset / f"{prefix}sessions.parquet")
        self._events = ParquetRows(dataset / f"{prefix}events.parquet")
        self._rows = pq.read_metadata(dataset / "items.parquet").num_rows
        self._features = features

    @property
    def events(self) -> int:
        """How many there are."""
        return len(self._events)

    def find_boundaries(self, split: TimeSplit | GivenSplit | LeaveOneOutSplit) -> Boundaries:
        """Find where the split cuts, as `endcap.features.split.find_boundaries` does for sessions in memory."""
        if isinstance(split, LeaveOneOutSplit) or not len(self.sessions):
            return Boundaries(NEVER, NEVER)
        latest = max(int(values.max()) for values in self.sessions.iterate_batches("end", len(self.sessions)))
        size = len(self.sessions)
        return compute_boundaries(
            split,
            size,
            lambda place: self.sessions.read_value("start", place),
            lambda moment: self.sessions.count_before("start", moment),
            latest + 1,
        )

    def compute_extent(self, split: TimeSplit | GivenSplit | LeaveOneOutSplit, until: int, left_out: int) -> PartExtent:
        """Return the extent of the part that ends at a time, or without each session's last moments for
        leave-one-out."""
        if isinstance(split, LeaveOneOutSplit):
            return len(self.sessions), NEVER, left_out
        return (len(self.sessions) if until == NEVER else self.sessions.count_before("start", until)), until, 0

    def iterate_ranges(self, sessions: int, events: int) -> Iterator[SessionRange]:
        """Yield the first sessions in ranges of about so many events."""
        begin = first = number = place = 0
        for lengths in self.sessions.iterate_batches("events", sessions):
            ends = place + np.cumsum(lengths)
            while len(ends) and ends[-1] - first >= events:
                taken = int(np.searchsorted(ends, first + events)) + 1
                number, place = number + taken, int(ends[taken - 1])
                yield SessionRange(begin, number, first, place)
                begin, first, ends = number, place, ends[taken:]
            if len(ends):
                number, place = number + len(ends), int(ends[-1])
        if number > begin:
            yield SessionRange(begin, number, first, place)

    def find_range(self, begin: int, end: int) -> SessionRange:
        """Return some sessions as one range."""
        first = sum(int(lengths.sum()) for lengths in self.sessions.iterate_batches("events", begin))
        return SessionRange(
            begin, end, first, first + int(self.sessions.read(begin, end, ["events"])["events"].to_numpy().sum())
        )

    def read(self, block: SessionRange) -> Sessions:
        """Read a range's sessions; items are rows of the dataset's item table."""
        names = [feature.name for feature in self._features]
        events = self._events.read(block.first, block.last, ["item", "time", *names])
        return build_sessions(
            events, self.sessions.read(block.begin, block.end, ["events", "customer"]), self._features
        )

    def read_all(self) -> Sessions:
        """Read every session."""
        return self.read(SessionRange(0, len(self.sessions), 0, len(self._events)))

    def read_customers(self, customers: NDArray[np.int32]) -> Sessions:
        """Read the sessions of some customers, a range at a time."""
        nothing = [self.read(SessionRange(0, 0, 0, 0))]
        blocks = self.iterate_ranges(len(self.sessions), BLOCK_EVENTS)
        return Sessions.concat([*nothing, *(keep_customers(self.read(block), customers) for block in blocks)])

    def count_items(self, whole: PartExtent, part: PartExtent, order: Order) -> PartCounts:
        """Count items as they occur in `whole`, and events as they occur in `part`."""
        counts, first_seen = np.zeros(self._rows, dtype=np.int64), np.full(self._rows, NEVER, dtype=np.int64)
        events = last = 0
        for block in self.iterate_ranges(whole[0], BLOCK_EVENTS):
            raw = self.read(block)
            sessions = cut_part(raw, *whole[1:], order)
            counts += np.bincount(sessions.items, minlength=self._rows)
            np.minimum.at(first_seen, sessions.items, sessions.times)
            if block.begin < part[0]:
                kept = raw.take(np.arange(min(block.end, part[0]) - block.begin))
                of_part = cut_part(kept, *part[1:], order)
                events, last = events + len(of_part.items), max(last, int(of_part.times.max(initial=0)))
        return PartCounts(counts, first_seen, events, last)


def cut_part(sessions: Sessions, until: int, left_out: int, order: Order) -> Sessions:
    """Cut the events from `until` on, or for leave-one-out so many last moments."""
    if left_out:
        return drop_last_moments(sessions, left_out, order)
    kept = sessions.times < until
    return sessions if kept.all() else where(sessions, kept)
