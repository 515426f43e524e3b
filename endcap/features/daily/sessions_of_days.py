"""The sessions of several days: groups of one session are joined, over midnight too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from endcap.features.daily.arrays import MISSING, CodedTexts, Codes, Ints
from endcap.features.daily.coded_day import CodedPart

_INDEX_BITS = 32


@dataclass(frozen=True)
class DaySessions:
    """Sessions of days' groups. A session stands at its first group; at its other groups there are no events.

    Attributes
    ----------
    edges
        int64 [days + 1]: the groups of each day.
    leader
        int64 [g]: the group at which a group's session stands.
    joined
        Groups of sessions that have several, in order: int64.
    visits
        Groups whose id is of several groups, in order: int64. Their sessions differ where their customers do.
    customer
        int32 [g]: of the session, in the numbers of all days' customers; -1 for nobody.
    start, end
        int64 [g]: of the session, epoch ms.
    events
        int64 [g]: of the session; 0 at groups where none stands.
    counts
        `shared_sessions`, `adopted_events`, `anonymous_events`; see `endcap.features.keyed_log.COUNTS`.
    """

    edges: Ints
    leader: Ints
    joined: Ints
    visits: Ints
    customer: Codes
    start: Ints
    end: Ints
    events: Ints
    counts: dict[str, int] = field(default_factory=dict)

    def find_day(self, groups: Ints) -> Ints:
        """Find the day of each group."""
        return np.searchsorted(self.edges, groups, "right") - 1


def join_sessions(
    parts: Sequence[CodedPart],
    customers: Sequence[Codes],
    bounds: Sequence[tuple[int, int]],
    gap: int | None,
    *,
    named: bool,
) -> DaySessions:
    """Join the groups of days, which are in order, to sessions.

    Parameters
    ----------
    parts
        A part of each day.
    customers
        For each day, the numbers of its customers among those of all days.
    bounds
        Each day's first moment and that of the next.
    gap
        The longest pause in a session, ms. None: sessions are given by id.
    named
        Whether any row of the log has a customer.
    """
    edges = np.concatenate([[0], np.cumsum([len(part.customer) for part in parts])]).astype(np.int64)
    customer = _concat(
        [_look_up(places, part.customer) for part, places in zip(parts, customers, strict=True)], np.int32
    )
    events = _concat([part.lengths for part in parts], np.int64)
    start = _concat([_read_edge(part, 0) for part in parts], np.int64)
    end = _concat([_read_edge(part, -1) for part in parts], np.int64)
    leader = np.arange(edges[-1])
    visits = np.zeros(0, np.int64)
    counts = dict.fromkeys(("shared_sessions", "adopted_events", "anonymous_events"), 0)
    if gap is not None:
        linked = _join_runs(parts, customer, bounds, gap, edges, leader)
    else:
        visits, session = _find_repeated_ids(parts, edges)
        linked = visits
        if len(visits):
            counts |= _join_visits(visits, session, customer, events, leader, named=named)
    followers = linked[leader[linked] != linked]
    is_joined = np.zeros(edges[-1], np.bool_)
    is_joined[followers] = is_joined[leader[followers]] = True
    joined = np.flatnonzero(is_joined)
    _gather(joined, leader, start, end, events)
    return DaySessions(edges, leader, joined, visits, customer, start, end, events, counts)


def _concat(arrays: Sequence[NDArray[Any]], kind: Any) -> NDArray[Any]:
    return np.concatenate(arrays, dtype=kind, casting="unsafe") if arrays else np.zeros(0, kind)


def _look_up(places: Codes, codes: Codes) -> Codes:
    """The places of codes; MISSING stays."""
    return np.append(places, np.int32(MISSING))[codes]


def _read_edge(part: CodedPart, edge: int) -> Ints:
    """Read the time of each group's first (0) or last (-1) event; where there is none, of the first moment."""
    places = part.offsets[:-1] if edge == 0 else part.offsets[1:] - 1
    if part.first is None:  # a group of a given session always has an event
        return part.time[places] + np.int64(part.base)
    filled = part.lengths > 0
    times = part.first.copy()
    times[filled] = part.time[places[filled]] + np.int64(part.base)
    return times


def _join_runs(
    parts: Sequence[CodedPart], customer: Codes, bounds: Sequence[tuple[int, int]], gap: int, edges: Ints, leader: Ints
) -> Ints:
    """Join a customer's runs of different days with no longer pause between them than the gap. Returns the groups that
    may be joined."""
    first = _concat([part.first for part in parts if part.first is not None], np.int64)
    last = _concat([part.last for part in parts if part.last is not None], np.int64)
    open_: list[Ints] = []
    for part, (begin, end), edge in zip(parts, bounds, edges.tolist(), strict=False):
        if part.first is not None and part.last is not None:
            open_.append(edge + np.flatnonzero((part.first - gap < begin) | (part.last + gap >= end)))
    groups = _concat(open_, np.int64)
    groups = groups[np.lexsort([first[groups], customer[groups]])]
    before, after = groups[:-1], groups[1:]
    linked = (customer[before] == customer[after]) & (first[after] - last[before] <= gap)
    chain = np.cumsum(np.append(True, ~linked)) - 1 if len(groups) else np.zeros(0, np.int64)
    heads = groups[np.append(True, ~linked)] if len(groups) else groups
    leader[groups] = heads[chain]
    # A session stands at its first group that has an event.
    filled = groups[_count_events(parts, edges, groups) > 0]
    first_filled = np.full(len(leader), -1, np.int64)
    first_filled[leader[filled[::-1]]] = filled[::-1]
    of_chain = first_filled[leader[groups]]
    leader[groups] = np.where(of_chain >= 0, of_chain, leader[groups])
    return groups


def _count_events(parts: Sequence[CodedPart], edges: Ints, groups: Ints) -> Ints:
    lengths = _concat([part.lengths for part in parts], np.int64)
    return lengths[groups]


def _find_repeated_ids(parts: Sequence[CodedPart], edges: Ints) -> tuple[Ints, Codes]:
    """Find the groups whose session's id is of other groups too, ascending, and a number for each one's id.

    Notes
    -----
    Most ids are of one group only. A part of each hash and the group's number lie in one integer. Sorting these brings
    equal hashes together. Their ids are then compared, since several ids may share a part of a hash.
    """
    hashes = _concat([part.hashes for part in parts if part.hashes is not None], np.uint64)
    bits = np.uint64(max(1, len(hashes).bit_length()))
    packed = hashes >> bits << bits | np.arange(len(hashes), dtype=np.uint64)
    packed.sort()
    same = packed[1:] ^ packed[:-1] < np.uint64(1) << bits
    alike = np.zeros(len(packed), np.bool_)
    alike[1:] |= same
    alike[:-1] |= same
    groups = np.sort((packed[alike] & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64))
    coded = CodedTexts.of(take_ids(parts, edges, groups))
    repeated = np.bincount(coded.codes, minlength=len(coded.ids))[coded.codes] > 1
    return groups[repeated], coded.codes[repeated]


def take_ids(parts: Sequence[CodedPart], edges: Ints, groups: Ints) -> pa.ChunkedArray:
    """Take the session ids of groups, which ascend."""
    cuts = np.searchsorted(groups, edges)
    chunks = [
        part.ids.take(pa.array(groups[low:high] - edge))
        for part, low, high, edge in zip(parts, cuts[:-1], cuts[1:], edges, strict=False)
        if part.ids is not None and high > low
    ]
    return pa.chunked_array(chunks, pa.string())


def _join_visits(
    groups: Ints, session: Codes, customer: Codes, events: Ints, leader: Ints, *, named: bool
) -> dict[str, int]:
    """Join groups of one session id. Each customer of an id has a session. An event without a customer is of the id's
    only customer; if the id has several, it is in a session of nobody's."""
    shoppers = customer[groups]
    size = int(session.max()) + 1
    known = shoppers >= 0
    several = np.zeros(size, dtype=np.bool_)
    owner = np.full(size, MISSING, dtype=np.int32)
    owner[session[known]] = shoppers[known]
    several[session[known & (shoppers != owner[session])]] = True
    nameless = ~known & (owner[session] >= 0)
    adopted, anonymous = nameless & ~several[session], nameless & several[session]
    customer[groups[adopted]] = owner[session[adopted]]
    keys = session.astype(np.int64) << 32 | (customer[groups] + 1)
    _, heads, places = np.unique(keys, return_index=True, return_inverse=True)
    leader[groups] = groups[heads[places]]
    return {
        "shared_sessions": int(several.sum()),
        "adopted_events": int(events[groups[adopted]].sum()) if named else 0,
        "anonymous_events": int(events[groups[anonymous]].sum()) if named else 0,
    }


def _gather(joined: Ints, leader: Ints, start: Ints, end: Ints, events: Ints) -> None:
    """Give the session's start, end and events to the group at which it stands."""
    followers = joined[leader[joined] != joined]
    filled = followers[events[followers] > 0]
    np.minimum.at(start, leader[filled], start[filled])
    np.maximum.at(end, leader[filled], end[filled])
    np.add.at(events, leader[filled], events[filled])
    events[followers] = 0
