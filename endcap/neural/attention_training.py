"""How SASRec is trained: each event of a session predicts the next one, against negatives that a step's targets share.

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
    """Settings of the training of SASRec.

    Attributes
    ----------
    batch
        Sessions of a step, on average.
    negatives
        Negatives of a step, which its targets share.
    negatives_alpha
        Exponent of the popularity by which negatives are drawn.
    loss
        `cross-entropy` (`sampled_softmax`) or `gbce` (`calibrated_bce`).
    calibration
        t of gBCE, 0 to 1.
    learning_rate
        Step size of Adam.
    dropout
        Share of the inputs, and of what each part of a block adds, that is dropped.
    """

    batch: int = 128
    negatives: int = 512
    negatives_alpha: float = 0.5
    loss: Literal["cross-entropy", "gbce"] = "cross-entropy"
    calibration: float = 0.75
    learning_rate: float = 0.004
    dropout: float = 0.3


def sampled_softmax(own: Tensor, rivals: Tensor) -> Tensor:
    """Compute the sampled cross-entropy of each target.

    Parameters
    ----------
    own
        [t], the targets' scores.
    rivals
        [t, n], the scores of each target's negatives; -inf where a negative is the target itself.

    Returns
    -------
    Tensor
        [t].

    Notes
    -----
    If the log of how often a negative is drawn was subtracted from its score, exp of own and rivals is an unbiased
    estimate of the softmax's sum over all items: the logQ correction (Bengio and Senécal, 2008), without the target,
    which is always in the sum.
    """
    return torch.logaddexp(own, torch.logsumexp(rivals, dim=1)) - own


def calibrated_bce(own: Tensor, rivals: Tensor, beta: float) -> Tensor:
    """Compute gBCE of each target (Petrov and Macdonald, 2023, equation 10).

    Parameters
    ----------
    own
        [t], the targets' scores.
    rivals
        [t, n], the scores of each target's negatives; -inf for one that does not count.
    beta
        See `compute_calibration_power`.

    Returns
    -------
    Tensor
        [t].
    """
    return softplus(rivals).sum(dim=1) - beta * logsigmoid(own)


def compute_calibration_power(share: float, calibration: float) -> float:
    """Compute beta of gBCE (Petrov and Macdonald, 2023, equation 15).

    Parameters
    ----------
    share
        Share of all items that a target competes with.
    calibration
        t of the paper, 0 to 1.
    """
    return share * (calibration * (1 - 1 / share) + 1 / share)


class AttentionAdam:
    """Adam over the network's weights. It takes their memory over: the network's weights become views of it.

    An item's embedding and bias are one row. If a step touches few rows, the rows are a table of which a step reads and
    writes only some. Otherwise they are dense like all other weights.

    Parameters
    ----------
    network
        Its weights are trained.
    rate
        Learning rate.
    touched
        Number of rows that a step names, repetitions included.
    """

    def __init__(self, network: AttentionNetwork, rate: float, touched: int) -> None:
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
        """Return the optimiser's state beside the weights, by name; some arrays are views, not copies."""
        state = {"dense": self.dense.state, "steps": self.dense.steps}
        if self.table is not None:
            state["table"] = self.table.memory[:, 1:]
        return {name: values.contiguous().cpu().numpy() for name, values in state.items()}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Continue from what `arrays` returned."""
        self.dense.state.copy_(torch.from_numpy(arrays["dense"]))
        self.dense.steps.copy_(torch.from_numpy(arrays["steps"]))
        if self.table is not None:
            self.table.memory[:, 1:] = torch.from_numpy(arrays["table"])
            self.table.steps.copy_(self.dense.steps)

    def fetch(self, ids: Tensor) -> Tensor:
        """Return rows of embedding and bias, [m, width + 1], of ids int64 [m]; the catalogue's size is padding.

        `update` takes the loss's gradient by `leaves`.
        """
        if self.table is None:
            return self._rows.index_select(0, ids)
        self._fetched = self.table.memory[:, 0].index_select(0, ids).requires_grad_()
        return self._fetched

    @property
    def leaves(self) -> list[Tensor]:
        """The tensors that the loss is derived by."""
        return [*self._leaves, self._rows if self.table is None else self._fetched]

    def update(self, ids: Tensor, gradients: Sequence[Tensor]) -> None:
        """Make one step. ids: as fetched last. gradients: the loss's, by `leaves`."""
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
    """Trains SASRec epoch by epoch. Each epoch draws everything random from the seed and its number, so that training
    can begin at any epoch.

    Parameters
    ----------
    network
        The network to train, on the device to train on.
    sessions
        Training sessions, with a code of each event for each event feature of the network.
    settings
        Settings of the training.
    seed
        Seed of all that is random.
    """

    def __init__(self, network: AttentionNetwork, sessions: Sequences, settings: AttentionTraining, seed: int) -> None:
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
        most = self.blocks.count_block_steps()
        self.run = (
            ReplayedSteps(self.step, graph=True, most=most) if self.device.type == "cuda" else EagerSteps(self.step)
        )
        self.work = positions * shape.width * max(negatives.count, 4 * shape.width)

    def epoch(self, number: int) -> float:
        """Train one epoch (from 0) and return its mean loss for an event; 0 where no event follows another."""
        if not self.blocks.targets:
            return 0.0
        self.total.zero_()
        with limit_threads(self.work):
            for block in self.blocks.epoch(self.seed, number):
                self.run(block)
        return float(self.total) / self.blocks.targets

    def step(self, batch: AttentionBatch) -> None:
        """Train one step, and add its targets' losses to the total."""
        count = batch.items.numel()
        targets = batch.targets.view(-1)
        ids = torch.cat([batch.items.view(-1), targets, batch.negatives])
        fetched = self.adam.fetch(ids)
        input_rows, target_rows, rivals = fetched[:count], fetched[count : 2 * count], fetched[2 * count :]
        states, scores = self._compute_scores(batch, input_rows[:, :-1], rivals[:, :-1])
        scores = scores + rivals[:, -1]
        own_score = (states * target_rows[:, :-1]).sum(dim=1) + target_rows[:, -1]
        is_target = targets[:, None] == batch.negatives
        if self.settings.loss == "gbce":
            losses = calibrated_bce(own_score, scores.masked_fill(is_target, -math.inf), self.beta)
        else:
            corrected = scores - self.overstated[batch.negatives]
            losses = sampled_softmax(own_score, corrected.masked_fill(is_target, -math.inf))
        loss = torch.where(targets != self.network.shape.n_items, losses, 0.0).sum()
        # Divided by all positions, not the targets on them: the last step's few do not count more.
        self.adam.update(ids, torch.autograd.grad(loss / count, self.adam.leaves))
        self.total += loss.detach()

    def _compute_scores(self, batch: AttentionBatch, input_rows: Tensor, rivals: Tensor) -> tuple[Tensor, Tensor]:
        """Return the state after each event, [events, width], and the negatives' scores without bias, [events, n]."""
        # Nothing is used twice, so there is nothing to cache; a CUDA graph must not hold on to what was.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda", cache_enabled=False):
            inputs = batch.items.clamp(max=self.network.shape.n_items - 1)
            inputs = self.network.inputs(input_rows.view(*batch.items.shape, -1), inputs, batch.codes)
            dropout = batch.dropout if batch.dropout.numel() else None
            states = self.network.encode(inputs, batch.segments, dropout).view(len(input_rows), -1)
            scores = states @ rivals.T
        return states.float(), scores.float()
