"""The tensors that the steps of SASRec need, laid out for a block of steps at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from endcap.neural.dropout import draw_factors
from endcap.neural.negatives import NegativeSampler
from endcap.neural.packing import PADDING, pack_rows
from endcap.neural.sequences import SequencePieces, Sequences

_MOST_STEPS = 64
_BLOCK_NUMBERS = 8_000_000
"""Of the largest tensor of a block: 32 MB."""


@dataclass(frozen=True)
class AttentionBatch:
    """One step, or with one more dimension in front a block of steps.

    Attributes
    ----------
    items
        int64 [r, w], the items of r rows of w events, the catalogue's size under padding.
    targets
        int64 [r, w], the items that follow, the catalogue's size under padding.
    segments
        int64 [r, w], see `PackedRows`.
    negatives
        int64 [n].
    dropout
        float32 [d, r, w, width], the factors at each of the network's d places of dropout; empty without dropout.
    codes
        int64 [r, w] by event feature.
    """

    items: Tensor
    targets: Tensor
    segments: Tensor
    negatives: Tensor
    dropout: Tensor
    codes: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.items)

    def tensors(self) -> list[Tensor]:
        """Return all tensors, always in the same order."""
        return [self.items, self.targets, self.segments, self.negatives, self.dropout, *self.codes.values()]

    def like(self, tensors: Sequence[Tensor]) -> AttentionBatch:
        """Return a batch of other tensors, given in the order of `tensors`."""
        items, targets, segments, negatives, dropout, *codes = tensors
        return AttentionBatch(items, targets, segments, negatives, dropout, dict(zip(self.codes, codes, strict=True)))

    def steps(self) -> Iterator[AttentionBatch]:
        """Yield a block's steps, as views."""
        return map(self.like, zip(*(values.unbind(0) for values in self.tensors()), strict=True))


class AttentionBlocks:
    """Lays the epochs of SASRec out in blocks. All that is random in an epoch comes from the seed and the epoch's
    number.

    Parameters
    ----------
    sessions
        The training sessions, with a code of each event for each event feature.
    n_items
        Items of the catalogue.
    negatives
        Draws a step's negatives.
    batch
        Pieces of sessions in a step, on average.
    longest
        Events of the longest piece.
    dropout
        Share of numbers that are dropped.
    dropped
        The number of places of dropout, and the width of the network.
    device
        Where the tensors are put.

    Attributes
    ----------
    width
        Events of a row.
    rows
        Rows of a step.
    targets
        Events of an epoch that follow another event.
    """

    def __init__(
        self,
        sessions: Sequences,
        n_items: int,
        negatives: NegativeSampler,
        *,
        batch: int,
        longest: int,
        dropout: float,
        dropped: tuple[int, int],
        device: torch.device,
    ) -> None:
        self.negatives, self.dropout, self.dropped = negatives, dropout, dropped
        self.n_items, self.device = n_items, device
        self.pieces = SequencePieces.of(sessions.offsets, longest)
        self.targets = int(self.pieces.lengths.sum())
        self.width = int(self.pieces.lengths.max(initial=1))
        count = len(self.pieces.lengths)
        self.rows = max(1, round(min(batch, count) * self.targets / (max(count, 1) * self.width)))
        self.items = torch.from_numpy(sessions.items.astype(np.int64)).to(device)
        self.codes: Mapping[str, Tensor] = {
            name: torch.from_numpy(values).to(device) for name, values in sessions.codes.items()
        }

    def count_block_steps(self) -> int:
        """Return how many steps a block has at most: about 32 MB of its largest tensor."""
        places, width = self.dropped
        return int(np.clip(_BLOCK_NUMBERS // (self.rows * self.width * places * width), 1, _MOST_STEPS))

    def epoch(self, seed: int, number: int) -> Iterator[AttentionBatch]:
        """Yield the blocks of an epoch (from 0), with every piece once, in an order of the epoch's own."""
        rng = np.random.Generator(np.random.SFC64([seed, number]))
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        rows = pack_rows(self.pieces, self.width, self.rows, rng)
        shape = (-1, self.rows, self.width)
        events, segments = (
            torch.from_numpy(values).view(shape).to(self.device) for values in (rows.events, rows.segments)
        )
        size = self.count_block_steps()
        for begin in range(0, len(events), size):
            yield self._make_block(events[begin : begin + size], segments[begin : begin + size], rng, generator)

    def _make_block(
        self, events: Tensor, segments: Tensor, rng: np.random.Generator, generator: torch.Generator
    ) -> AttentionBatch:
        padding = segments == PADDING
        following = (events + 1).clamp_(max=len(self.items) - 1)
        return AttentionBatch(
            self.items[events].masked_fill_(padding, self.n_items),
            self.items[following].masked_fill_(padding, self.n_items),
            segments,
            self.negatives.draw(self.device, len(events), rng, generator),
            self._draw_dropout(len(events), rng, generator),
            {name: values[events] for name, values in self.codes.items()},
        )

    def _draw_dropout(self, steps: int, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        """0 at the given rate, else 1 / (1 - rate)."""
        if self.dropout == 0.0:
            return torch.empty(steps, 0, device=self.device)
        places, width = self.dropped
        return draw_factors((steps, places, self.rows, self.width, width), self.dropout, self.device, rng, generator)
