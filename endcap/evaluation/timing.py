"""How long a prediction takes a model, asked one at a time, on the machine that judges it.

It is a measurement, not a property of the model alone: another machine, or this one busy, gives other numbers. All
models of a verdict are timed on the same histories, one model after the other.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from endcap.evaluation.ranks import Competitor, recommend
from endcap.features.sessions import Sessions
from endcap.features.split import slice_of, where
from endcap.spec.recommender import Protocol

SAMPLE = 200
WARM_UP = 20
ENOUGH = 50
MOST_SECONDS = 5.0
"""After so long the predictions timed are enough, if they are `ENOUGH`."""
PERCENTILE = 0.9
Doubles = NDArray[np.float64]


def drawn_prefixes(test: Sessions, protocol: Protocol, seed: int) -> list[Sessions]:
    """Prefixes out of those that are predicted from, drawn by the seed, each as a session alone; all where few."""
    counts = np.maximum(test.lengths - 1, 0)
    if protocol == "leave-one-out":
        counts = np.minimum(counts, 1)
    until = np.cumsum(counts)
    picks = np.random.default_rng(seed).permutation(int(until[-1]))[:SAMPLE]
    owners = np.searchsorted(until, picks, side="right")
    ends = test.lengths[owners] - (until[owners] - picks)
    alone = (slice_of(test, owner, owner + 1) for owner in owners.tolist())
    return [where(one, np.arange(len(one.items)) < end) for one, end in zip(alone, ends.tolist(), strict=True)]


def milliseconds(competitor: Competitor, prefixes: list[Sessions], k: int) -> Doubles:
    """What each prediction takes, warmed up: scores, exclusions and the k best, float64 [n]; n may fall short."""
    for one in prefixes[:WARM_UP]:
        recommend(competitor, one, k)
    taken: list[float] = []
    begun = time.perf_counter()
    for one in prefixes:
        start = time.perf_counter()
        recommend(competitor, one, k)
        end = time.perf_counter()
        taken.append(1000 * (end - start))
        if end - begun > MOST_SECONDS and len(taken) >= ENOUGH:
            break
    return np.array(taken)
