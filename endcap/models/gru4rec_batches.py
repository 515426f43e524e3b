"""Sessions side by side: which events a recurrent network sees at each step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from endcap.features.sessions import Ints, Sessions


@dataclass(frozen=True)
class Steps:
    """Step t is entries starts[t]:starts[t+1]. Its l-th entry is lane l's; lanes are sorted by length, longest first,
    so that the lanes still running are always the first ones.

    events: int64 [e], positions in the sessions' flat arrays. fresh: bool [e], whether the entry begins a session.
    starts: int64 [steps + 1].
    """

    events: Ints
    fresh: NDArray[np.bool_]
    starts: Ints

    def __len__(self) -> int:
        return len(self.starts) - 1


@dataclass(frozen=True)
class Pieces:
    """What is trained on: runs of events that are each followed by another event of their session.

    first: int64 [p], position of a piece's first event. lengths: int64 [p], at least 1.
    """

    first: Ints
    lengths: Ints

    @classmethod
    def of(cls, sessions: Sessions, longest: int) -> Pieces:
        """Every event but each session's last; sessions with more than `longest` of them in several pieces."""
        transitions = np.maximum(sessions.lengths - 1, 0)
        counts = -(-transitions // longest)
        session = np.repeat(np.arange(len(sessions)), counts)
        number = np.arange(len(session)) - np.repeat(np.cumsum(counts) - counts, counts)
        begin = number * longest
        return cls(sessions.offsets[:-1][session] + begin, np.minimum(transitions[session] - begin, longest))


def shuffled(pieces: Pieces, lanes: int, rng: np.random.Generator) -> Steps:
    """All pieces in random order on at most `lanes` lanes of about equal length, one piece after the other."""
    order = rng.permutation(len(pieces.lengths))
    lengths = pieces.lengths[order]
    total = int(lengths.sum())
    begin = np.cumsum(lengths) - lengths
    # A piece goes to the lane in whose share of the whole stream it begins; shares in which none begins fall out.
    _, lane = np.unique(begin * lanes // max(total, 1), return_inverse=True)
    events = np.arange(total) + np.repeat(pieces.first[order] - begin, lengths)
    fresh = np.zeros(total, dtype=np.bool_)
    fresh[begin] = True
    return _interleave(events, fresh, np.bincount(lane, lengths).astype(np.int64))[0]


def side_by_side(sessions: Sessions) -> tuple[Steps, Ints]:
    """Each session on a lane of its own; also which lane: int64 [n]."""
    fresh = np.zeros(len(sessions.items), dtype=np.bool_)
    return _interleave(np.arange(len(sessions.items)), fresh, sessions.lengths)


def _interleave(events: Ints, fresh: NDArray[np.bool_], lengths: Ints) -> tuple[Steps, Ints]:
    """From lane after lane to step after step."""
    rank = np.empty(len(lengths), dtype=np.int64)
    rank[np.argsort(-lengths, kind="stable")] = np.arange(len(lengths))
    lane = np.repeat(np.arange(len(lengths)), lengths)
    step = np.arange(len(events)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    starts = np.concatenate([[0], np.cumsum(np.bincount(step))]).astype(np.int64)
    place = starts[step] + rank[lane]
    moved, moved_fresh = np.empty_like(events), np.empty_like(fresh)
    moved[place], moved_fresh[place] = events, fresh
    return Steps(moved, moved_fresh, starts), rank
