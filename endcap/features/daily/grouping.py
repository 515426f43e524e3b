"""The groups of a day's events: of a session's id and a customer, or of a customer's run without a long pause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from endcap.features.daily.arrays import (
    MISSING,
    CodedTexts,
    Codes,
    Flags,
    Ints,
    find_first,
    find_ties,
    hash_texts,
    sort_by_texts,
    sort_stably,
)
from endcap.features.daily.dictionaries import merge_ids

NOBODY = ""
"""Sorts where a customer's id would."""


@dataclass(frozen=True)
class Activity:
    """Moments at which customers did something else than an event. time: epoch ms."""

    customer: CodedTexts
    time: Ints

    def take(self, rows: Flags) -> Activity:
        """Return the moments under a mask."""
        return Activity(self.customer.take(rows), self.time[rows])


@dataclass(frozen=True)
class Groups:
    """Groups in their final order. of_event: the group of each event. The rest as in `CodedPart`."""

    of_event: Ints
    customers: pa.Array
    customer: Codes
    ids: pa.Array | None = None
    hashes: NDArray[np.uint64] | None = None
    first: Ints | None = None
    last: Ints | None = None
    share_sessions: bool = False


def group_by_session(session: CodedTexts, customer: CodedTexts, time: Ints) -> Groups:
    """Group rows, which are in the order of events, by session and customer."""
    owner = np.full(len(session.ids), MISSING, dtype=np.int32)
    owner[session.codes] = customer.codes
    groups = session.codes.astype(np.int64)
    sessions, owners = np.arange(len(session.ids)), owner
    several = customer.codes != owner[session.codes]
    if several.any():
        shared = np.zeros(len(session.ids), dtype=np.bool_)
        shared[session.codes[several]] = True
        rows = np.flatnonzero(shared[session.codes])
        width = len(customer.ids) + 1
        pairs, places = np.unique(groups[rows] * width + customer.codes[rows] + 1, return_inverse=True)
        groups[rows] = len(session.ids) + places
        sessions = np.concatenate([sessions, pairs // width])
        owners = np.concatenate([owner, pairs % width - 1]).astype(np.int32)
    start = _find_starts(groups, len(sessions), time)
    used = np.flatnonzero(start < len(time))
    known = customer.compact()
    renumbered = np.full(len(customer.ids) + 1, MISSING, dtype=np.int32)
    renumbered[customer.codes] = known.codes
    owners = renumbered[owners]
    order = used[sort_stably(start[used])]

    def name(places: Ints) -> list[pa.Array]:
        return [session.ids.take(sessions[places]), take_names(known.ids, owners[places])]

    order = _sort_ties(order, time[start[order]], name)
    ids = session.ids.take(sessions[order])
    return Groups(
        of_event=_invert(order, len(sessions))[groups],
        customers=known.ids,
        customer=owners[order],
        ids=ids,
        hashes=hash_texts(ids),
        share_sessions=bool(several.any()),
    )


def group_by_gap(
    customer: CodedTexts, time: Ints, activity: Sequence[Activity], gap: int, day: tuple[int, int]
) -> Groups:
    """Group rows, which are in the order of events and all have a customer, by runs of their customers' moments.

    A run without an event counts only if it can join runs of the days before and after. gap: ms.
    """
    known = merge_ids([customer.ids, *(each.customer.ids for each in activity)])
    codes = [
        known.places[0][customer.codes],
        *(p[a.customer.codes] for p, a in zip(known.places[1:], activity, strict=True)),
    ]
    shoppers, when = np.concatenate(codes), np.concatenate([time, *(each.time for each in activity)])
    order = sort_stably(when - when.min()) if activity and len(when) else np.arange(len(when))
    order = order[sort_stably(shoppers[order])]
    shoppers, when = shoppers[order], when[order]
    cut = np.ones(len(shoppers), dtype=np.bool_)
    cut[1:] = (shoppers[1:] != shoppers[:-1]) | (np.diff(when) > gap)
    run = np.empty(len(shoppers), dtype=np.int64)
    run[order] = np.cumsum(cut) - 1
    of_event = run[: len(time)]
    begins = np.flatnonzero(cut)
    first, last, owner = when[begins], when[np.append(begins, len(when))[1:] - 1], shoppers[begins]
    events = np.bincount(of_event, minlength=len(begins))
    start = _find_starts(of_event, len(begins), time)
    used = np.flatnonzero((events > 0) | ((first - gap < day[0]) & (last + gap >= day[1])))
    used = used[sort_stably(start[used])]  # a run without an event starts behind all rows
    filled = used[: int((events > 0).sum())]

    def name(places: Ints) -> list[pa.Array]:
        return [pc.binary_join_element_wise(known.ids.take(owner[places]), "@", "")]

    used[: len(filled)] = _sort_ties(filled, time[start[filled]], name)
    owners = CodedTexts(owner[used], known.ids).compact()
    return Groups(
        of_event=_invert(used, len(begins))[of_event],
        customers=owners.ids,
        customer=owners.codes,
        first=first[used],
        last=last[used],
    )


def take_names(ids: pa.Array, codes: NDArray[Any]) -> pa.Array:
    """Return the id of each code; NOBODY where it is MISSING."""
    if not (codes < 0).any():
        return ids.take(pa.array(codes))
    return ids.take(pa.array(codes, mask=codes < 0)).fill_null(NOBODY)


def _find_starts(groups: Ints, size: int, time: Ints) -> Ints:
    """Find the first row of the moment at which each group starts: equal where groups start together."""
    first = find_first(groups, size)
    if not len(time):
        return first
    moment = np.append(
        np.maximum.accumulate(np.where(np.diff(time, prepend=time[0] - 1) > 0, np.arange(len(time)), 0)), len(time)
    )
    return moment[first]


def _sort_ties(order: Ints, start: Ints, name: Any) -> Ints:
    """Sort groups that start together by their texts, which `name` gives."""
    tied, runs = find_ties(start)
    if not tied.any():
        return order
    places = np.flatnonzero(tied)
    order = order.copy()
    order[places] = order[places[sort_by_texts(runs[places], name(order[places]))]]
    return order


def _invert(order: Ints, size: int) -> Ints:
    places = np.zeros(size, dtype=np.int64)
    places[order] = np.arange(len(order))
    return places
