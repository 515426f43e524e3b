"""How SASRec learns: every event of a session is asked what follows it, against negatives that a step's targets share.

A step's rows of pieces have one size, and so has everything in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from endcap.neural.attention import AttentionNetwork, Dropout
from endcap.neural.negatives import Negatives
from endcap.neural.optimisers import Adam, Dense, Table, combine
from endcap.neural.packing import PADDING, Rows, packed
from endcap.neural.scratch import Scratch
from endcap.neural.sequences import Pieces, Sequences
from endcap.neural.threads import few_threads

_BLOCK = 64  # steps that are laid out together
_TABLE_SHARE = 4  # from so many times as many items as a step touches on, rows are updated alone


@dataclass(frozen=True)
class AttentionTraining:
    """batch: sessions a step, on average. dropout: of the inputs and of what each part of a block adds."""

    batch: int = 128
    negatives: int = 512
    negatives_alpha: float = 0.5
    loss: Literal["cross-entropy", "gbce"] = "cross-entropy"
    calibration: float = 0.75
    learning_rate: float = 0.004
    dropout: float = 0.3


def sampled_softmax(own: Tensor, others: Tensor) -> Tensor:
    """Cross-entropy of each target: [t], from its score [t] and those of its competitors [t, n].

    Where the log of how often it is drawn was taken off each competitor's score, and -inf stands at the target
    itself, exp of own and others is an unbiased estimate of the softmax's sum over all items: the logQ correction
    (Bengio and Senécal, 2008), without the target, which is always there.
    """
    return torch.logaddexp(own, torch.logsumexp(others, dim=1)) - own


def calibrated_bce(own: Tensor, others: Tensor, beta: float) -> Tensor:
    """gBCE of each target: [t] (Petrov and Macdonald, 2023, equation 10), -inf for no competitor."""
    return softplus(others).sum(dim=1) - beta * logsigmoid(own)


def calibration_power(share: float, calibration: float) -> float:
    """beta of gBCE (equation 15), from the share of all items that a target competes with and t."""
    return share * (calibration * (1 - 1 / share) + 1 / share)


@dataclass(frozen=True)
class Step:
    """items, targets: int64 [r, w], the catalogue's size under padding; segments: int64 [r, w] as `Rows` has them;
    codes: each event feature's, int64 [r, w]; negatives: int64 [n]."""

    items: Tensor
    targets: Tensor
    segments: Tensor
    codes: Mapping[str, Tensor]
    negatives: Tensor


class Noise:
    """Dropout from a generator of its own: on a CPU numpy's, which is twenty times as fast as PyTorch's."""

    def __init__(self, rate: float, seed: int, device: torch.device) -> None:
        self.rate = rate
        self._numpy = np.random.default_rng(seed)
        self._torch = None if device.type == "cpu" else torch.Generator(device).manual_seed(seed)

    def __call__(self, values: Tensor) -> Tensor:
        if self.rate == 0.0:
            return values
        if self._torch is None:
            draws = np.frombuffer(self._numpy.bytes(2 * values.numel()), dtype=np.uint16)
            kept = torch.from_numpy((draws >= round(self.rate * 65536)).astype(np.float32)).view(values.shape)
        else:
            chance = torch.rand(values.shape, device=values.device, dtype=torch.float32, generator=self._torch)
            kept = (chance >= self.rate).to(values.dtype)
        return values * kept.div_(1 - self.rate)


class AttentionAdam:
    """Adam over the network's weights, whose memory it takes over: the network's become views of it.

    An item's embedding and bias are one row. Where a step touches few of the rows they are a table that it reads and
    writes only those of; else they are dense like the rest.
    """

    def __init__(self, network: AttentionNetwork, rate: float, touched: int) -> None:
        """touched: how many rows a step names, repetitions counted."""
        n_items, width = network.items.shape
        rule = Adam(rate, betas=(0.9, 0.98))
        rows = torch.cat([network.items, network.bias[:, None]], dim=1)
        others = network.dense()
        flat = [values.reshape(-1) for values in others.values()]
        self.table: Table | None = None
        if n_items >= _TABLE_SHARE * touched:
            self.table = Table(rows, rule)
            self._place = torch.zeros(n_items + 1, dtype=torch.int64, device=rows.device)
            self._scratch = Scratch(rows.device)
        else:
            flat.append(torch.cat([rows, rows.new_zeros(1, width + 1)]).view(-1))
        self.dense = Dense(torch.cat(flat), rule)
        parts = torch.split_with_sizes(self.dense.values, [len(values) for values in flat])
        self._leaves = []
        for (name, values), part in zip(others.items(), parts, strict=False):
            network.weights[name] = part.view(values.shape).requires_grad_()
            self._leaves.append(network.weights[name])
        if self.table is None:
            self._rows = parts[-1].view(n_items + 1, width + 1).requires_grad_()
            rows = self._rows.detach()[:n_items]
        else:
            rows = self.table.values
        network.weights["items"], network.weights["bias"] = rows[:, :-1], rows[:, -1]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is kept beside the weights, by name; as it stands, not always a copy."""
        state = {"dense": self.dense.state, "steps": self.dense.steps}
        if self.table is not None:
            state["table"] = self.table.memory[:, 1:]
        return {name: values.contiguous().cpu().numpy() for name, values in state.items()}

    def take_up(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `arrays` gave."""
        self.dense.state.copy_(torch.from_numpy(arrays["dense"]))
        self.dense.steps.copy_(torch.from_numpy(arrays["steps"]))
        if self.table is not None:
            self.table.memory[:, 1:] = torch.from_numpy(arrays["table"])
            self.table.steps.copy_(self.dense.steps)

    def fetch(self, ids: Tensor) -> Tensor:
        """Rows of embedding and bias: [m, width + 1], of ids int64 [m], of which the catalogue's size is padding.
        The loss's gradient by `leaves` is what `update` takes."""
        if self.table is None:
            return self._rows.index_select(0, ids)
        self._fetched = self.table.memory[:, 0].index_select(0, ids).requires_grad_()
        return self._fetched

    @property
    def leaves(self) -> list[Tensor]:
        """What the loss is derived by."""
        return [*self._leaves, self._rows if self.table is None else self._fetched]

    def update(self, ids: Tensor, gradients: Sequence[Tensor]) -> None:
        """One step. ids: as last fetched. gradients: of `leaves`."""
        with torch.no_grad():
            *dense, rows = gradients
            if self.table is None:
                dense.append(rows)
            else:
                distinct, total = combine(ids, rows, self._place, self.table.padding)
                before = self._scratch("before", len(ids), *self.table.memory.shape[1:])
                self.table.fetch(distinct, before)
                self.table.update(distinct, total, before, self._scratch)
            self.dense.update(torch.cat([values.reshape(-1) for values in dense]))


class AttentionTrainer:
    """Runs epochs. Each draws everything random from (seed, epoch), so that it can begin at any of them.

    Where a step touches on a small part of the item table, Adam reads and writes those rows alone.
    """

    def __init__(self, network: AttentionNetwork, sessions: Sequences, settings: AttentionTraining, seed: int) -> None:
        """sessions: with a code of each event by the name of each event feature of the network."""
        self.network, self.sessions, self.settings, self.seed = network, sessions, settings, seed
        shape, self.device = network.shape, network.device
        self.pieces = Pieces.of(sessions.offsets, shape.max_events)
        self.width = int(self.pieces.lengths.max(initial=1))
        mean = float(self.pieces.lengths.mean()) if len(self.pieces.lengths) else 1.0
        self.rows = max(1, round(min(settings.batch, len(self.pieces.lengths)) * mean / self.width))
        events = np.bincount(sessions.items, minlength=shape.n_items)
        self.negatives = Negatives(events, settings.negatives_alpha, settings.negatives)
        touched = 2 * self.rows * self.width + self.negatives.count
        self.adam = AttentionAdam(network, settings.learning_rate, touched)
        with np.errstate(divide="ignore"):
            overstated = np.log(self.negatives.expected).astype(np.float32)
        self.overstated = torch.from_numpy(overstated).to(self.device)
        share = min(1.0, self.negatives.count / max(1, shape.n_items - 1))
        self.beta = calibration_power(share, settings.calibration)

    def epoch(self, number: int) -> float:
        """Train one epoch (from 0); its mean loss for an event. 0 where no event follows another."""
        if not len(self.pieces.lengths):
            return 0.0
        work = self.rows * self.width * max(self.negatives.count, 4 * self.network.shape.width)
        with few_threads(work * self.network.shape.width):
            return self._epoch(number)

    def _epoch(self, number: int) -> float:
        rng = np.random.default_rng([self.seed, number])
        noise = Noise(self.settings.dropout, int(rng.integers(2**62)), self.device)
        rows = packed(self.pieces, self.width, self.rows, rng)
        steps, targets = len(rows) // self.rows, int(self.pieces.lengths.sum())
        total = torch.zeros((), device=self.device)
        for step in self._steps(rows, rng):
            # Divided by the mean number of targets, not a step's own: the last step's few do not count more.
            total += self.step(step, steps / targets, noise)
        return float(total) / steps

    def _steps(self, rows: Rows, rng: np.random.Generator) -> Iterator[Step]:
        """The rows' steps in turn, some of them laid out at a time."""
        size = _BLOCK * self.rows
        for begin in range(0, len(rows), size):
            events, segments = rows.events[begin : begin + size], rows.segments[begin : begin + size]
            there = segments != PADDING
            following = np.minimum(events + 1, len(self.sessions.items) - 1)
            padding = self.network.shape.n_items
            items = np.where(there, self.sessions.items[events], padding)
            targets = np.where(there, self.sessions.items[following], padding)
            drawn = self.negatives.block(len(events) // self.rows, rng)
            laid = [self._tensor(values) for values in (items, targets, segments)]
            codes = {name: self._tensor(values[events]) for name, values in self.sessions.codes.items()}
            drawn_there = self._tensor(drawn)
            for number in range(len(drawn)):
                part = slice(number * self.rows, (number + 1) * self.rows)
                of_step = {name: values[part] for name, values in codes.items()}
                yield Step(laid[0][part], laid[1][part], laid[2][part], of_step, drawn_there[number])

    def step(self, step: Step, scale: float, noise: Dropout) -> Tensor:
        """Learn from one step; its loss, the targets' sum times `scale`."""
        network, padding = self.network, self.network.shape.n_items
        items, targets = step.items.view(-1), step.targets.view(-1)
        ids = torch.cat([items, targets, step.negatives])
        fetched = self.adam.fetch(ids)
        count = len(items)
        coming, own, others = fetched[:count], fetched[count : 2 * count], fetched[2 * count :]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            embedded = coming[:, :-1].view(*step.items.shape, -1)
            inputs = network.inputs(embedded, step.items.clamp(max=padding - 1), step.codes)
            known = network.encode(inputs, step.segments, noise).view(count, -1)
            scores = known @ others[:, :-1].T
        scores = scores.float() + others[:, -1]
        own_score = (known.float() * own[:, :-1]).sum(dim=1) + own[:, -1]
        there = targets != padding
        itself = targets[:, None] == step.negatives
        if self.settings.loss == "gbce":
            losses = calibrated_bce(own_score, scores.masked_fill(itself, -math.inf), self.beta)
        else:
            corrected = scores - self.overstated[step.negatives]
            losses = sampled_softmax(own_score, corrected.masked_fill(itself, -math.inf))
        loss = torch.where(there, losses, 0.0).sum() * scale
        self.adam.update(ids, torch.autograd.grad(loss, self.adam.leaves))
        return loss.detach()

    def _tensor(self, values: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64)).to(self.device)
