"""Where a recommender's split cuts the sessions of a dataset.

Sessions lie in the order of their starts. A part is what starts in its span, and an event is never used to learn
what came before it: events at or after the start of a later part are cut from the sessions of an earlier one.
A duration counts back from the last event (for the test) or from the test's start (for the validation); a share is
one of all sessions. Sessions that start at the same moment stay together.

Leave-one-out cuts no time but each session's end, so that events of others may be later than what a model is judged on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from endcap.features.queries import count_moments, find_ends_without
from endcap.features.sessions import Sessions
from endcap.spec.recommender import GivenSplit, LeaveOneOutSplit, Order, TimeSplit

Ints = NDArray[np.int64]
NEVER = np.iinfo(np.int64).max
MILLISECOND = timedelta(milliseconds=1)
LEFT_OUT = 2
"""Of each session the last moment is left out for the test and the one before it for the validation."""


@dataclass(frozen=True)
class Boundaries:
    """Where the validation and the test begin, epoch ms; NEVER where there is none."""

    validation: int
    test: int


def find_boundaries(split: TimeSplit | GivenSplit | LeaveOneOutSplit, sessions: Sessions) -> Boundaries:
    """Where the split cuts sessions that are in the order of their starts; leave-one-out cuts at no time."""
    if isinstance(split, LeaveOneOutSplit) or not len(sessions):
        return Boundaries(NEVER, NEVER)
    starts = sessions.times[sessions.offsets[:-1]]
    return compute_boundaries(
        split,
        len(starts),
        lambda place: int(starts[place]),
        lambda moment: int(np.searchsorted(starts, moment)),
        int(sessions.times.max()) + 1,
    )


def compute_boundaries(
    split: TimeSplit | GivenSplit, sessions: int, start: Callable[[int], int], before: Callable[[int], int], after: int
) -> Boundaries:
    """Where the split cuts so many sessions in the order of their starts.

    start: of the session at a place; before: how many start before a moment; after: just behind the last event.
    """

    def begin(part: timedelta | float, earlier: int, end: int) -> int:
        """Where a part begins that reaches to `end`, out of so many sessions before it."""
        if isinstance(part, timedelta):
            return end - part // MILLISECOND
        taken = min(round(part * sessions), earlier)
        return start(earlier - taken) if taken else end

    test = begin(split.test, sessions, after) if isinstance(split, TimeSplit) else NEVER
    return Boundaries(begin(split.validation, before(test), min(test, after)), test)


def select_between(sessions: Sessions, start: int, end: int) -> Sessions:
    """The sessions that start in [start, end), less their events at or after the end."""
    starts = sessions.times[sessions.offsets[:-1]]
    first, last = np.searchsorted(starts, [start, end])
    taken = slice_sessions(sessions, int(first), int(last))
    inside = taken.times < end
    return taken if inside.all() else where(taken, inside)


def split_leave_one_out(sessions: Sessions, order: Order) -> dict[str, Sessions]:
    """The parts of leave-one-out, by name, cut between moments. Sessions are in time order.

    train: all but the last two moments; training: all but the last; validation: the sessions of `training` whose last
    moment is asked for; test: whole sessions whose last moment is. Sessions of fewer than three moments are in train
    and training whole, and in no other part.
    """
    enough = count_moments(sessions, order) > LEFT_OUT
    training = drop_last_moments(sessions, 1, order)
    return {
        "train": drop_last_moments(sessions, LEFT_OUT, order),
        "training": training,
        "validation": training.take(enough),
        "test": sessions.take(enough),
    }


def drop_last_moments(sessions: Sessions, moments: int, order: Order) -> Sessions:
    """Sessions without so many last moments, of which those of fewer than three keep all."""
    ends = sessions.offsets[:-1] + find_ends_without(sessions, moments, LEFT_OUT + 1, order)
    kept = np.arange(len(sessions.items)) < np.repeat(ends, sessions.lengths)
    return sessions if kept.all() else where(sessions, kept)


def slice_sessions(sessions: Sessions, first: int, last: int) -> Sessions:
    """Sessions first … last - 1, sharing the arrays of all."""
    begin, end = sessions.offsets[first], sessions.offsets[last]
    return Sessions(
        sessions.items[begin:end],
        sessions.times[begin:end],
        sessions.offsets[first : last + 1] - begin,
        sessions.customers[first:last],
        {name: values[begin:end] for name, values in sessions.features.items()},
        None if sessions.types is None else sessions.types[begin:end],
    )


def where(sessions: Sessions, kept: NDArray[np.bool_]) -> Sessions:
    """The sessions less the events that are not kept (bool [events]); one may be left without any."""
    offsets = np.concatenate([[0], np.cumsum(kept)])[sessions.offsets]
    features = {name: values[kept] for name, values in sessions.features.items()}
    types = None if sessions.types is None else sessions.types[kept]
    return Sessions(sessions.items[kept], sessions.times[kept], offsets, sessions.customers, features, types)
