"""Losses over sampled competitors, each with its gradient written out.

Row i of `scores` [b, m] holds lane i's scores of m competitors; its target is one of them, at the flat position
aims[i] (i * m + column). A competitor column may stand for an item drawn several times: the log of how often comes in
by `offset`. Columns that are no competitors of a lane have NEVER there. A loss writes the gradient by `scores` and
returns the sum of the lanes' losses, each times its `scale` [b, 1] (0 for a lane that is not active).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from endcap.neural.scratch import Scratch

NEVER = -1e30
"""Stands for minus infinity without making a NaN of a row that has nothing else."""
_TINY = 1e-37


class Loss(Protocol):
    """How a step's scores are judged. `offset_in_scores`: whether the offset is added to the scores beforehand."""

    offset_in_scores: bool

    def __call__(
        self, scores: Tensor, offset: Tensor, aims: Tensor, scale: Tensor, gradient: Tensor, scratch: Scratch
    ) -> Tensor:
        """Write the gradient [b, m] and return the loss, a scalar. `scores` may be overwritten."""


class CrossEntropy:
    """Softmax cross-entropy: -log softmax(scores)[target]. The offset is part of the scores.

    With `offset` = log(how often drawn) - log(how often expected), this estimates the softmax over all items: the logQ
    correction (Bengio and Senécal, 2008).
    """

    offset_in_scores = True

    def __call__(
        self, scores: Tensor, offset: Tensor, aims: Tensor, scale: Tensor, gradient: Tensor, scratch: Scratch
    ) -> Tensor:
        torch.softmax(scores, 1, out=gradient)
        flat, each = gradient.view(-1), scale[:, 0]
        chance = flat.index_select(0, aims)
        flat.index_add_(0, aims, torch.ones_like(chance), alpha=-1)
        gradient.mul_(scale)
        return -chance.clamp_min_(_TINY).log_().dot(each)


class BPRMax:
    """BPR-max (Hidasi and Karatzoglou, 2018, equations 9 and 10): with s_j the softmax of the negatives' scores,

        -log Σ_j s_j sigmoid(o_target - o_j) + penalty Σ_j s_j o_j²

    on scores o that first pass through elu where `elu` > 0. The target is no negative of its own.
    """

    offset_in_scores = False

    def __init__(self, penalty: float, elu: float) -> None:
        self.penalty, self.elu = penalty, elu

    def __call__(
        self, scores: Tensor, offset: Tensor, aims: Tensor, scale: Tensor, gradient: Tensor, scratch: Scratch
    ) -> Tensor:
        shape = tuple(scores.shape)
        if self.elu > 0:
            torch._C._nn.elu_(scores, self.elu)
        own = scores.view(-1).index_select(0, aims)[:, None]
        weights, better = scratch("bpr.weights", *shape), scratch("bpr.better", *shape)
        torch.add(scores, offset, out=better)
        better.view(-1).index_fill_(0, aims, NEVER)
        torch.softmax(better, 1, out=weights)
        torch.sub(own, scores, out=better)
        better.sigmoid_()
        torch.mul(weights, better, out=gradient)
        chance = gradient.sum(1, keepdim=True).clamp_min_(_TINY)
        # Gradient of the first part by o_j: s_j (1 - b_j² / Σ s b), with b_j the sigmoid; by o_target: minus their sum.
        gradient.mul_(better).div_(chance)
        torch.sub(weights, gradient, out=gradient)
        by_own = gradient.sum(1)
        # Of the second part: penalty s_j (o_j² + 2 o_j - Σ s o²).
        torch.mul(scores, weights, out=better)
        gradient.add_(better, alpha=2 * self.penalty)
        better.mul_(scores)
        spread = better.sum(1, keepdim=True)
        gradient.add_(better, alpha=self.penalty)
        gradient.addcmul_(weights, spread, value=-self.penalty)
        gradient.view(-1).index_copy_(0, aims, by_own.neg_())
        if self.elu > 0:
            torch.ops.aten.elu_backward.grad_input(gradient, self.elu, 1.0, 1.0, True, scores, grad_input=gradient)
        gradient.mul_(scale)
        return (spread.mul_(self.penalty) - chance.log_()).mul_(scale).sum()
