"""Held-out sessions: those of the validation or the test that have something to predict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from endcap.features.baskets import append_to_history, hide_one_item
from endcap.features.event_features import compute_features
from endcap.features.queries import Baskets, count_equal_transitions, count_moments, find_ends_without
from endcap.features.sessions import Sessions
from endcap.features.split import where
from endcap.features.vocabulary import UNKNOWN
from endcap.spec.event_features import EventFeature
from endcap.spec.settings import ViewSettings
from endcap.spec.split import LeaveOneOutSplit

MIN_EVALUATED = 2
"""A session with fewer events, moments or, in a basket, distinct items has nothing to predict."""
PARTS = ("validation", "test")
Counts = dict[str, int]


@dataclass(frozen=True)
class HeldOutPart:
    """Sessions as models are asked about them; `baskets` is there for the protocol `basket` only.

    `counts` has `sessions` and `events` that are judged; `unseen_events`, of items that the vocabulary lacks;
    `transitions`, the neighbouring events of what was left, and `equal_times`, those of one time. Sessions are dropped
    for one reason each: `short`, `one_moment`, or for baskets `anonymous` and `first`; each reason has `…_sessions` and
    `…_events`.
    """

    sessions: Sessions
    baskets: Baskets | None
    counts: Counts


def prepare_held_out(
    raw: Sessions,
    settings: ViewSettings,
    features: Sequence[EventFeature],
    part: str,
    history: Callable[[NDArray[np.int32]], Sessions],
) -> HeldOutPart:
    """Prepare the sessions of one of `PARTS`, without those that cannot be judged.

    Parameters
    ----------
    raw
        In the vocabulary's indices, unknown items as `UNKNOWN`.
    settings
        Of the view.
    features
        Event features, which are evaluated anew if events are dropped.
    part
        `validation` or `test`.
    history
        Returns the sessions of some customers (int32), the part's own and all others. It is called if a customer's next
        basket is predicted.
    """
    if isinstance(settings.split, LeaveOneOutSplit):
        return _prepare_leave_one_out(raw, settings, features)
    known = raw.items != UNKNOWN
    left = _remove_events(raw, known, features)
    counter = _DropCounter({"unseen_events": int(np.count_nonzero(~known))})
    if settings.basket is None:
        left = counter.drop("short", left, left.lengths < MIN_EVALUATED)
        counter.count_transitions(left)
        left = counter.drop("one_moment", left, count_moments(left, settings.order) < MIN_EVALUATED)
        return counter.rest(left, left, None)
    if settings.basket == "complete":
        left = counter.drop("short", left, _count_distinct_items(left) < MIN_EVALUATED)
        counter.count_transitions(left)
        return counter.rest(left, *hide_one_item(left, features, (settings.seed, PARTS.index(part))))
    left = counter.drop("short", left, left.lengths < 1)
    counter.count_transitions(left)
    left = counter.drop("anonymous", left, left.customers == UNKNOWN)
    history_sessions = history(np.unique(left.customers))
    extended, baskets = append_to_history(left, where(history_sessions, history_sessions.items != UNKNOWN), features)
    first = baskets.starts == 0
    left = counter.drop("first", left, first)
    kept = np.flatnonzero(~first)
    return counter.rest(left, extended.take(kept), baskets.take(kept))


class _DropCounter:
    """Counts a part's sessions and events as they are dropped."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def drop(self, reason: str, sessions: Sessions, dropped: NDArray[np.bool_]) -> Sessions:
        kept = sessions.take(~dropped) if dropped.any() else sessions
        self._counts[f"{reason}_sessions"] = len(sessions) - len(kept)
        self._counts[f"{reason}_events"] = len(sessions.items) - len(kept.items)
        return kept

    def count_transitions(self, sessions: Sessions) -> None:
        self._counts["equal_times"], self._counts["transitions"] = count_equal_transitions(sessions)

    def rest(self, left: Sessions, queried: Sessions, baskets: Baskets | None) -> HeldOutPart:
        return HeldOutPart(queried, baskets, {"sessions": len(left), "events": len(left.items), **self._counts})


def _prepare_leave_one_out(raw: Sessions, settings: ViewSettings, features: Sequence[EventFeature]) -> HeldOutPart:
    """Prepare whole histories, whose last moment is judged.

    If none of its items is known, nothing is judged instead, because the moment before it was trained on.
    """
    known = raw.items != UNKNOWN
    before = find_ends_without(raw, 1, MIN_EVALUATED, settings.order)
    left = _remove_events(raw, known, features)
    counter = _DropCounter({"unseen_events": int(np.count_nonzero(~known))})
    left = counter.drop("short", left, left.lengths <= before)
    counter.count_transitions(left)
    return counter.rest(left, left, None)


def _remove_events(sessions: Sessions, kept: NDArray[np.bool_], features: Sequence[EventFeature]) -> Sessions:
    """Remove events from sessions; features are evaluated anew, as they would be for a request without these events."""
    if kept.all():
        return sessions
    left = where(sessions, kept)
    return replace(left, features=compute_features(features, left))


def _count_distinct_items(sessions: Sessions) -> NDArray[np.int64]:
    """Count the distinct items of each session: int64 [n]."""
    width = np.int64(sessions.items.max(initial=0) + 1)
    pairs = np.unique(sessions.session_of_event * width + sessions.items)
    return np.bincount(pairs // width, minlength=len(sessions))
