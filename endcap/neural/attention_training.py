"""How SASRec learns: every event of a session is asked what follows it, against negatives that a step's targets share.

Every step has the same shapes and asks nothing of the device, so that a GPU replays it as one CUDA graph.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from endcap.neural.attention import AttentionNetwork
from endcap.neural.attention_blocks import AttentionBatch, AttentionBlocks
from endcap.neural.cuda_graphs import EagerSteps, ReplayedSteps
from endcap.neural.negatives import NegativeSampler
from endcap.neural.optimisers import Adam, DenseOptimiser, TableOptimiser, combine
from endcap.neural.scratch import Scratch
from endcap.neural.sequences import Sequences
from endcap.neural.threads import limit_threads

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


def sampled_softmax(own: Tensor, rivals: Tensor) -> Tensor:
    """Cross-entropy of each target: [t], from its score [t] and those of its competitors [t, n].

    Where the log of how often it is drawn was taken off each competitor's score, and -inf stands at the target
    itself, exp of own and others is an unbiased estimate of the softmax's sum over all items: the logQ correction
    (Bengio and Senécal, 2008), without the target, which is always there.
    """
    return torch.logaddexp(own, torch.logsumexp(rivals, dim=1)) - own


def calibrated_bce(own: Tensor, rivals: Tensor, beta: float) -> Tensor:
    """gBCE of each target: [t] (Petrov and Macdonald, 2023, equation 10), -inf for no competitor."""
    return softplus(rivals).sum(dim=1) - beta * logsigmoid(own)


def compute_calibration_power(share: float, calibration: float) -> float:
    """beta of gBCE (equation 15), from the share of all items that a target competes with and t."""
    return share * (calibration * (1 - 1 / share) + 1 / share)


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
        rivals = network.dense()
        flat = [values.reshape(-1) for values in rivals.values()]
        self.table: TableOptimiser | None = None
        if n_items >= _TABLE_SHARE * touched:
            self.table = TableOptimiser(rows, rule)
            self._place = torch.zeros(n_items + 1, dtype=torch.int64, device=rows.device)
            self._scratch = Scratch(rows.device)
        else:
            flat.append(torch.cat([rows, rows.new_zeros(1, width + 1)]).view(-1))
        self.dense = DenseOptimiser(torch.cat(flat), rule)
        parts = torch.split_with_sizes(self.dense.values, [len(values) for values in flat])
        self._leaves = []
        for (name, values), part in zip(rivals.items(), parts, strict=False):
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
        self.network, self.settings, self.seed = network, settings, seed
        shape, self.device = network.shape, network.device
        events = np.bincount(sessions.items, minlength=shape.n_items)
        negatives = NegativeSampler(events, settings.negatives_alpha, settings.negatives)
        self.blocks = AttentionBlocks(
            sessions,
            shape.n_items,
            negatives,
            batch=settings.batch,
            longest=shape.max_events,
            dropout=settings.dropout,
            dropped=(shape.dropped, shape.width),
            device=self.device,
        )
        positions = self.blocks.rows * self.blocks.width
        self.adam = AttentionAdam(network, settings.learning_rate, 2 * positions + negatives.count)
        self.overstated = torch.from_numpy(np.log(np.maximum(negatives.expected, 1e-30), dtype=np.float32))
        self.overstated = self.overstated.to(self.device)
        share = min(1.0, negatives.count / max(1, shape.n_items - 1))
        self.beta = compute_calibration_power(share, settings.calibration) if share else 1.0
        self.total = torch.zeros((), device=self.device)
        most = self.blocks.steps_of_a_block()
        self.run = (
            ReplayedSteps(self.step, graph=True, most=most) if self.device.type == "cuda" else EagerSteps(self.step)
        )
        self.work = positions * shape.width * max(negatives.count, 4 * shape.width)

    def epoch(self, number: int) -> float:
        """Train one epoch (from 0); its mean loss for an event. 0 where no event follows another."""
        if not self.blocks.targets:
            return 0.0
        self.total.zero_()
        with limit_threads(self.work):
            for block in self.blocks.epoch(self.seed, number):
                self.run(block)
        return float(self.total) / self.blocks.targets

    def step(self, batch: AttentionBatch) -> None:
        """Learn from one step, and add its targets' losses to the total."""
        count = batch.items.numel()
        targets = batch.targets.view(-1)
        ids = torch.cat([batch.items.view(-1), targets, batch.negatives])
        fetched = self.adam.fetch(ids)
        coming, own, rivals = fetched[:count], fetched[count : 2 * count], fetched[2 * count :]
        known, scores = self._scores(batch, coming[:, :-1], rivals[:, :-1])
        scores = scores + rivals[:, -1]
        own_score = (known * own[:, :-1]).sum(dim=1) + own[:, -1]
        itself = targets[:, None] == batch.negatives
        if self.settings.loss == "gbce":
            losses = calibrated_bce(own_score, scores.masked_fill(itself, -math.inf), self.beta)
        else:
            corrected = scores - self.overstated[batch.negatives]
            losses = sampled_softmax(own_score, corrected.masked_fill(itself, -math.inf))
        loss = torch.where(targets != self.network.shape.n_items, losses, 0.0).sum()
        # Divided by all positions, not the targets on them: the last step's few do not count more.
        self.adam.update(ids, torch.autograd.grad(loss / count, self.adam.leaves))
        self.total += loss.detach()

    def _scores(self, batch: AttentionBatch, coming: Tensor, rivals: Tensor) -> tuple[Tensor, Tensor]:
        """What is known after each event, [events, width], and the negatives' scores without bias, [events, n]."""
        # Nothing is used twice, so there is nothing to cache; a CUDA graph must not hold on to what was.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda", cache_enabled=False):
            inputs = batch.items.clamp(max=self.network.shape.n_items - 1)
            inputs = self.network.inputs(coming.view(*batch.items.shape, -1), inputs, batch.codes)
            dropout = batch.dropout if batch.dropout.numel() else None
            known = self.network.encode(inputs, batch.segments, dropout).view(len(coming), -1)
            scores = known @ rivals.T
        return known.float(), scores.float()
