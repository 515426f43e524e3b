"""Sessions as baskets, whose items have no order: one item is predicted from the others, or all from earlier baskets.

Both make new sessions for models to be asked about: the last moment of each is predicted, and `Baskets` says where it
begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from endcap.features.event_features import compute_features
from endcap.features.queries import Baskets
from endcap.features.sessions import Sessions
from endcap.spec.event_features import EventFeature

HIDDEN = 1
"""Items of each basket that are hidden."""


def hide_one_item(
    sessions: Sessions, features: Sequence[EventFeature], seed: Sequence[int]
) -> tuple[Sessions, Baskets]:
    """Put each session's distinct items in a random order; the last item is to be predicted from the others.

    Neither the hidden item nor the order of the others depends on the order of events: items are sorted first, and then
    drawn by the seed. The session's times stay in place, so that they ascend. An item's first event decides its type.
    Sessions must have two distinct items.
    """
    owners = sessions.session_of_event
    by_item = np.lexsort((sessions.items, owners))  # stable: an item's first event comes first
    again = (np.diff(owners[by_item]) == 0) & (np.diff(sessions.items[by_item]) == 0)
    kept = by_item[np.concatenate([[True], ~again])] if len(by_item) else by_item
    drawn = kept[np.lexsort((np.random.default_rng(seed).random(len(kept)), owners[kept]))]
    lengths = np.bincount(owners[kept], minlength=len(sessions))
    basket = Sessions(
        sessions.items[drawn],
        sessions.times[np.sort(kept)],
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        sessions.customers,
        {},
        None if sessions.types is None else sessions.types[drawn],
    )
    return replace(basket, features=compute_features(features, basket)), Baskets(lengths - HIDDEN, sessions.starts)


def keep_customers(sessions: Sessions, customers: NDArray[np.int32]) -> Sessions:
    """Return the sessions of some customers."""
    return sessions.take(np.isin(sessions.customers, customers))


def append_to_history(
    sessions: Sessions, history: Sessions, features: Sequence[EventFeature]
) -> tuple[Sessions, Baskets]:
    """Put each session behind all that its customer did before it began; it is to be predicted from that.

    Parameters
    ----------
    sessions
        Each must have a customer. A session without anything before it starts at 0.
    history
        All sessions of these customers in the order of their starts, with or without the given ones.
    features
        Event features, which are evaluated anew over the whole.
    """
    owners = np.repeat(history.customers, history.lengths)
    order = np.lexsort((history.times, owners))  # stable: equal times stay in the order of the log
    # A customer and a time as one number that ascends with both.
    clock = np.unique(history.times)
    width = np.int64(len(clock) + 1)
    keys = owners[order] * width + np.searchsorted(clock, history.times[order])
    customers = sessions.customers.astype(np.int64)
    begin = np.searchsorted(keys, customers * width)
    counts = np.searchsorted(keys, customers * width + np.searchsorted(clock, sessions.starts)) - begin
    lengths = counts + sessions.lengths
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    # Two runs of events a session: what came before, and then its own, which lie behind all others.
    runs = np.column_stack([begin, len(order) + sessions.offsets[:-1]]).ravel()
    sizes = np.column_stack([counts, sessions.lengths]).ravel()
    events = np.arange(offsets[-1]) + np.repeat(runs - np.cumsum(sizes) + sizes, sizes)
    both = Sessions.concat([replace(history, features={}), replace(sessions, features={})])
    events = np.concatenate([order, len(order) + np.arange(len(sessions.items))])[events]
    extended = Sessions(
        both.items[events],
        both.times[events],
        offsets,
        sessions.customers,
        {},
        None if both.types is None else both.types[events],
    )
    extended = replace(extended, features=compute_features(features, extended))
    return extended, Baskets(counts, sessions.starts)
