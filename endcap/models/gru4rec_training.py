"""How GRU4Rec learns: an epoch of session-parallel steps with sampled softmax and Adagrad."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from endcap.features.sessions import Ints, Sessions
from endcap.models.gru4rec_batches import Pieces, shuffled
from endcap.models.gru4rec_network import Network, few_threads
from endcap.spec.neural import GRU4RecSpec

_EPSILON = 1e-6
_BLOCK = 256  # steps whose negatives are drawn together


class Competitors:
    """Which items the targets of a step compete with: all of the step's targets, and items drawn by popularity^alpha.

    They are a set: an item competes once. `correction` is float32 [n_items], the log of the probability that an item
    is in the set; taken off the logits it makes the sampled softmax stand for the full one (Bengio and Senécal, 2008).
    Where as many are to be drawn as there are items, every item competes and there is nothing to correct.
    """

    def __init__(self, items: NDArray[np.int32], targets: NDArray[np.int32], n_items: int, spec: GRU4RecSpec) -> None:
        counts = np.bincount(items, minlength=n_items)
        self.known = np.flatnonzero(counts)
        self.count = spec.negatives
        self.all = self.count >= len(self.known)
        weights = counts[self.known].astype(np.float64) ** spec.negatives_alpha
        self._cumulative = np.cumsum(weights / weights.sum()) if len(weights) else weights
        missed = np.zeros(n_items)
        if not self.all:
            missed[self.known] = self.count * np.log1p(-weights / weights.sum())
            missed += spec.batch * np.log1p(-np.bincount(targets, minlength=n_items) / (len(targets) + 1))
        self.correction = np.log(-np.expm1(missed, where=missed < 0, out=np.full(n_items, -1.0))).astype(np.float32)

    def draws(self, steps: int, rng: np.random.Generator) -> Iterator[Ints]:
        """The drawn items of each step."""
        for begin in range(0, steps, _BLOCK):
            chance = rng.random((min(_BLOCK, steps - begin), self.count))
            found = np.searchsorted(self._cumulative, chance)
            yield from self.known[np.minimum(found, len(self.known) - 1)]

    def sets(self, targets: NDArray[np.int64], starts: Ints, rng: np.random.Generator) -> Iterator[Ints]:
        """Each step's competitors, ascending."""
        steps = len(starts) - 1
        if self.all:
            yield from (self.known for _ in range(steps))
            return
        for step, drawn in enumerate(self.draws(steps, rng)):
            yield np.unique(np.concatenate([targets[starts[step] : starts[step + 1]], drawn]))


@dataclass
class Adagrad:
    """Adagrad (Duchi et al., 2011). Of the item table only the rows of a step are read and written: for the others
    the gradient is nought and nothing would change."""

    network: Network
    rate: float
    sums: dict[str, Tensor]

    @classmethod
    def fresh(cls, network: Network, rate: float) -> Adagrad:
        return cls(network, rate, {name: torch.zeros_like(values) for name, values in network.weights.items()})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The sums of squared gradients, by weight."""
        return {name: values.cpu().numpy() for name, values in self.sums.items()}

    def update(self, rows: Mapping[str, tuple[Tensor, Tensor]], dense: Mapping[str, Tensor]) -> None:
        """One step. rows: (which rows, distinct; their gradient) of weights with a row an item; dense: gradients."""
        with torch.no_grad():
            for name, (ids, gradient) in rows.items():
                total = self.sums[name][ids].addcmul_(gradient, gradient)
                self.sums[name][ids] = total
                self.network.weights[name].index_add_(
                    0, ids, gradient.div_((total + _EPSILON).sqrt_()), alpha=-self.rate
                )
            for name, gradient in dense.items():
                total = self.sums[name].addcmul_(gradient, gradient)
                self.network.weights[name].addcdiv_(gradient, (total + _EPSILON).sqrt_(), value=-self.rate)


class Trainer:
    """Runs epochs. Each draws everything random from (seed, epoch), so that it can begin at any of them."""

    def __init__(self, network: Network, adagrad: Adagrad, train: Sessions, spec: GRU4RecSpec, seed: int) -> None:
        self.network, self.adagrad, self.spec, self.seed = network, adagrad, spec, seed
        self.device = network.items.device
        self.items = train.items.astype(np.int64)
        self.buckets = network.buckets(train)
        self.pieces = Pieces.of(train, spec.max_events)
        followed = np.ones(len(train.items), dtype=np.bool_)
        followed[train.offsets[:-1][train.lengths > 0]] = False
        n_items = len(network.items)
        self.competitors = Competitors(train.items, train.items[followed], n_items, spec)
        self.correction = torch.from_numpy(self.competitors.correction).to(self.device)
        self._place = np.full(n_items, -1, dtype=np.int64)

    def epoch(self, number: int) -> float:
        """Train one epoch (from 0); its mean loss for an event. 0 where no event follows another."""
        work = self.spec.batch * (self.spec.batch + self.spec.negatives) * self.network.width
        with few_threads(work):
            return self._epoch(number)

    def _epoch(self, number: int) -> float:
        rng = np.random.default_rng([self.seed, number])
        # Dropout has a stream of its own: the draws of competitors are made in blocks, ahead of the steps.
        dropout = np.random.default_rng(rng.integers(2**62))
        steps = shuffled(self.pieces, self.spec.batch, rng)
        if not len(steps):
            return 0.0
        inputs, targets = self.items[steps.events], self.items[steps.events + 1]
        kept = torch.from_numpy(~steps.fresh).to(self.device, torch.float32)[:, None]
        buckets = {name: self._tensor(values[steps.events]) for name, values in self.buckets.items()}
        lanes = int(steps.starts[1])
        hidden = torch.zeros(lanes, self.network.width, device=self.device)
        total = torch.zeros((), device=self.device, dtype=torch.float64)
        for step, columns in enumerate(self.competitors.sets(targets, steps.starts, rng)):
            begin, end = int(steps.starts[step]), int(steps.starts[step + 1])
            hidden = hidden[: end - begin] * kept[begin:end]
            of_step = {name: values[begin:end] for name, values in buckets.items()}
            loss, hidden = self._step(inputs[begin:end], targets[begin:end], columns, of_step, hidden, lanes, dropout)
            total += loss
        return float(total) * lanes / len(targets)

    def _step(
        self,
        inputs: Ints,
        targets: Ints,
        columns: Ints,
        buckets: dict[str, Tensor],
        hidden: Tensor,
        lanes: int,
        dropout: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        """One batch: the loss (its sum over lanes by the number of all lanes) and the next hidden state."""
        network, width = self.network, len(columns)
        # The item rows of this step: the competitors first, then the inputs that are not among them.
        self._place[columns] = np.arange(width)
        others = np.unique(inputs[self._place[inputs] < 0])
        self._place[others] = np.arange(width, width + len(others))
        rows = np.concatenate([columns, others])
        ids, entering, aims = (self._tensor(a) for a in (rows, self._place[inputs], self._place[targets]))
        self._place[rows] = -1

        # Both uses of the item table are leaves of their own; their gradients are added up by row afterwards.
        dense = {name: values.requires_grad_() for name, values in network.dense().items()}
        items = network.items[ids]
        coming, going = items[entering].requires_grad_(), items[:width].requires_grad_()
        bias = (network.bias[ids[:width]] - self.correction[ids[:width]]).requires_grad_()
        embedded = _dropout(network.inputs(coming, buckets), self.spec.dropout_embedding, dropout)
        state = network.step(embedded, hidden)
        outgoing = _dropout(state, self.spec.dropout_hidden, dropout)
        logits = torch.addmm(bias, outgoing, going.T)
        # Divided by all lanes, not those still running: the few long lanes at an epoch's end do not count more.
        loss = cross_entropy(logits, aims, reduction="sum") / lanes
        by_coming, by_going, by_bias, *by_dense = torch.autograd.grad(loss, [coming, going, bias, *dense.values()])
        by_items = torch.cat([by_going, by_going.new_zeros(len(others), network.width)]).index_add_(
            0, entering, by_coming
        )
        by_row = {"items": (ids, by_items), "bias": (ids[:width], by_bias)}
        self.adagrad.update(by_row, dict(zip(dense, by_dense, strict=True)))
        return loss.detach(), state.detach()

    def _tensor(self, values: Ints) -> Tensor:
        return torch.from_numpy(values).to(self.device)


def _dropout(values: Tensor, rate: float, rng: np.random.Generator) -> Tensor:
    """Dropout from numpy's generator: on a CPU twenty times as fast as PyTorch's, and no global state."""
    if rate == 0.0:
        return values
    draws = np.frombuffer(rng.bytes(2 * values.numel()), dtype=np.uint16).reshape(values.shape)
    kept = torch.from_numpy((draws >= round(rate * 65536)).astype(np.float32)).to(values.device)
    return values * kept.div_(1 - rate)
