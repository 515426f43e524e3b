"""What is predicted of sessions: the one definition that evaluation, validation, samples and timing share.

A moment is the events of a session that have one time. Where `order` is `sets`, nothing is known of the order within a
moment: a prefix ends between moments, and each distinct item of the next moment is a prediction of its own. Where it is
`file`, each event is a moment, in the order of the log's files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from endcap.features.sessions import Ints, Sessions
from endcap.spec.recommender import Order, Protocol


@dataclass(frozen=True)
class Baskets:
    """Of `n` sessions what is their last moment, where their times do not say it.

    starts: int64 [n], the place at which it begins. begun: int64 [n], epoch ms, when what the session is asked for
    begins: its customer's doings before that are known.
    """

    starts: Ints
    begun: Ints

    def take(self, index: Ints) -> Baskets:
        """Those of the sessions at these positions."""
        return Baskets(self.starts[index], self.begun[index])


@dataclass(frozen=True)
class QueryTargets:
    """Predictions of `n` sessions. Those of one session and prefix are of one moment: none is listed for another.

    sessions: [n]. owner: int64 [p], the session, ascending. ends: int64 [p], events of the prefix, ascending within a
    session. places: int64 [p], where in the session the event stands that is predicted; within a moment their items
    ascend, whatever the order of the files. weights: float64 [p], 1 / the items of the moment, so that each prefix
    counts 1. begun: int64 [n], epoch ms, when each session begins; where a customer's next basket is predicted, when
    that begins.
    """

    sessions: Sessions
    owner: Ints
    ends: Ints
    places: Ints
    weights: NDArray[np.float64]
    begun: Ints

    def __len__(self) -> int:
        return len(self.owner)

    @property
    def events(self) -> Ints:
        """The events that are predicted, among those of all sessions: int64 [p]."""
        return self.sessions.offsets[self.owner] + self.places

    @property
    def targets(self) -> NDArray[np.int32]:
        """The items that are predicted: int32 [p]."""
        return self.sessions.items[self.events]

    @cached_property
    def row(self) -> Ints:
        """Which of the distinct prefixes each prediction is after: int64 [p], ascending."""
        if not len(self):
            return np.zeros(0, dtype=np.int64)
        other = (np.diff(self.owner) != 0) | (np.diff(self.ends) != 0)
        return np.concatenate([[0], np.cumsum(other)]).astype(np.int64)

    @cached_property
    def first(self) -> Ints:
        """The first prediction after each distinct prefix: int64 [q]."""
        return np.flatnonzero(np.diff(self.row, prepend=-1))

    @property
    def number(self) -> Ints:
        """Which of its moment each prediction is, from 0: int64 [p]."""
        return np.arange(len(self)) - self.first[self.row]

    def prefixes(self) -> Sessions:
        """The distinct prefixes, in the order of `row`: sessions [q]."""
        return self.sessions.beginnings(self.owner[self.first], self.ends[self.first])

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_] | slice) -> QueryTargets:
        """Some of the predictions, of the same sessions; moments must be taken whole."""
        taken = (self.owner[index], self.ends[index], self.places[index], self.weights[index])
        return QueryTargets(self.sessions, *taken, self.begun)


def select_targets(
    sessions: Sessions, protocol: Protocol, order: Order, baskets: Baskets | None = None
) -> QueryTargets:
    """What a protocol asks of sessions.

    protocol: every-prefix: each moment but a session's first; else its last moment, if it is not the first. baskets:
    where the last moment begins, whatever the times; None: by the times.
    """
    begins = find_moments(sessions, order) if baskets is None else _mark_begins(sessions, baskets.starts)
    owners = sessions.session_of_event
    number = np.cumsum(begins) - 1  # of each event's moment, over all sessions
    begin = np.flatnonzero(begins)[number] - sessions.offsets[owners]
    is_target = begin > 0
    if protocol != "every-prefix":
        is_target &= number == number[sessions.offsets[1:][owners] - 1]
    events = np.flatnonzero(is_target)
    weights = np.ones(len(events))
    if not begins.all():
        events = _select_distinct(events, number, sessions.items)
        weights = 1.0 / np.bincount(number[events], minlength=number[-1] + 1)[number[events]]
    owner = owners[events]
    places = events - sessions.offsets[owner]
    begun = sessions.starts if baskets is None else baskets.begun
    return QueryTargets(sessions, owner, begin[events], places, weights, begun)


def find_moments(sessions: Sessions, order: Order) -> NDArray[np.bool_]:
    """Which events begin a moment: bool [e]."""
    begins = np.ones(len(sessions.items), dtype=np.bool_)
    if order == "sets" and len(begins):
        begins[1:] = np.diff(sessions.times) != 0
        begins[sessions.offsets[:-1][sessions.lengths > 0]] = True
    return begins


def count_moments(sessions: Sessions, order: Order) -> Ints:
    """How many moments each session has: int64 [n]."""
    counted = np.concatenate([[0], np.cumsum(find_moments(sessions, order))])
    counts: Ints = np.diff(counted[sessions.offsets])
    return counts


def count_one_moment_sessions(sessions: Sessions, order: Order) -> int:
    """How many sessions of several events are one moment."""
    return int(((sessions.lengths > 1) & (count_moments(sessions, order) == 1)).sum())


def find_ends_without(sessions: Sessions, last: int, at_least: int, order: Order) -> Ints:
    """How many events each session has without its last moments, of which it keeps all where it has too few: int64 [n].

    last: how many moments are left out. at_least: moments that a session must have for that.
    """
    counted = np.concatenate([[0], np.cumsum(find_moments(sessions, order))])[sessions.offsets]
    begins = np.flatnonzero(find_moments(sessions, order))
    enough = np.diff(counted) >= at_least
    ends = sessions.lengths
    ends[enough] = begins[counted[1:][enough] - last] - sessions.offsets[:-1][enough]
    return ends


def count_equal_transitions(sessions: Sessions) -> tuple[int, int]:
    """How many events have the time of their session's event before, and how many have one before."""
    inside = np.ones(len(sessions.items), dtype=np.bool_)
    inside[sessions.offsets[:-1][sessions.lengths > 0]] = False
    return int((inside & ~find_moments(sessions, "sets")).sum()), int(inside.sum())


def _mark_begins(sessions: Sessions, starts: Ints) -> NDArray[np.bool_]:
    begins = np.zeros(len(sessions.items), dtype=np.bool_)
    filled = sessions.lengths > 0
    begins[sessions.offsets[:-1][filled]] = True
    begins[(sessions.offsets[:-1] + starts)[filled]] = True
    return begins


def _select_distinct(events: Ints, number: Ints, items: NDArray[np.int32]) -> Ints:
    """Of some events the first of each item within each moment, by moment and item: int64."""
    ordered = events[np.lexsort((items[events], number[events]))]  # stable: of equals the earlier event is first
    again = (np.diff(number[ordered]) == 0) & (np.diff(items[ordered]) == 0)
    return ordered[np.concatenate([[True], ~again])] if len(ordered) else ordered
