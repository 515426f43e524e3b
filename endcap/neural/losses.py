"""Losses over sampled competitors, each with its gradient written out.

Row i of `scores` [b, m] holds lane i's scores of m competitors. Its target is one of them, at the flat position aims[i]
(i * m + column). A column may stand for an item that was drawn several times: `offset` holds the log of how often. It
holds `NEVER` for a column that is no competitor of a lane. A loss writes the gradient by `scores` and returns the sum
of the lanes' losses, each multiplied by its `scale` [b, 1] (0 for a lane that is not active).
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
    """A loss of a step's scores.

    Attributes
    ----------
    offset_in_scores
        Whether the caller adds the offset to the scores beforehand.
    """

    offset_in_scores: bool

    def __call__(
        self, scores: Tensor, offset: Tensor, aims: Tensor, scale: Tensor, gradient: Tensor, scratch: Scratch
    ) -> Tensor:
        """Write the gradient and return the loss.

        Parameters
        ----------
        scores
            float32 [b, m]; may be overwritten.
        offset
            float32 [1 or b, m], see the module.
        aims
            int64 [b], flat positions of the targets.
        scale
            float32 [b, 1], the factor of each lane's loss.
        gradient
            float32 [b, m], written.
        scratch
            Memory for results in between.

        Returns
        -------
        Tensor
            A scalar.
        """


class CrossEntropy:
    """Softmax cross-entropy: -log softmax(scores)[target]. The offset is part of the scores.

    Notes
    -----
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
    """BPR-max (Hidasi and Karatzoglou, 2018, equations 9 and 10).

    Parameters
    ----------
    penalty
        Weight of the penalty, see the notes.
    elu
        Parameter of the elu that scores pass through first; 0: none.

    Notes
    -----
    With s_j the softmax of the negatives' scores, the loss of a target is

        -log Σ_j s_j sigmoid(o_target - o_j) + penalty Σ_j s_j o_j²

    The target is no negative of its own.
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
