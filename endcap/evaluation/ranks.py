"""Queries of the test sessions, ranked over the whole catalogue or some candidates, in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from endcap.evaluation.given_candidates import GivenCandidates
from endcap.evaluation.sampled_candidates import SampledCandidates
from endcap.evaluation.scoring import (
    EvaluatedModel,
    Items,
    find_whole_sessions,
    score_prefixes,
    translate_to_own,
    translate_to_test,
)
from endcap.features.queries import QueryTargets
from endcap.features.sessions import Ints
from endcap.models import NO_ITEM, top
from endcap.models.validation import rank_within

SCORE_BYTES = 64 * 2**20
"""Memory for one block's scores: small enough to stay near the processor, far below what a machine has."""
PREFIX_EVENTS = 4_000_000
"""Events of all prefixes that are laid out at once. A session of length l has l (l - 1) / 2 of them."""


@dataclass(frozen=True)
class RankedBlock:
    """Some predictions, and what a model recommends for each.

    Attributes
    ----------
    owner
        int64 [b]: the session, ascending.
    ends
        int64 [b]: events of the query.
    places
        int64 [b]: where the target's event stands in the session.
    targets
        int32 [b]: the target's item.
    tops
        int32 [b, k]: best first, in the model's own vocabulary; -1 behind a shorter list's end.
    listed
        The same in the test's vocabulary; -1 also for an item that the test does not know.
    ranks
        int64 [b]: the target's place in the list without the other targets of its query, 1 for the best; 0 if it is not
        among the first k.
    weights
        float64 [b]: what a prediction counts. It is less than 1 if the query has several targets, or for one of several
        draws of candidates.
    """

    owner: Ints
    ends: Ints
    places: Ints
    targets: Items
    tops: Items
    listed: Items
    ranks: Ints
    weights: NDArray[np.float64]


def rank_predictions(
    competitor: EvaluatedModel,
    predictions: QueryTargets,
    k: int,
    *,
    negatives: SampledCandidates | GivenCandidates | None = None,
) -> Iterator[RankedBlock]:
    """Rank the k best items for each prediction, in blocks of whole queries.

    Parameters
    ----------
    competitor
        The model.
    predictions
        Queries and targets.
    k
        Length of the lists.
    negatives
        Candidates: only these and the target are ranked, in a block for each draw. None: the whole catalogue.

    Yields
    ------
    RankedBlock
        Ties go to the smaller vocabulary index, which is the more popular item. Items that the spec excludes, or that a
        rule hides, are never listed, so such a target is a miss. So is a target that the model does not know. Items of
        a query that the model does not know are skipped.
    """
    size = max(1, SCORE_BYTES // (4 * competitor.model.n_items))
    for part in _split_queries(predictions, size):
        prefixes = part.prefixes()
        for begin in range(0, len(prefixes), size):
            end = min(begin + size, len(prefixes))
            chosen = part.take(slice(*np.searchsorted(part.row, [begin, end]).tolist()))
            begun = part.begun[part.owner[part.first[begin:end]]]
            if end - begin == len(prefixes):
                scores = score_prefixes(competitor, prefixes, begun, find_whole_sessions(competitor, chosen, size))
            else:
                scores = score_prefixes(competitor, prefixes.take(np.arange(begin, end)), begun)
            if negatives is None:
                yield _rank_catalogue(competitor, scores, chosen, k)
                continue
            for drawn in negatives.select(chosen):
                yield _rank_candidates(competitor, scores, chosen, drawn, k, negatives.draws)


def _rank_catalogue(
    competitor: EvaluatedModel, scores: NDArray[np.float32], chosen: QueryTargets, k: int
) -> RankedBlock:
    row, targets = chosen.row, chosen.targets
    tops = top(scores, k).items[row]
    listed = translate_to_test(competitor, tops)
    ranks = _find_places(targets, listed)
    several = np.flatnonzero(np.bincount(row)[row] > 1)
    if len(several):
        own = translate_to_own(competitor, targets[several])
        known = own != NO_ITEM
        within = np.zeros(len(several), dtype=np.int64)
        within[known] = rank_within(scores, row[several][known], own[known])
        ranks[several] = np.where(within <= k, within, 0)
    about = (chosen.owner, chosen.ends, chosen.places, targets)
    return RankedBlock(*about, tops, listed, ranks, chosen.weights)


def _rank_candidates(
    competitor: EvaluatedModel, scores: NDArray[np.float32], chosen: QueryTargets, drawn: Items, k: int, draws: int
) -> RankedBlock:
    """Rank the target among `drawn`, int32 [b, c]."""
    row, targets = chosen.row, chosen.targets
    several = np.flatnonzero(np.bincount(row)[row] > 1)
    if len(several):
        drawn[several] = np.where(
            _find_same_moment(row[several], targets[several], drawn[several]), NO_ITEM, drawn[several]
        )
    tops = _select_best(competitor, scores, row, np.column_stack([targets, drawn]), k)
    listed = translate_to_test(competitor, tops)
    about = (chosen.owner, chosen.ends, chosen.places, targets)
    return RankedBlock(*about, tops, listed, _find_places(targets, listed), chosen.weights / draws)


def _find_same_moment(row: Ints, targets: Items, drawn: Items) -> NDArray[np.bool_]:
    """Mark the drawn items (int32 [b, c], -1 none) that are among the targets of the prediction's own query: bool [b,
    c]."""
    width = np.int64(max(targets.max(initial=0), drawn.max(initial=0)) + 1)
    same: NDArray[np.bool_] = np.isin(row[:, None] * width + drawn, row * width + targets) & (drawn != NO_ITEM)
    return same


def _find_places(targets: Items, listed: Items) -> Ints:
    """Find each target's place in its list: int64 [b], 1 for the first, 0 if it is not listed."""
    hits = listed == targets[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0)


def _select_best(
    competitor: EvaluatedModel, scores: NDArray[np.float32], row: Ints, candidates: Items, k: int
) -> Items:
    """Select the k best of each prediction's candidates, in the model's own vocabulary.

    `candidates` is int32 [b, c] in the test's vocabulary, -1 none; `scores` is float32 [q, items], and `row`, int64
    [b], says which of them belong to the prediction.
    """
    # Ascending, so that the smaller place of a tie is the smaller index.
    own = np.sort(translate_to_own(competitor, candidates), axis=1)
    theirs = np.where(own == NO_ITEM, np.float32(-np.inf), scores[row[:, None], own])
    places = top(theirs, k).items
    return np.where(places == NO_ITEM, NO_ITEM, np.take_along_axis(own, places.astype(np.int64), axis=1))


def _split_queries(predictions: QueryTargets, size: int) -> Iterator[QueryTargets]:
    """Yield predictions of runs of sessions with at most about `size` queries, whose events are not too many either."""
    first = predictions.first
    if not len(first):
        return
    last_of_session = np.append(np.flatnonzero(np.diff(predictions.owner[first])), len(first) - 1)
    load = np.cumsum(predictions.ends[first])[last_of_session]
    edges = np.append(first, len(predictions))[last_of_session + 1]
    start = at = 0
    while start < len(last_of_session):
        prefixes, events = (last_of_session[start - 1] + 1, load[start - 1]) if start else (0, 0)
        within = np.searchsorted(last_of_session + 1, prefixes + size, side="right")
        end = max(start + 1, int(min(within, np.searchsorted(load, events + PREFIX_EVENTS, side="right"))))
        yield predictions.take(slice(at, int(edges[end - 1])))
        start, at = end, int(edges[end - 1])
