"""The events of several days in the order of their sessions, a block at a time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
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
Columns = dict[str, NDArray[Any]]


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
        self._joined = np.zeros(len(sessions.leader), np.bool_)
        self._joined[sessions.joined] = True
        self._heads = sessions.joined[sessions.events[sessions.joined] > 0]
        self._head_offsets = np.concatenate([[0], np.cumsum(sessions.events[self._heads])]).astype(np.int64)
        self._merged = self._merge_joined()

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
        columns = self._collect(groups, lengths, offsets)
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

    def _collect(self, groups: Ints, lengths: Ints, offsets: Ints) -> Columns:
        """Collect the events of sessions in their order."""
        joined = self._joined[groups]
        days = self._sessions.find_day(groups)
        days[joined] = len(self._parts)
        present = np.unique(days).tolist()
        pieces = [(places := np.flatnonzero(days == day), self._take(day, groups[places])) for day in present]
        if len(pieces) == 1:
            return pieces[0][1]
        columns: Columns = {}
        for places, piece in pieces:
            targets = list_ranges(offsets[places], lengths[places])
            for name, values in piece.items():
                if name not in columns:
                    columns[name] = np.empty(offsets[-1], values.dtype)
                columns[name][targets] = values
        return columns or _take_nothing()

    def _take(self, day: int, groups: Ints) -> Columns:
        """Take the events of sessions of one group, all of one day; or of joined sessions."""
        if day == len(self._parts):
            places = np.searchsorted(self._heads, groups)
            events = list_ranges(self._head_offsets[places], np.diff(self._head_offsets)[places])
            return {name: values[events] for name, values in self._merged.items()}
        part, gone = self._parts[day], self._gone[day]
        groups = groups - self._sessions.edges[day]
        events = list_ranges(part.offsets[groups], part.lengths[groups])
        if gone is not None and (lost := gone[events]).any():
            events = events[~lost]
        return self._read(day, events)

    def _read(self, day: int, events: Ints) -> Columns:
        part = self._parts[day]
        times = part.time[events].astype(np.int64)
        times += part.base
        columns: Columns = {"item": self._items[day][part.item[events]], "time": times}
        if part.type is not None:
            columns["type"] = part.type[events]
        return columns

    def _merge_joined(self) -> Columns:
        """Read the events of sessions of several groups, and sort them by session and the order of events."""
        joined, leader = self._sessions.joined, self._sessions.leader
        cuts = np.searchsorted(joined, self._sessions.edges)
        pieces: list[Columns] = []
        for day in np.flatnonzero(np.diff(cuts)).tolist():
            part, gone = self._parts[day], self._gone[day]
            members = joined[cuts[day] : cuts[day + 1]]
            groups = members - self._sessions.edges[day]
            events = list_ranges(part.offsets[groups], part.lengths[groups])
            heads = np.repeat(leader[members], part.lengths[groups])
            if gone is not None:
                kept = ~gone[events]
                events, heads = events[kept], heads[kept]
            rank = events if part.rank is None else part.rank[events].astype(np.int64)
            pieces.append({"head": heads, "day": np.full(len(events), day), "rank": rank, **self._read(day, events)})
        if not pieces:
            return _take_nothing()
        merged = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
        order = np.lexsort([merged.pop("rank"), merged.pop("day"), merged.pop("head")])
        return {name: values[order] for name, values in merged.items()}


def _take_nothing() -> Columns:
    return {"item": np.zeros(0, np.int32), "time": np.zeros(0, np.int64), "type": np.zeros(0, np.int16)}
