"""Two models with a fault in production, as a user might write them (docs/own-model.md), for `endcap demo-rollout`.

Offline both rank as well as their parent class: evaluation scores many sessions at a time, and its sessions have times.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from endcap.features.sessions import Sessions
from endcap.models.vsknn import VSKNN
from endcap.spec.model import VSKNNSpec


class SlowNeighbours(VSKNN):
    """V-SKNN, which waits for another service at each call."""

    name = "slow-neighbours"

    class Parameters(VSKNNSpec):
        """V-SKNN's own, and the wait."""

        wait: Annotated[float, Field(ge=0.0)] = 0.15
        """Seconds a call."""

    parameters: Parameters

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        """See `Model.score`."""
        time.sleep(self.parameters.wait)
        return super().score(sessions)


class RevisitNeighbours(VSKNN):
    """V-SKNN, whose scores are the higher the sooner a shopper came back to an item. It divides by that time.

    A shop's log says when each item was viewed. A request that lists items alone does not: all have the present moment.
    """

    name = "revisit-neighbours"

    Parameters = VSKNNSpec

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        """See `Model.score`. Raises ZeroDivisionError if a session has an item twice at the same time."""
        scores = super().score(sessions)
        for row, (begin, end) in enumerate(pairwise(sessions.offsets.tolist())):
            viewed: dict[int, int] = {}
            for item, moment in zip(
                sessions.items[begin:end].tolist(), sessions.times[begin:end].tolist(), strict=True
            ):
                if item in viewed:
                    scores[row] *= 1.0 + 1000.0 / (moment - viewed[item])
                viewed[item] = moment
        return scores
