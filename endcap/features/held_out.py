"""What of a part can be judged: the sessions of the validation or the test that have something to predict."""

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
from endcap.spec.recommender import LeaveOneOutSplit
from endcap.spec.settings import ViewSettings
from endcap.spec.shop import EventFeature

MIN_EVALUATED = 2
"""A session of fewer events, moments or, of baskets, distinct items has nothing to predict."""
PARTS = ("validation", "test")
Counts = dict[str, int]


@dataclass(frozen=True)
class HeldOutPart:
    """Sessions as models are asked about them; baskets: of the protocol `basket`, else None.

    counts: `sessions` and `events` of the log that are judged; `unseen_events`, of items that the vocabulary lacks;
    `transitions`, the neighbouring events of what was left of sessions, and `equal_times`, those of one time; what was
    dropped then, for one reason each: `short` sessions, of too few events, or those of `one_moment`; of baskets those
    that are `anonymous`, and the `first` ones of customers; each as `…_sessions` and `…_events`.
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
    """The sessions of one of `PARTS` without what cannot be judged.

    raw: in the vocabulary's indices, unknown items as `UNKNOWN`. history: the sessions of some customers (int32), the
    part's own and all others; called where a customer's next basket is predicted.
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
    """Counts of a part, as sessions are dropped from it."""

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
    """Whole histories, whose last moment is judged: where none of its items is known, nothing is judged instead, since
    the moment before it was trained on."""
    known = raw.items != UNKNOWN
    before = find_ends_without(raw, 1, MIN_EVALUATED, settings.order)
    left = _remove_events(raw, known, features)
    counter = _DropCounter({"unseen_events": int(np.count_nonzero(~known))})
    left = counter.drop("short", left, left.lengths <= before)
    counter.count_transitions(left)
    return counter.rest(left, left, None)


def _remove_events(sessions: Sessions, kept: NDArray[np.bool_], features: Sequence[EventFeature]) -> Sessions:
    """The sessions less some events; features are then evaluated anew, as they will be on a request without them."""
    if kept.all():
        return sessions
    left = where(sessions, kept)
    return replace(left, features=compute_features(features, left))


def _count_distinct_items(sessions: Sessions) -> NDArray[np.int64]:
    """How many distinct items each session has: int64 [n]."""
    width = np.int64(sessions.items.max(initial=0) + 1)
    pairs = np.unique(sessions.session_of_event * width + sessions.items)
    return np.bincount(pairs // width, minlength=len(sessions))
