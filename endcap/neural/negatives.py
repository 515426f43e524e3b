"""Negatives: items that are drawn by popularity^alpha, for many steps at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]
_BINS = 4  # of the guide, for each item


class NegativeSampler:
    """Draws a step's negatives by (training events)^alpha, with repetition, among the items that have an event.

    Parameters
    ----------
    events
        [n_items], training events of each item.
    alpha
        Exponent of the popularity.
    count
        Negatives of a step.

    Attributes
    ----------
    expected
        float64 [n_items], how often an item is among the negatives of a step, on average.

    Notes
    -----
    The draws are stratified: the j-th falls into the j-th of `count` equal shares of the distribution. An item is
    expected exactly as often as in independent draws, but its number varies less. If there are no more items than
    draws, every item comes once.
    """

    def __init__(self, events: NDArray[Any], alpha: float, count: int) -> None:
        self.known = np.flatnonzero(events).astype(np.int64)
        self.all = count >= len(self.known)
        self.count = len(self.known) if self.all else count
        weights = events[self.known].astype(np.float64) ** alpha
        share = weights / max(weights.sum(), 1e-300)
        self._until = np.cumsum(share)
        if len(share):
            self._until[-1] = 1.0
        # Where the search for a share begins, by equal bins: few items on (Chen and Asau's guide table).
        bins = _BINS * len(share)
        self._guide = np.searchsorted(self._until, np.arange(bins) / max(bins, 1), side="right")
        self.expected = np.zeros(len(events))
        self.expected[self.known] = 1.0 if self.all else count * share

    def block(self, steps: int, rng: np.random.Generator) -> Ints:
        """Draw the negatives of several steps, each row ascending: int64 [steps, count]."""
        if self.all:
            return np.broadcast_to(self.known, (steps, self.count))
        shares = rng.random((steps, self.count))
        shares += np.arange(self.count)
        shares /= self.count
        np.minimum(shares, np.nextafter(1.0, 0.0), out=shares)
        positions = self._guide[(shares * len(self._guide)).astype(np.int64)]
        while (short := self._until[positions] <= shares).any():
            positions += short
        return self.known[positions]

    def counts(self, steps: int, rng: np.random.Generator) -> NDArray[np.int32]:
        """Draw how often each item is among the negatives of several steps: int32 [steps, n_items].

        It is faster than `block` unless the catalogue is many times as large as the draws.
        """
        counts = np.zeros((steps, len(self.expected)), dtype=np.int32)
        if self.all:
            counts[:, self.known] = 1
            return counts
        # Below the share `until` of an item lie the draws of whole strata, and the next stratum's draw or not.
        whole = (self._until * self.count).astype(np.int64)
        part = (self._until * self.count - whole).astype(np.float32)
        chance = np.zeros((steps, self.count + 1), dtype=np.float32)
        chance[:, : self.count] = rng.random((steps, self.count), dtype=np.float32)
        below = whole.astype(np.int32) + (chance[:, whole] < part)
        counts[:, self.known] = np.diff(below, axis=1, prepend=np.int32(0))
        return counts

    def draw(self, device: torch.device, steps: int, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        """Draw what `block` draws, on a device: int64 [steps, count].

        Parameters
        ----------
        device
            Where the result is put.
        steps
            Number of steps.
        rng, generator
            `rng` draws on a CPU, `generator` on any other device.
        """
        if device.type == "cpu":
            return torch.from_numpy(np.ascontiguousarray(self.block(steps, rng)))
        known = torch.from_numpy(self.known).to(device)
        if self.all:
            return known.expand(steps, self.count)
        until = torch.from_numpy(self._until).to(device)
        shares = torch.rand(steps, self.count, device=device, generator=generator, dtype=torch.float64)
        shares.add_(torch.arange(self.count, device=device)).div_(self.count)
        return known[torch.searchsorted(until, shares, right=True).clamp_(max=len(self.known) - 1)]
