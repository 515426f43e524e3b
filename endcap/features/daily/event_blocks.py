"""The events of several days in the order of their sessions, a block at a time."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from endcap.features.daily.arrays import Codes, Flags, Ints, list_ranges
from endcap.features.daily.coded_day import CodedPart
from endcap.features.daily.sessions_of_days import DaySessions
from endcap.features.event_features import compute_features
from endcap.features.sessions import Sessions, Types
from endcap.spec.event_features import EventFeature

BLOCK = 1 << 17
"""Events in a block, unless a single session has more."""
DAYS = 8
"""Days whose events are kept in memory for the next blocks."""
Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class _Events:
    """Events that lie group by group. offsets: int64 [groups + 1]. columns: `item` in final numbers, `time`, epoch ms,
    and `type` where there are types."""

    offsets: Ints
    columns: Columns


class EventBlocks:
    """Collects the events of sessions from their days.

    Parameters
    ----------
    parts
        A part of each day.
    gone
        The events of each day that filters took.
    sessions
        The sessions of these days, with the events that are left.
    order
        The groups at which sessions stand, in their final order.
    items
        For each day, the final numbers of its items.
    numbers
        The final number of each customer, -1 last, for nobody.
    """

    def __init__(
        self,
        parts: Sequence[CodedPart],
        gone: Sequence[Flags | None],
        sessions: DaySessions,
        order: Ints,
        items: Sequence[Codes],
        numbers: Codes,
    ) -> None:
        self._parts, self._gone, self._sessions, self._items = parts, gone, sessions, items
        self._order, self._numbers = order, numbers
        self._heads = sessions.joined[sessions.events[sessions.joined] > 0]
        self._is_joined = np.zeros(len(sessions.leader), np.bool_)
        self._is_joined[self._heads] = True
        self._joined = self._merge_joined()
        self._left = functools.lru_cache(DAYS)(self._read_left)
        self._reading = threading.Lock()

    def list_ranges(self) -> list[tuple[int, int]]:
        """List ranges of sessions by their place in the order, each of about BLOCK events."""
        ends = np.cumsum(self._sessions.events[self._order])
        total = int(ends[-1]) if len(ends) else 0
        cuts = np.searchsorted(ends, np.arange(BLOCK, total, BLOCK), "left") + 1
        bounds = np.unique(np.concatenate([[0], cuts, [len(self._order)]])).tolist()
        return list(itertools.pairwise(bounds)) or [(0, 0)]

    def build(self, begin: int, end: int, features: list[EventFeature]) -> pa.Table:
        """Build the rows of a range of sessions, with the features of their events."""
        groups = self._order[begin:end]
        lengths = self._sessions.events[groups]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        columns = self._collect(groups, lengths)
        customers = self._numbers[self._sessions.customer[groups]]
        typed = next((feature for feature in features if feature.kind == "type"), None)
        types = None if typed is None else Types(tuple(typed.types or ()), columns["type"])
        sessions = Sessions(columns["item"], columns["time"], offsets, customers, types=types)
        return pa.table(
            {
                "session": np.repeat(np.arange(begin, end), lengths),
                "item": sessions.items,
                "customer": np.repeat(customers, lengths),
                "time": sessions.times,
                **compute_features(features, sessions),
            }
        )

    def _collect(self, groups: Ints, lengths: Ints) -> Columns:
        """Collect the events of sessions in their order: those of each day, and of joined sessions, lie together first;
        then all are put in order at once."""
        days = self._sessions.find_day(groups)
        days[self._is_joined[groups]] = len(self._parts)
        starts, size = np.empty(len(groups), np.int64), 0
        pieces: list[Columns] = []
        for day in np.unique(days).tolist():
            places = np.flatnonzero(days == day)
            begins, columns = self._find(day, groups[places])
            low, high = int(begins.min()), int((begins + lengths[places]).max())
            starts[places] = begins + (size - low)
            pieces.append({name: values[low:high] for name, values in columns.items()})
            size += high - low
        events = list_ranges(starts, lengths)
        return {
            name: _concat([piece[name] for piece in pieces], values.dtype)[events]
            for name, values in self._joined.columns.items()
        }

    def _find(self, day: int, groups: Ints) -> tuple[Ints, Columns]:
        """Find where the events of sessions begin: of one group each, all of one day; or of joined sessions."""
        if day == len(self._parts):
            return self._joined.offsets[np.searchsorted(self._heads, groups)], self._joined.columns
        with self._reading:
            left = self._left(day)
        return left.offsets[groups - self._sessions.edges[day]], left.columns

    def _read_left(self, day: int) -> _Events:
        """Read the events of a day that are left, group by group."""
        gone, offsets = self._gone[day], self._parts[day].offsets.astype(np.int64)
        if gone is None:
            return _Events(offsets, self._read(day, slice(None)))
        kept = ~gone
        counts = np.zeros(len(kept) + 1, np.int64)
        np.cumsum(kept, out=counts[1:])
        return _Events(counts[offsets], self._read(day, kept))

    def _read(self, day: int, events: Ints | Flags | slice) -> Columns:
        part = self._parts[day]
        columns: Columns = {
            "item": self._items[day][part.item[events]],
            "time": part.time[events] + np.int64(part.base),
        }
        if part.type is not None:
            columns["type"] = part.type[events]
        return columns

    def _merge_joined(self) -> _Events:
        """Read the events of sessions of several groups, and sort them by session and the order of events."""
        joined, leader = self._sessions.joined, self._sessions.leader
        cuts = np.searchsorted(joined, self._sessions.edges)
        pieces: list[Columns] = []
        for day, part in enumerate(self._parts):
            members = joined[cuts[day] : cuts[day + 1]]
            groups = members - self._sessions.edges[day]
            events = list_ranges(part.offsets[groups], part.lengths[groups])
            heads = np.repeat(leader[members], part.lengths[groups])
            gone = self._gone[day]
            if gone is not None:
                kept = ~gone[events]
                events, heads = events[kept], heads[kept]
            rank = events if part.rank is None else part.rank[events].astype(np.int64)
            pieces.append({"head": heads, "day": np.full(len(events), day), "rank": rank, **self._read(day, events)})
        merged = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
        order = np.lexsort([merged.pop("rank"), merged.pop("day"), merged.pop("head")])
        offsets = np.concatenate([[0], np.cumsum(self._sessions.events[self._heads])]).astype(np.int64)
        return _Events(offsets, {name: values[order] for name, values in merged.items()})


def _concat(arrays: Sequence[NDArray[Any]], kind: Any) -> NDArray[Any]:
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate(arrays) if arrays else np.zeros(0, kind)
