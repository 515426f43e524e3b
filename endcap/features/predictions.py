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
class Predictions:
    """Predictions of `n` sessions. Those of one session and prefix are of one moment: none is listed for another.

    sessions: [n]. owner: int64 [p], the session, ascending. ends: int64 [p], events of the prefix, ascending within a
    session. places: int64 [p], where in the session the event stands that is predicted. weights: float64 [p], 1 / the
    items of the moment, so that each prefix counts 1.
    """

    sessions: Sessions
    owner: Ints
    ends: Ints
    places: Ints
    weights: NDArray[np.float64]

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

    def prefixes(self) -> Sessions:
        """The distinct prefixes, in the order of `row`: sessions [q]."""
        return self.sessions.beginnings(self.owner[self.first], self.ends[self.first])

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Predictions:
        """Some of the predictions, of the same sessions; moments must be taken whole."""
        return Predictions(self.sessions, self.owner[index], self.ends[index], self.places[index], self.weights[index])


def predictions_of(sessions: Sessions, protocol: Protocol, order: Order, starts: Ints | None = None) -> Predictions:
    """What a protocol asks of sessions.

    protocol: every-prefix: each moment but a session's first; else its last moment, if it is not the first. starts:
    int64 [n], the place at which the last moment of each session begins, whatever its times; None: by its times.
    """
    begins = moments(sessions, order) if starts is None else _begins(sessions, starts)
    owners = sessions.session_of_event
    number = np.cumsum(begins) - 1  # of each event's moment, over all sessions
    begin = np.flatnonzero(begins)[number] - sessions.offsets[owners]
    wanted = begin > 0
    if protocol != "every-prefix":
        wanted &= number == number[sessions.offsets[1:][owners] - 1]
    wanted &= _first_of_moment(number, sessions.items)
    events = np.flatnonzero(wanted)
    sizes = np.bincount(number[events], minlength=number.max(initial=-1) + 1)
    return Predictions(
        sessions,
        owners[events],
        begin[events],
        events - sessions.offsets[owners[events]],
        1.0 / sizes[number[events]],
    )


def moments(sessions: Sessions, order: Order) -> NDArray[np.bool_]:
    """Which events begin a moment: bool [e]."""
    begins = np.ones(len(sessions.items), dtype=np.bool_)
    if order == "sets" and len(begins):
        begins[1:] = np.diff(sessions.times) != 0
        begins[sessions.offsets[:-1][sessions.lengths > 0]] = True
    return begins


def moment_counts(sessions: Sessions, order: Order) -> Ints:
    """How many moments each session has: int64 [n]."""
    counted = np.concatenate([[0], np.cumsum(moments(sessions, order))])
    counts: Ints = counted[sessions.offsets[1:]] - counted[sessions.offsets[:-1]]
    return counts


def equal_transitions(sessions: Sessions) -> tuple[int, int]:
    """How many events have the time of their session's event before, and how many have one before."""
    inside = np.ones(len(sessions.items), dtype=np.bool_)
    inside[sessions.offsets[:-1][sessions.lengths > 0]] = False
    return int((inside & ~moments(sessions, "sets")).sum()), int(inside.sum())


def _begins(sessions: Sessions, starts: Ints) -> NDArray[np.bool_]:
    begins = np.zeros(len(sessions.items), dtype=np.bool_)
    filled = sessions.lengths > 0
    begins[sessions.offsets[:-1][filled]] = True
    begins[(sessions.offsets[:-1] + starts)[filled]] = True
    return begins


def _first_of_moment(number: Ints, items: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which events are the first of their item within their moment: bool [e]."""
    first = np.ones(len(items), dtype=np.bool_)
    order = np.lexsort((items, number))  # stable: of equals the earlier event is first
    same = (np.diff(number[order]) == 0) & (np.diff(items[order]) == 0)
    first[order[1:]] = ~same
    return first
