"""Optimisers over dense weights and over the touched rows of large tables.

A table keeps the optimiser's numbers for a row beside the row: both are fetched and written back together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from endcap.neural.scratch import Scratch


class UpdateRule(Protocol):
    """How a gradient changes weights.

    Attributes
    ----------
    parts
        Numbers that the rule keeps for each weight.
    """

    @property
    def parts(self) -> int: ...

    def dense(self, values: Tensor, state: Tensor, gradient: Tensor, steps: Tensor, spare: Tensor) -> None:
        """Change values [p] and state [parts, p] in place.

        Parameters
        ----------
        values, state
            Weights, and the rule's numbers for them.
        gradient, spare
            [p]; both may be overwritten.
        steps
            A scalar: the number of steps, this one included.
        """

    def rows(self, rows: Tensor, gradient: Tensor, steps: Tensor, spare: Tensor) -> None:
        """Change rows [m, 1 + parts, w] in place.

        Parameters
        ----------
        rows
            Weights, and the rule's numbers for them.
        gradient, spare
            [m, w]; both may be overwritten.
        steps
            A scalar: the number of steps, this one included.
        """


@dataclass(frozen=True)
class Adagrad:
    """Adagrad (Duchi et al., 2011), with momentum on its steps as in GRU4Rec.

    A row that a step does not touch keeps its momentum unchanged.
    """

    rate: float
    momentum: float = 0.0
    epsilon: float = 1e-6

    @property
    def parts(self) -> int:
        return 2 if self.momentum else 1

    def dense(self, values: Tensor, state: Tensor, gradient: Tensor, steps: Tensor, spare: Tensor) -> None:
        state[0].addcmul_(gradient, gradient)
        torch.add(state[0], self.epsilon, out=spare).sqrt_()
        if self.momentum:
            state[1].mul_(self.momentum).addcdiv_(gradient, spare)
            values.add_(state[1], alpha=-self.rate)
        else:
            values.addcdiv_(gradient, spare, value=-self.rate)

    def rows(self, rows: Tensor, gradient: Tensor, steps: Tensor, spare: Tensor) -> None:
        weights, total = rows[:, 0], rows[:, 1]
        total.addcmul_(gradient, gradient)
        torch.add(total, self.epsilon, out=spare).rsqrt_().mul_(gradient)
        if self.momentum:
            spare = rows[:, 2].mul_(self.momentum).add_(spare)
        weights.add_(spare, alpha=-self.rate)


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, 2015). Only steps that touch a table's row move it ("lazy")."""

    rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    parts = 2

    def dense(self, values: Tensor, state: Tensor, gradient: Tensor, steps: Tensor, spare: Tensor) -> None:
        first, second = self.betas
        if self.weight_decay:
            gradient.add_(values, alpha=self.weight_decay)
        state[0].lerp_(gradient, 1 - first)
        state[1].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        torch.mul(state[1], 1 / (1 - second**steps), out=spare).sqrt_().add_(self.epsilon)
        gradient.copy_(state[0]).mul_(-self.rate / (1 - first**steps))
        values.addcdiv_(gradient, spare)

    def rows(self, rows: Tensor, gradient: Tensor, steps: Tensor, spare: Tensor) -> None:
        first, second = self.betas
        weights, mean, square = rows[:, 0], rows[:, 1], rows[:, 2]
        if self.weight_decay:
            gradient.add_(weights, alpha=self.weight_decay)
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        torch.mul(square, 1 / (1 - second**steps), out=spare).sqrt_().add_(self.epsilon)
        torch.mul(mean, -self.rate / (1 - first**steps), out=gradient)
        weights.addcdiv_(gradient, spare)


class DenseOptimiser:
    """Optimises dense weights as one vector, so that a step is a few operations however many weights there are.

    Parameters
    ----------
    values
        float32 [p], the weights; changed in place.
    rule
        How a gradient changes them.

    Attributes
    ----------
    state
        float32 [parts, p], the rule's numbers.
    """

    def __init__(self, values: Tensor, rule: UpdateRule) -> None:
        self.values, self.rule = values, rule
        self.state = values.new_zeros(rule.parts, len(values))
        self.steps = torch.zeros((), device=values.device)
        self._spare = torch.empty_like(values)

    def update(self, gradient: Tensor) -> None:
        """Make one step. gradient: [p], overwritten."""
        self.steps.add_(1)
        self.rule.dense(self.values, self.state, gradient, self.steps, self._spare)


class TableOptimiser:
    """Optimises a table with a row for each item, of which a step reads and writes only some rows.

    Parameters
    ----------
    values
        float32 [n, w], the weights to begin with; copied.
    rule
        How a gradient changes them.

    Attributes
    ----------
    memory
        float32 [n + 1, 1 + parts, w], the weights and the rule's numbers beside them. The last row is padding: a step
        that touches fewer rows than usual names it any number of times. It is always 0.
    """

    def __init__(self, values: Tensor, rule: UpdateRule) -> None:
        self.rule = rule
        self.padding, width = values.shape
        self.memory = values.new_zeros(self.padding + 1, 1 + rule.parts, width)
        self.memory[: self.padding, 0] = values
        self.steps = torch.zeros((), device=values.device)
        self._flat = self.memory.view(self.padding + 1, -1)
        self._array = self._flat.numpy() if values.device.type == "cpu" else None

    @property
    def values(self) -> Tensor:
        """The weights: [n, w], a view."""
        return self.memory[: self.padding, 0]

    def fetch(self, ids: Tensor, out: Tensor) -> None:
        """Copy rows and the rule's numbers: of ids int64 [m] into `out` [m, 1 + parts, w]."""
        torch.index_select(self._flat, 0, ids, out=out.view(len(ids), -1))

    def update(self, ids: Tensor, gradient: Tensor, rows: Tensor, scratch: Scratch) -> None:
        """Make one step.

        Parameters
        ----------
        ids
            int64 [m], distinct except for the padding.
        gradient
            [m, w]; overwritten.
        rows
            What `fetch` wrote; overwritten.
        scratch
            Memory for results in between.
        """
        self.steps.add_(1)
        self.rule.rows(rows, gradient, self.steps, scratch("table.spare", *gradient.shape))
        flat = rows.view(len(ids), -1)
        if self._array is not None:
            self._array[ids.numpy()] = flat.numpy()  # many times as fast as PyTorch's index_copy_
        else:
            self._flat.index_copy_(0, ids, flat)
        self._flat[self.padding].zero_()


def combine(ids: Tensor, gradient: Tensor, place: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """Make ids distinct: one of equal ids gets the sum of their gradients, the others become padding with gradient 0.

    Parameters
    ----------
    ids
        int64 [m].
    gradient
        [m, w].
    place
        int64 [n + 1] with any content; overwritten.
    padding
        The id of the padding.

    Returns
    -------
    tuple of Tensor
        The ids [m] and their gradients [m, w].

    Notes
    -----
    Every shape is fixed, nothing is sorted and no size is asked of the device, so that a CUDA graph may hold it.
    """
    own = torch.arange(len(ids), device=ids.device)
    place.index_copy_(0, ids, own)
    chosen = place.index_select(0, ids)
    total = torch.zeros_like(gradient).index_add_(0, chosen, gradient)
    return ids.masked_fill(chosen != own, padding), total
