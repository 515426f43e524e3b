"""Where a recommender's split cuts the sessions of a dataset.

Sessions are in the order of their starts. A part is what starts in its span. Events at or after the start of a later
part are cut from the sessions of an earlier one, so that no model learns from what came later. A duration counts back
from the last event (for the test) or from the test's start (for the validation); a share is one of all sessions.
Sessions that start at the same moment stay together.

Leave-one-out cuts each session's end and no time, so events of others may be later than what a model is judged on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from endcap.features.queries import count_moments, find_ends_without
from endcap.features.sessions import Sessions, Types
from endcap.spec.evaluation import Order
from endcap.spec.split import GivenSplit, LeaveOneOutSplit, TimeSplit

Ints = NDArray[np.int64]
NEVER = np.iinfo(np.int64).max
MILLISECOND = timedelta(milliseconds=1)
LEFT_OUT = 2
"""Leave-one-out leaves the last moment of each session for the test, and the one before it for the validation."""


@dataclass(frozen=True)
class Boundaries:
    """Where the validation and the test begin, epoch ms; NEVER if there is none."""

    validation: int
    test: int


def find_boundaries(split: TimeSplit | GivenSplit | LeaveOneOutSplit, sessions: Sessions) -> Boundaries:
    """Find where the split cuts sessions that are in the order of their starts; leave-one-out cuts at no time."""
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
    """Compute where the split cuts sessions in the order of their starts.

    Parameters
    ----------
    split
        The spec's.
    sessions
        How many there are.
    start
        Returns the start of the session at a place.
    before
        Returns how many sessions start before a moment.
    after
        A moment just behind the last event.
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
    """Return the sessions that start in [start, end), without their events at or after the end."""
    starts = sessions.times[sessions.offsets[:-1]]
    first, last = np.searchsorted(starts, [start, end])
    taken = slice_sessions(sessions, int(first), int(last))
    inside = taken.times < end
    return taken if inside.all() else where(taken, inside)


def split_leave_one_out(sessions: Sessions, order: Order) -> dict[str, Sessions]:
    """Return the parts of leave-one-out, by name, cut between moments. Sessions are in time order.

    `train` lacks each session's last two moments, and `training` the last. `validation` has the sessions of `training`
    whose last moment is asked for; `test` has whole sessions whose last moment is. Sessions of fewer than three moments
    are whole in `train` and `training`, and in no other part.
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
    """Drop so many last moments of each session; sessions of fewer than three keep all."""
    ends = sessions.offsets[:-1] + find_ends_without(sessions, moments, LEFT_OUT + 1, order)
    kept = np.arange(len(sessions.items)) < np.repeat(ends, sessions.lengths)
    return sessions if kept.all() else where(sessions, kept)


def slice_sessions(sessions: Sessions, first: int, last: int) -> Sessions:
    """Return sessions first … last - 1, sharing the arrays of all."""
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
    """Keep some events of the sessions (`kept`, bool [events]); a session may be left without any.

    Notes
    -----
    A cut at a time takes events of few sessions, which lie together. What lies before and behind them is copied as it
    is, which takes a fraction of the time of choosing among all events.
    """
    dropped = np.flatnonzero(~kept)
    first, last = (int(dropped[0]), int(dropped[-1]) + 1) if len(dropped) else (0, 0)
    middle = kept[first:last]

    def choose(values: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([values[:first], values[first:last][middle], values[last:]])

    left = np.concatenate([[0], np.cumsum(middle)])
    offsets = np.minimum(sessions.offsets, first) + np.maximum(sessions.offsets - last, 0)
    offsets += left[np.clip(sessions.offsets - first, 0, last - first)]
    return Sessions(
        choose(sessions.items),
        choose(sessions.times),
        offsets,
        sessions.customers,
        {name: choose(values) for name, values in sessions.features.items()},
        None if sessions.types is None else Types(sessions.types.names, choose(sessions.types.codes)),
    )
