"""A session's distinct items, each by its latest event; and the entries of some compressed rows."""

from __future__ import annotations

import numpy as np

from endcap.features.sessions import Ints, Sessions


def latest_places(sessions: Sessions) -> tuple[Ints, Ints, Ints]:
    """Each session's distinct items: (session, item, place of its latest event from 1), by session."""
    owner = sessions.session_of_event
    place = np.arange(len(owner)) - sessions.offsets[:-1][owner] + 1
    span = int(sessions.items.max(initial=0)) + 1
    # np.unique keeps the first of equals: turned round, that is the latest.
    _, turned = np.unique((owner * span + sessions.items)[::-1], return_index=True)
    latest = np.sort(len(owner) - 1 - turned)
    return owner[latest], sessions.items[latest].astype(np.int64), place[latest]


def ranges(starts: Ints, counts: Ints) -> Ints:
    """start, start + 1, … start + count - 1 of each, one after the other."""
    return np.arange(counts.sum()) + np.repeat(starts - np.cumsum(counts) + counts, counts)
