"""How long a model takes to rank, asked one query at a time, on the machine that judges it.

This is a measurement, and no property of the model alone: another machine, or a busy one, gives other numbers. All
models of a verdict are timed on the same queries, one model after the other.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from endcap.evaluation.scoring import EvaluatedModel, rank_histories
from endcap.features.queries import QueryTargets
from endcap.features.sessions import Sessions
from endcap.features.split import slice_sessions

SAMPLE = 200
WARM_UP = 20
ENOUGH = 50
MOST_SECONDS = 5.0
"""After this time the timed rankings are enough, if there are `ENOUGH`."""
PERCENTILE = 0.9
Doubles = NDArray[np.float64]


def draw_prefixes(predictions: QueryTargets, seed: int) -> list[Sessions]:
    """Draw queries by the seed, each as a session of its own; all of them if there are few."""
    first = predictions.first
    picks = first[np.random.default_rng(seed).permutation(len(first))[:SAMPLE]]
    drawn = predictions.sessions.beginnings(predictions.owner[picks], predictions.ends[picks])
    return [slice_sessions(drawn, place, place + 1) for place in range(len(drawn))]


def time_rankings(competitor: EvaluatedModel, prefixes: list[Sessions], k: int) -> Doubles:
    """Time each ranking after a warm-up, in ms: scores, exclusions and the k best. float64 [n]; slow models are timed
    less."""
    for prefix in prefixes[:WARM_UP]:
        rank_histories(competitor, prefix, k)
    taken: list[float] = []
    begun = time.perf_counter()
    for prefix in prefixes:
        start = time.perf_counter()
        rank_histories(competitor, prefix, k)
        end = time.perf_counter()
        taken.append(1000 * (end - start))
        if end - begun > MOST_SECONDS and len(taken) >= ENOUGH:
            break
    return np.array(taken)
