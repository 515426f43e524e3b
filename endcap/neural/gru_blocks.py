"""The tensors that the steps of GRU4Rec need, laid out for a block of steps at once.

A block's tensors have a row for each step. A step gets views of them, which costs it no work, on a CPU as on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from endcap.neural.dropout import draw_factors
from endcap.neural.losses import NEVER
from endcap.neural.negatives import NegativeSampler
from endcap.neural.parallel import Exchange
from endcap.neural.sequences import Ints, Lanes, SequencePieces, Sequences

_MOST_STEPS = 256
_BLOCK_NUMBERS = 8_000_000
"""Of the largest tensor of a block: 32 MB."""
_COUNTED_NUMBERS = 250_000
"""Of a block's counts by item, so that they stay near the processor."""
_COUNTED = 6
"""Up to so many times as many items as draws, draws are counted by item, and a column stands for all of an item's."""


@dataclass(frozen=True)
class GRUBatch:
    """One step, or with one more dimension in front a block of steps.

    L is the number of this worker's lanes, C of columns (competitors), M of rows: items whose embeddings the step reads
    and changes. The columns are the first C rows.

    Attributes
    ----------
    rows
        int64 [M].
    offset
        float32 [1, C], added to scores: the correction for the sampling, plus the log of how often a column was drawn;
        `NEVER` if it was not drawn.
    own
        float32 [L], added to the target's score.
    aims
        int64 [L], positions of the targets in the flattened scores.
    entering
        int64 [L], the row of each item that goes in.
    inputs
        int64 [all lanes], the items that go in.
    targets
        int64 [L, 1].
    kept
        float32 [L, 1], 0 where a session begins, else 1.
    scale
        float32 [L, 1], 1 / all lanes, 0 for a lane that has ended.
    coming, going
        float32 [L, width], factors of dropout of the embedding and of the hidden state; empty without dropout. The next
        step, too, gets the hidden state as dropout has left it.
    codes
        int64 [L] by feature.
    """

    rows: Tensor
    offset: Tensor
    own: Tensor
    aims: Tensor
    entering: Tensor
    inputs: Tensor
    targets: Tensor
    kept: Tensor
    scale: Tensor
    coming: Tensor
    going: Tensor
    codes: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.rows)

    def tensors(self) -> list[Tensor]:
        """Return all tensors, always in the same order."""
        return [*(getattr(self, entry.name) for entry in fields(self) if entry.name != "codes"), *self.codes.values()]

    def like(self, tensors: Sequence[Tensor]) -> GRUBatch:
        """Return a batch of other tensors, given in the order of `tensors`."""
        plain = len(fields(self)) - 1
        codes = dict(zip(self.codes, tensors[plain:], strict=True))
        return GRUBatch(*tensors[:plain], codes)  # type: ignore[call-arg, arg-type]

    def steps(self) -> Iterator[GRUBatch]:
        """Yield a block's steps, as views."""
        return map(self.like, zip(*(values.unbind(0) for values in self.tensors()), strict=True))


@dataclass(frozen=True)
class GRUBlockSettings:
    """Settings of `GRUBlocks`.

    Attributes
    ----------
    lanes
        Sessions side by side, over all workers.
    width
        Width of the network.
    separate
        Whether a table of its own scores the items.
    logq
        Share of the sampling's bias that is corrected, from 0 to 1.
    dropout_embedding, dropout_hidden
        Share of the embedding's and the hidden state's numbers that is dropped.
    longest
        Events of the longest piece of a session.
    """

    lanes: int
    width: int
    separate: bool
    logq: float
    dropout_embedding: float
    dropout_hidden: float
    longest: int


class GRUBlocks:
    """Lays the epochs of GRU4Rec out in blocks. All that is random in an epoch comes from the seed and the epoch's
    number.

    Parameters
    ----------
    train
        Training sessions, with a code of each event for each event feature.
    item_codes
        int64 [n_items] by item feature.
    n_items
        Items of the catalogue.
    negatives
        Draws a step's negatives.
    settings
        See `GRUBlockSettings`.
    exchange
        Which share of the lanes is this worker's.
    device
        Where the tensors are put.

    Attributes
    ----------
    transitions
        Events of an epoch that follow another event.
    counted
        Whether a column stands for all draws of an item (see `_count_columns`).
    """

    def __init__(
        self,
        train: Sequences,
        item_codes: Mapping[str, Ints],
        n_items: int,
        negatives: NegativeSampler,
        settings: GRUBlockSettings,
        exchange: Exchange,
        device: torch.device,
    ) -> None:
        self.n_items, self.negatives, self.settings, self.device = n_items, negatives, settings, device
        self.pieces = SequencePieces.of(train.offsets, settings.longest)
        self.transitions = int(self.pieces.lengths.sum())
        self._first = torch.from_numpy(self.pieces.first).to(device)
        self._lengths = torch.from_numpy(self.pieces.lengths).to(device)
        self.lanes = settings.lanes
        share = self.lanes // exchange.world
        self.own_lanes = slice(exchange.rank * share, (exchange.rank + 1) * share)
        self.counted = device.type == "cpu" and n_items <= _COUNTED * negatives.count
        targets = train.targets
        popularity = np.bincount(targets, minlength=n_items) / max(len(targets), 1)
        expected = negatives.expected + self.lanes * popularity
        correction = -settings.logq * np.log(np.maximum(expected, 1e-30))
        self.correction = torch.from_numpy(correction.astype(np.float32)).to(device)
        self.items = torch.from_numpy(train.items.astype(np.int64)).to(device)
        codes = {f"feature.{name}": torch.from_numpy(values).to(device) for name, values in train.codes.items()}
        self.event_codes = codes
        self.item_codes = {
            f"item-feature.{name}": torch.from_numpy(values).to(device) for name, values in item_codes.items()
        }

    def count_block_steps(self) -> int:
        """Return how many steps a block has at most."""
        lanes, settings = self.lanes, self.settings
        most = _BLOCK_NUMBERS // max(lanes * settings.width, self.negatives.count + 2 * lanes)
        if self.counted:
            most = min(most, _COUNTED_NUMBERS // self.n_items)
        return int(np.clip(most, 1, _MOST_STEPS))

    def epoch(self, seed: int, number: int) -> Iterator[GRUBatch]:
        """Yield the blocks of an epoch (from 0), with every transition once, in an order of the epoch's own."""
        rng = np.random.Generator(np.random.SFC64([seed, number]))
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        order = torch.randperm(len(self.pieces.lengths), device=self.device, generator=generator)
        lanes = Lanes.of(self._first[order], self._lengths[order], self.lanes)
        events, fresh, active = lanes.events, lanes.fresh, lanes.active
        size = self.count_block_steps()
        for begin in range(0, len(lanes), size):
            rows = slice(begin, min(begin + size, len(lanes)))
            yield self._make_block(events[rows], fresh[rows], active[rows], rng, generator)

    def _make_block(
        self, events: Tensor, fresh: Tensor, active: Tensor, rng: np.random.Generator, generator: torch.Generator
    ) -> GRUBatch:
        steps = len(events)
        inputs, targets = self.items[events], self.items[(events + 1).clamp_(max=len(self.items) - 1)]
        compete = self._count_columns if self.counted else self._draw_columns
        rows, offset, own, aims, entering = compete(inputs, targets, active, rng, generator)
        codes = {name: values[events[:, self.own_lanes]] for name, values in self.event_codes.items()}
        codes |= {name: values[inputs[:, self.own_lanes]] for name, values in self.item_codes.items()}
        return GRUBatch(
            rows,
            offset[:, None, :],
            own,
            aims,
            entering,
            inputs,
            targets[:, self.own_lanes, None],
            (~fresh[:, self.own_lanes, None]).float(),
            active[:, self.own_lanes, None].float() / self.lanes,
            self._draw_dropout(steps, self.settings.dropout_embedding, rng, generator),
            self._draw_dropout(steps, self.settings.dropout_hidden, rng, generator),
            codes,
        )

    def _draw_columns(
        self, inputs: Tensor, targets: Tensor, active: Tensor, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Make the columns as drawn: all lanes' targets, then the negatives; an item may be in several columns."""
        steps, lanes = inputs.shape
        drawn = self.negatives.draw(self.device, steps, rng, generator)
        columns = torch.cat([targets, drawn], 1)
        offset = self.correction[columns]
        offset[:, :lanes][~active] = NEVER
        rows = columns if self.settings.separate else torch.cat([columns, inputs], 1)
        lane = torch.arange(lanes, device=self.device)[self.own_lanes]
        own = torch.zeros(steps, len(lane), device=self.device)
        aims = (lane - lane[:1]) * columns.shape[1] + lane
        entering = lane + columns.shape[1]
        return rows, offset, own, aims.expand(steps, -1), entering.expand(steps, -1)

    def _count_columns(
        self, inputs: Tensor, targets: Tensor, active: Tensor, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Make one column for each item, ascending; an item that only goes in gets a column that never competes."""
        steps, lanes = inputs.shape
        aimed, ended = targets.numpy(), ~active.numpy()
        step = np.arange(steps)[:, None]
        keys = aimed + step * self.n_items
        counts = self.negatives.counts(steps, rng).ravel()
        counts += np.bincount(keys[~ended], minlength=len(counts)).astype(np.int32)
        counted = counts > 0
        counted[keys] = True
        coming = inputs.numpy() + step * self.n_items
        if not self.settings.separate:
            counted[coming] = True
        positions = np.flatnonzero(counted)
        row = positions // self.n_items
        each = np.bincount(row, minlength=steps)
        width = -(-int(each.max()) // 16) * 16
        place = np.arange(len(positions)) - np.repeat(np.cumsum(each) - each, each) + row * width
        rows = np.full(steps * width, self.n_items)
        rows[place] = positions - row * self.n_items
        offset = np.full(steps * width, NEVER, dtype=np.float32)
        drawn = counts[positions]
        known = drawn > 0
        offset[place[known]] = _LOG[np.minimum(drawn[known], len(_LOG) - 1)]
        offset[place[known]] += self.correction.numpy()[rows[place[known]]]
        column = np.empty(len(counts), dtype=np.int32)
        column[positions] = place - row * width
        own = -_LOG[np.clip(counts[keys], 1, len(_LOG) - 1)]
        aims = column[keys] + np.arange(lanes) * width
        own_lanes = self.own_lanes
        return (
            torch.from_numpy(rows.reshape(steps, width)),
            torch.from_numpy(offset.reshape(steps, width)),
            torch.from_numpy(own[:, own_lanes]),
            torch.from_numpy(aims[:, own_lanes] - own_lanes.start * width).long(),
            torch.from_numpy(column[coming][:, own_lanes]).long(),
        )

    def _draw_dropout(self, steps: int, rate: float, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        """Draw the factors of dropout: 0 at the given rate, else 1 / (1 - rate)."""
        if rate == 0.0:
            return torch.empty(steps, 0, device=self.device)
        shape = (steps, self.lanes, self.settings.width)
        return draw_factors(shape, rate, self.device, rng, generator)[:, self.own_lanes]


_LOG = np.log(np.maximum(np.arange(1 << 16), 1)).astype(np.float32)
