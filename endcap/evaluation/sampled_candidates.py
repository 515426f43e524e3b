"""Candidates that are drawn for each target, if a protocol ranks a few items instead of the whole catalogue.

Figures on sampled items are not those of the whole catalogue scaled: the number of items drawn may decide which of two
models is ahead (Krichene and Rendle, 2020, "On sampled metrics for item recommendation"). They exist here because
published figures are stated by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from endcap.features.queries import QueryTargets
from endcap.features.sessions import Ints, Sessions
from endcap.models import NO_ITEM
from endcap.spec.evaluation import SampledNegatives

Items = NDArray[np.int32]


@dataclass(frozen=True)
class SampledCandidates:
    """Uniform draws, without repetition, from the items that neither a test session nor its customer ever met.

    `test` has the sessions that are asked about, and `training` the earlier sessions of their customers. One seed draws
    the same items for each model, in whatever blocks it is asked.
    """

    test: Sessions
    training: Sessions
    n_items: int
    rules: SampledNegatives
    seed: int

    @property
    def draws(self) -> int:
        """How many draws the figures are the mean of."""
        return self.rules.draws

    def select(self, chosen: QueryTargets) -> Items:
        """Draw for some predictions: int32 [draws, b, items], padded with -1 if fewer items were never met.

        Each target of a query has draws of its own, by its rank among the query's targets, so the order of lines does
        not matter.
        """
        drawn = np.full((self.draws, len(chosen), self.rules.count), NO_ITEM, dtype=np.int32)
        met, last = np.zeros(0, dtype=np.int64), -1
        draws_of = (chosen.ends + chosen.number).tolist()
        for row, (session, place) in enumerate(zip(chosen.owner.tolist(), draws_of, strict=True)):
            if session != last:
                met, last = self._met(session), session
            left = self.n_items - len(met)
            size = min(self.rules.count, left)
            generator = np.random.default_rng((self.seed, session, place))
            for draw in range(self.draws):
                picks = generator.choice(left, size, replace=False, shuffle=False)
                # The n-th item that was not met: n, and one more for each that was met up to there.
                drawn[draw, row, :size] = picks + np.searchsorted(met - np.arange(len(met)), picks, side="right")
        return drawn

    def count(self, predictions: QueryTargets) -> Ints:
        """Count the items of each draw for a prediction: int64 [p]; fewer than the spec says if fewer were never
        met."""
        sessions, row = np.unique(predictions.owner, return_inverse=True)
        left = [self.n_items - len(self._met(session)) for session in sessions.tolist()]
        sizes: Ints = np.minimum(np.array(left, dtype=np.int64), self.rules.count)[row]
        return sizes

    @cached_property
    def _by_customer(self) -> tuple[NDArray[np.int32], Items]:
        """Customer and item of each event of training and test, by customer.

        Looking through all sessions for each query takes the square of their number.
        """
        parts = (self.training, self.test)
        customers = np.concatenate([np.repeat(part.customers, part.lengths) for part in parts])
        order = np.argsort(customers, kind="stable")
        return customers[order], np.concatenate([part.items for part in parts])[order]

    def _met(self, session: int) -> Ints:
        """Return the distinct items of a test session and of its customer's other sessions, ascending."""
        customer = self.test.customers[session]
        if customer < 0:
            own = self.test.items[self.test.offsets[session] : self.test.offsets[session + 1]]
            return np.unique(own).astype(np.int64)
        customers, items = self._by_customer
        begin, end = np.searchsorted(customers, np.array([customer, customer + 1], dtype=customers.dtype))
        return np.unique(items[begin:end]).astype(np.int64)
