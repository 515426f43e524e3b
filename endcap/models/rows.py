"""Rows of sessions: their distinct items, the entries of some rows, and runs of rows that fit into memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from endcap.features.sessions import Ints, Sessions


def find_latest_places(sessions: Sessions) -> tuple[Ints, Ints, Ints]:
    """Return each session's distinct items as (session, item, place of its latest event from 1), by session: int64
    each.
    """
    owner = sessions.session_of_event
    place = np.arange(len(owner)) - sessions.offsets[:-1][owner] + 1
    span = int(sessions.items.max(initial=0)) + 1
    # np.unique keeps the first of equals: turned round, that is the latest.
    _, turned = np.unique((owner * span + sessions.items)[::-1], return_index=True)
    latest = np.sort(len(owner) - 1 - turned)
    return owner[latest], sessions.items[latest].astype(np.int64), place[latest]


def expand_ranges(starts: Ints, counts: Ints) -> Ints:
    """Return start, start + 1, … start + count - 1 of each range, one after the other.

    Parameters
    ----------
    starts, counts
        int64 [n] each.
    """
    return np.arange(counts.sum()) + np.repeat(starts - np.cumsum(counts) + counts, counts)


def split_runs(loads: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Split rows into runs (first, last + 1) with a load of about 1 each; a row with a larger load is a run alone."""
    if not len(loads):
        return []
    edges = np.flatnonzero(np.diff(np.floor(np.cumsum(loads)), append=np.inf)) + 1
    return list(zip([0, *edges[:-1].tolist()], edges.tolist(), strict=True))
