"""Sessions as flat arrays, and an epoch of them laid out as a table of steps and lanes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Sequences:
    """n sessions of e events in compressed rows: session i has events offsets[i]:offsets[i+1].

    Attributes
    ----------
    items
        int32 [e], 0 … n_items-1.
    offsets
        int64 [n+1].
    codes
        int64 [e] by feature name, 0 … size-1.
    """

    items: NDArray[np.int32]
    offsets: Ints
    codes: Mapping[str, Ints] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        """Events of each session: int64 [n]."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def targets(self) -> NDArray[np.int32]:
        """Every item that follows another of its session: int32."""
        followed = np.ones(len(self.items), dtype=np.bool_)
        followed[self.offsets[:-1][self.lengths > 0]] = False
        return self.items[followed]


@dataclass(frozen=True)
class SequencePieces:
    """The pieces that training reads: runs of events that are each followed by another event of their session.

    Attributes
    ----------
    first
        int64 [p], position of a piece's first event.
    lengths
        int64 [p], at least 1.
    """

    first: Ints
    lengths: Ints

    @classmethod
    def of(cls, offsets: Ints, longest: int) -> SequencePieces:
        """Cut sessions into pieces: every event except each session's last.

        Parameters
        ----------
        offsets
            int64 [n+1], as in `Sequences`.
        longest
            Events of the longest piece; longer sessions become several pieces.
        """
        transitions = np.maximum(np.diff(offsets) - 1, 0)
        counts = -(-transitions // longest)
        session = np.repeat(np.arange(len(transitions)), counts)
        number = np.arange(len(session)) - np.repeat(np.cumsum(counts) - counts, counts)
        begin = number * longest
        return cls(offsets[:-1][session] + begin, np.minimum(transitions[session] - begin, longest))


@dataclass(frozen=True)
class Lanes:
    """An epoch as a table: step t takes row t, with one event in each lane.

    In a lane an event follows the event above it, or a piece begins.

    Attributes
    ----------
    events
        int64 [steps, lanes], positions in the flat arrays; 0 where not active.
    fresh
        bool [steps, lanes], whether the hidden state is forgotten before the event.
    active
        bool [steps, lanes].
    """

    events: Tensor
    fresh: Tensor
    active: Tensor

    @classmethod
    def of(cls, first: Tensor, lengths: Tensor, lanes: int) -> Lanes:
        """Lay pieces out one after the other, and cut them into `lanes` equal runs.

        Parameters
        ----------
        first, lengths
            int64 [p] each, see `SequencePieces`, in the order of training.
        lanes
            Number of lanes.

        Notes
        -----
        A piece that a cut divides continues at another lane's top without its beginning. There are at most `lanes` such
        pieces. In return every step has the same size, and no step runs with a few lanes only.
        """
        begin = torch.cumsum(lengths, 0) - lengths
        total = int(lengths.sum())
        steps = -(-total // lanes)
        number = torch.arange(steps * lanes, device=first.device)
        events = torch.zeros_like(number)
        events[:total] = number[:total] + torch.repeat_interleave(first - begin, lengths, output_size=total)
        fresh = number >= total
        fresh[begin] = True
        fresh[:: max(steps, 1)] = True
        across = (lanes, steps)
        return cls(*(values.view(across).T.contiguous() for values in (events, fresh, number < total)))

    def __len__(self) -> int:
        return len(self.events)


def lay_out_lanes(lengths: Ints) -> tuple[Ints, Ints]:
    """Lay sessions out so that they advance together, the longest first: running sessions are always the first ones.

    Parameters
    ----------
    lengths
        int64 [n], events of each session.

    Returns
    -------
    tuple of numpy.ndarray
        Positions of events in the flat arrays, step after step: int64 [e]. And starts int64 [steps + 1]: step t is
        positions[starts[t]:starts[t+1]].
    """
    total = int(lengths.sum())
    rank = np.empty(len(lengths), dtype=np.int64)
    rank[np.argsort(-lengths, kind="stable")] = np.arange(len(lengths))
    step = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    starts = np.concatenate([[0], np.cumsum(np.bincount(step))]).astype(np.int64)
    order = np.empty(total, dtype=np.int64)
    order[starts[step] + np.repeat(rank, lengths)] = np.arange(total)
    return order, starts
