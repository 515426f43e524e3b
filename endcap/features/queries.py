"""Queries and targets: the one definition that evaluation, validation, samples and timing share.

A moment is the events of a session that have one time. If `order` is `sets`, nothing is known of the order within a
moment: a query ends between moments, and each distinct item of the next moment is a target. If it is `file`, each event
is a moment, in the order of the log's files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from endcap.features.sessions import Ints, Sessions
from endcap.spec.evaluation import Order, Protocol


@dataclass(frozen=True)
class Baskets:
    """Where the last moment of each of n sessions begins, if their times do not say it.

    `starts` (int64 [n]) is its first place. `begun` (int64 [n], epoch ms) is when what the session is asked for begins:
    what its customer did before that is known.
    """

    starts: Ints
    begun: Ints

    def take(self, index: Ints) -> Baskets:
        """Return those of the sessions at these positions."""
        return Baskets(self.starts[index], self.begun[index])


@dataclass(frozen=True)
class QueryTargets:
    """Pairs of a query and a target of n sessions: p predictions, after q distinct queries.

    All targets of a query are of one moment, and none is listed for another.

    Attributes
    ----------
    sessions
        [n].
    owner
        int64 [p]: the session, ascending.
    ends
        int64 [p]: events of the query, ascending within a session.
    places
        int64 [p]: where in the session the target's event stands. Within a moment the items ascend, whatever the order
        of the files.
    weights
        float64 [p]: 1 / the targets of the query, so that each query counts 1.
    begun
        int64 [n], epoch ms: when each session begins, or its basket if a customer's next basket is predicted.
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
        """The targets' events, among those of all sessions: int64 [p]."""
        return self.sessions.offsets[self.owner] + self.places

    @property
    def targets(self) -> NDArray[np.int32]:
        """The targets' items: int32 [p]."""
        return self.sessions.items[self.events]

    @cached_property
    def row(self) -> Ints:
        """Which of the distinct queries each prediction is after: int64 [p], ascending."""
        if not len(self):
            return np.zeros(0, dtype=np.int64)
        other = (np.diff(self.owner) != 0) | (np.diff(self.ends) != 0)
        return np.concatenate([[0], np.cumsum(other)]).astype(np.int64)

    @cached_property
    def first(self) -> Ints:
        """The first prediction after each distinct query: int64 [q]."""
        return np.flatnonzero(np.diff(self.row, prepend=-1))

    @property
    def number(self) -> Ints:
        """The number of each target within its query, from 0: int64 [p]."""
        return np.arange(len(self)) - self.first[self.row]

    def prefixes(self) -> Sessions:
        """Return the distinct queries, in the order of `row`: sessions [q]."""
        return self.sessions.beginnings(self.owner[self.first], self.ends[self.first])

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_] | slice) -> QueryTargets:
        """Return some of the predictions, of the same sessions; all targets of a query must be taken together."""
        taken = (self.owner[index], self.ends[index], self.places[index], self.weights[index])
        return QueryTargets(self.sessions, *taken, self.begun)


def select_targets(
    sessions: Sessions, protocol: Protocol, order: Order, baskets: Baskets | None = None
) -> QueryTargets:
    """Select what a protocol asks of sessions.

    Parameters
    ----------
    sessions
        [n].
    protocol
        `every-prefix`: each moment but a session's first is a target. Any other: a session's last moment, if it is not
        the first.
    order
        See the module.
    baskets
        Where the last moment begins, whatever the times say. None: the times decide.
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
    """Mark the events that begin a moment: bool [e]."""
    begins = np.ones(len(sessions.items), dtype=np.bool_)
    if order == "sets" and len(begins):
        begins[1:] = np.diff(sessions.times) != 0
        begins[sessions.offsets[:-1][sessions.lengths > 0]] = True
    return begins


def count_moments(sessions: Sessions, order: Order) -> Ints:
    """Count each session's moments: int64 [n]."""
    counted = np.concatenate([[0], np.cumsum(find_moments(sessions, order))])
    counts: Ints = np.diff(counted[sessions.offsets])
    return counts


def count_one_moment_sessions(sessions: Sessions, order: Order) -> int:
    """Count the sessions of several events that are one moment."""
    return int(((sessions.lengths > 1) & (count_moments(sessions, order) == 1)).sum())


def find_ends_without(sessions: Sessions, last: int, at_least: int, order: Order) -> Ints:
    """Count each session's events without its last moments: int64 [n].

    A session with fewer than `at_least` moments keeps all. `last` is the number of moments that are left out.
    """
    counted = np.concatenate([[0], np.cumsum(find_moments(sessions, order))])[sessions.offsets]
    begins = np.flatnonzero(find_moments(sessions, order))
    enough = np.diff(counted) >= at_least
    ends = sessions.lengths
    ends[enough] = begins[counted[1:][enough] - last] - sessions.offsets[:-1][enough]
    return ends


def count_equal_transitions(sessions: Sessions) -> tuple[int, int]:
    """Count the events that have the time of their session's event before, and the events that have one before."""
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
    """Select the first event of each item within each moment, by moment and item: int64."""
    ordered = events[np.lexsort((items[events], number[events]))]  # stable: of equals the earlier event is first
    again = (np.diff(number[ordered]) == 0) & (np.diff(items[ordered]) == 0)
    return ordered[np.concatenate([[True], ~again])] if len(ordered) else ordered
