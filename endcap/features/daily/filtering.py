"""Filters to their fixed point, over coded days: what `endcap.features.filters` declares, on narrow integers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from endcap.cpus import read_cpu_limit
from endcap.features.daily.arrays import Codes, Flags, Ints, list_ranges
from endcap.features.daily.coded_day import CodedPart
from endcap.features.daily.sessions_of_days import DaySessions
from endcap.spec.sessions import Filters

_KINDS = ("session", "item", "customer")


@dataclass(frozen=True)
class LeftSessions:
    """What filters leave.

    sessions: with the events, start and end that are left. gone: for each day, bool [events of the day], or None where
    nothing fell. items, customers: the events left of each, int64. dropped: events that fell to each filter. moved:
    sessions that lost some of their events.
    """

    sessions: DaySessions
    gone: list[Flags | None]
    items: Ints
    customers: Ints
    dropped: Mapping[str, int]
    rounds: int
    moved: Ints


@dataclass(frozen=True)
class _Loss:
    """Events that a day loses in a round: how many to each kind; of which groups' sessions and items, each event."""

    by: Ints
    leaders: Ints
    items: Codes


class DayFilter:
    """Applies the filters to the days of one part, whose sessions and counts it changes."""

    def __init__(self, parts: Sequence[CodedPart], items: Sequence[Codes], sessions: DaySessions) -> None:
        self._parts, self._items, self._sessions = parts, items, sessions
        self._gone: list[Flags | None] = [None] * len(parts)
        self._cuts = np.searchsorted(sessions.joined, sessions.edges)

    def apply(self, filters: Filters, items: Ints, customers: Ints) -> LeftSessions:
        """Apply the filters until all hold at once. items, customers: events of each, before."""
        minimums = [filters.min_session_events, filters.min_item_events, filters.min_customer_events]
        counts = [self._sessions.events, items, customers]
        dropped = np.zeros(3, np.int64)
        rounds = 0
        hurt = np.zeros(len(self._sessions.leader), np.bool_)
        with ThreadPoolExecutor(read_cpu_limit()) as threads:
            while any(
                (rare := [_find_rare(*pair) for pair in zip(counts, minimums, strict=True)])[n].any() for n in range(3)
            ):
                rounds += 1
                for loss in threads.map(lambda day, rare=rare: self._lose(day, *rare), range(len(self._parts))):
                    dropped += loss.by
                    hurt[loss.leaders] = True
                    _subtract(counts[0], loss.leaders)
                    _subtract(counts[1], loss.items)
                    owners = self._sessions.customer[loss.leaders]
                    _subtract(counts[2], owners[owners >= 0])
        named = zip(_KINDS, minimums, dropped.tolist(), strict=True)
        moved = np.flatnonzero(hurt & (self._sessions.events > 0))
        self._move(moved)
        fell = {f"min_{name}_events": count for name, minimum, count in named if minimum > 1}
        return LeftSessions(self._sessions, self._gone, items, customers, fell, rounds, moved)

    def _lose(self, day: int, rare_sessions: Flags, rare_items: Flags, rare_customers: Flags) -> _Loss:
        """Mark what a day loses as gone. An event falls to the first filter that takes it."""
        part, its_groups = self._parts[day], slice(*self._sessions.edges[day : day + 2])
        leader = self._sessions.leader[its_groups]
        by_session = rare_sessions[its_groups].copy()
        low, high = self._cuts[day : day + 2]
        joined = self._sessions.joined[low:high]
        by_session[joined - its_groups.start] = rare_sessions[self._sessions.leader[joined]]
        by_customer = np.zeros(len(leader), np.bool_)
        if rare_customers.any():
            owner = self._sessions.customer[its_groups]
            by_customer = (owner >= 0) & np.append(rare_customers, False)[owner]
        rare = rare_items[self._items[day]]
        groups = np.flatnonzero(by_session | by_customer)
        if not len(groups) and not rare.any():
            return _Loss(np.zeros(3, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int32))
        events = list_ranges(part.offsets[groups], part.lengths[groups])
        by = np.repeat(np.where(by_session[groups], 0, 2), part.lengths[groups])
        of_group = np.repeat(groups, part.lengths[groups])
        if rare.any():
            by[(by == 2) & rare[part.item[events]]] = 1
            alone = np.flatnonzero(rare[part.item])
            of_alone = np.searchsorted(part.offsets, alone, "right") - 1
            is_new = ~(by_session | by_customer)[of_alone]
            events = np.concatenate([events, alone[is_new]])
            by = np.concatenate([by, np.ones(int(is_new.sum()), by.dtype)])
            of_group = np.concatenate([of_group, of_alone[is_new]])
        gone = self._gone[day]
        if gone is not None:
            new = ~gone[events]
            events, by, of_group = events[new], by[new], of_group[new]
        elif len(events):
            gone = self._gone[day] = np.zeros(len(part.item), np.bool_)
        if gone is not None:
            gone[events] = True
        items = self._items[day][part.item[events]]
        return _Loss(np.bincount(by, minlength=3).astype(np.int64), leader[of_group], items)

    def _move(self, moved: Ints) -> None:
        """Set the start and the end of sessions that lost events and live on to those of the events that are left."""
        sessions = self._sessions
        touched = np.zeros(len(sessions.leader), np.bool_)
        touched[moved] = True
        sessions.start[moved], sessions.end[moved] = np.iinfo(np.int64).max, np.iinfo(np.int64).min
        for groups, first, last in self._find_spans(touched):
            np.minimum.at(sessions.start, sessions.leader[groups], first)
            np.maximum.at(sessions.end, sessions.leader[groups], last)

    def _find_spans(self, touched: Flags) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Find groups with events left of the touched sessions, and the times of their first and last one, by day."""
        for day, part in enumerate(self._parts):
            edge = self._sessions.edges[day]
            groups = np.flatnonzero(touched[self._sessions.leader[edge : self._sessions.edges[day + 1]]])
            gone = self._gone[day]
            kept = np.arange(len(part.item)) if gone is None else np.flatnonzero(~gone)
            low = np.searchsorted(kept, part.offsets[groups])
            high = np.searchsorted(kept, part.offsets[groups + 1])
            filled = high > low
            times = [part.time[kept[places[filled]]].astype(np.int64) + part.base for places in (low, high - 1)]
            yield edge + groups[filled], times[0], times[1]


def _find_rare(counts: Ints, minimum: int) -> Flags:
    """Find what has too few events left. What has none left has nothing to lose."""
    rare: Flags = (counts > 0) & (counts < minimum)
    return rare


def _subtract(counts: Ints, places: NDArray[np.integer]) -> None:
    if len(places) > len(counts) // 4:
        counts -= np.bincount(places, minlength=len(counts))
    else:
        np.subtract.at(counts, places, 1)
