"""Predictions of the test sessions, ranked over the whole catalogue or some of it, in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from endcap.evaluation.given_candidates import GivenCandidates
from endcap.evaluation.rule_masks import RuleMask
from endcap.evaluation.sampled_candidates import SampledCandidates
from endcap.features.queries import QueryTargets
from endcap.features.sessions import Ints, Sessions
from endcap.features.split import slice_sessions
from endcap.models import NO_ITEM, Model, mask_excluded, top
from endcap.models.validation import ranks_within
from endcap.spec.recommender import Exclude

SCORE_BYTES = 64 * 2**20
"""Of one block's scores; small enough to stay near the processor, far below what a machine has."""
PREFIX_EVENTS = 4_000_000
"""Events of all prefixes that are laid out at once: a session of length l has l (l - 1) / 2 of them."""
WORTHWHILE = 2
"""A model passes over whole sessions where their proper prefixes are at most so many times those predicted from."""
Items = NDArray[np.int32]


@dataclass(frozen=True)
class VocabularyTranslation:
    """Between the test's vocabulary and another model's. to_own: int32 [test items], to_test: int32 [own items];
    -1 where the other side does not have the item."""

    to_own: Items
    to_test: Items

    @classmethod
    def between(cls, test: list[str], own: list[str]) -> VocabularyTranslation | None:
        """None where the two vocabularies are the same."""
        if test == own:
            return None
        own_index = {item: index for index, item in enumerate(own)}
        to_own = np.fromiter((own_index.get(item, NO_ITEM) for item in test), np.int32, len(test))
        to_test = np.full(len(own), NO_ITEM, dtype=np.int32)
        known = np.flatnonzero(to_own != NO_ITEM)
        to_test[to_own[known]] = known
        return cls(to_own, to_test)


@dataclass(frozen=True)
class EvaluatedModel:
    """A fitted model as it is judged: what it leaves out, and how its vocabulary relates to the test's."""

    model: Model
    exclude: Exclude = "none"
    translation: VocabularyTranslation | None = None
    evaluate: Callable[[Sessions], Mapping[str, NDArray[np.float32]]] | None = None
    """Makes the model's event-level features of what it is asked, where the test sessions do not bring its own."""
    customers: NDArray[np.int32] | None = None
    """The model's own index of each of the test's customers, -1 where it does not know one, and a last -1 for those who
    are unknown to the test too: int32 [c + 1]. None: the test's indices are its own."""
    barred: RuleMask | None = None
    """What the shop's rules take away; None: there are none."""


@dataclass(frozen=True)
class RankedBlock:
    """Some predictions of test sessions and what a model recommends for each.

    owner: int64 [b], the session, ascending. ends: int64 [b], the prefix's length. places: int64 [b], where in the
    session the event stands that is predicted; targets: int32 [b], its item. tops: int32 [b, k], best first, in the
    model's own vocabulary, -1 where the list is shorter. listed: the same in the test's vocabulary, -1 also for an item
    that the test does not know. ranks: int64 [b], the target's place in the list without the others of its moment, 1
    the best, 0 where it is not among the first k. weights: float64 [b], what a prediction counts: less than 1 where it
    is one of several of a moment, or made among several draws of items.
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
    """The k best items for each prediction, in blocks of whole prefixes.

    negatives: only the target and these are ranked, a block for each draw; None: the whole catalogue.
    Ties go to the smaller vocabulary index, which is the more popular item. An excluded item is not in the list, nor is
    one that a rule takes away, so a target that is either is a miss, and so is one that the model does not know; items
    of a prefix that it does not know are skipped.
    """
    size = max(1, SCORE_BYTES // (4 * competitor.model.n_items))
    for part in _parts(predictions, size):
        prefixes = part.prefixes()
        for begin in range(0, len(prefixes), size):
            end = min(begin + size, len(prefixes))
            chosen = part.take(slice(*np.searchsorted(part.row, [begin, end]).tolist()))
            begun = part.begun[part.owner[part.first[begin:end]]]
            if end - begin == len(prefixes):
                scores = _scores(competitor, prefixes, begun, _whole(competitor, chosen, size))
            else:
                scores = _scores(competitor, prefixes.take(np.arange(begin, end)), begun)
            if negatives is None:
                yield _block(competitor, scores, chosen, k)
                continue
            for drawn in negatives.of(chosen):
                yield _block_among(competitor, scores, chosen, drawn, k, negatives.draws)


def _block(competitor: EvaluatedModel, scores: NDArray[np.float32], chosen: QueryTargets, k: int) -> RankedBlock:
    row, targets = chosen.row, chosen.targets
    tops = top(scores, k).items[row]
    listed = _in_test(competitor, tops)
    ranks = _place_of(targets, listed)
    several = np.flatnonzero(np.bincount(row)[row] > 1)
    if len(several):
        own = _own(competitor, targets[several])
        known = own != NO_ITEM
        within = np.zeros(len(several), dtype=np.int64)
        within[known] = ranks_within(scores, row[several][known], own[known])
        ranks[several] = np.where(within <= k, within, 0)
    about = (chosen.owner, chosen.ends, chosen.places, targets)
    return RankedBlock(*about, tops, listed, ranks, chosen.weights)


def _block_among(
    competitor: EvaluatedModel, scores: NDArray[np.float32], chosen: QueryTargets, drawn: Items, k: int, draws: int
) -> RankedBlock:
    """drawn: int32 [b, c], the items that each target is ranked among."""
    row, targets = chosen.row, chosen.targets
    several = np.flatnonzero(np.bincount(row)[row] > 1)
    if len(several):
        drawn[several] = np.where(_of_moment(row[several], targets[several], drawn[several]), NO_ITEM, drawn[several])
    tops = _among(competitor, scores, row, np.column_stack([targets, drawn]), k)
    listed = _in_test(competitor, tops)
    about = (chosen.owner, chosen.ends, chosen.places, targets)
    return RankedBlock(*about, tops, listed, _place_of(targets, listed), chosen.weights / draws)


def _of_moment(row: Ints, targets: Items, drawn: Items) -> NDArray[np.bool_]:
    """Which drawn items (int32 [b, c], -1 none) are among the targets of the prediction's own row: bool [b, c]."""
    width = np.int64(max(targets.max(initial=0), drawn.max(initial=0)) + 1)
    found: NDArray[np.bool_] = np.isin(row[:, None] * width + drawn, row * width + targets) & (drawn != NO_ITEM)
    return found


def _place_of(targets: Items, listed: Items) -> Ints:
    """Each target's place in its list, 1 the first, 0 where it is not there: int64 [b]."""
    hits = listed == targets[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0)


@dataclass(frozen=True)
class _WholeSessions:
    """Sessions whose proper prefixes a model may score in one pass, and which of these are wanted: int64 [q]."""

    sessions: Sessions
    places: Ints


def _whole(competitor: EvaluatedModel, chosen: QueryTargets, size: int) -> _WholeSessions | None:
    """The sessions, where nearly all their prefixes are predicted from and the scores fit into memory."""
    first = chosen.first
    begin, end = int(chosen.owner[0]), int(chosen.owner[-1]) + 1
    sessions = slice_sessions(chosen.sessions, begin, end)
    counts = np.maximum(sessions.lengths - 1, 0)
    if competitor.translation is not None or counts.sum() > min(size, WORTHWHILE * len(first)):
        return None
    return _WholeSessions(sessions, (np.cumsum(counts) - counts)[chosen.owner[first] - begin] + chosen.ends[first] - 1)


def rank_histories(competitor: EvaluatedModel, prefixes: Sessions, k: int) -> Items:
    """The k best items after each of some histories, in the competitor's own vocabulary: int32 [n, k]."""
    return top(_scores(competitor, prefixes, prefixes.starts), k).items


def _scores(
    competitor: EvaluatedModel, prefixes: Sessions, begun: Ints, whole: _WholeSessions | None = None
) -> NDArray[np.float32]:
    """Scores of the competitor's items after each prefix, -inf for those that may not be listed.

    begun: int64 [n], when what is asked for began, epoch ms. whole: the sessions that these are prefixes of: a model
    may pass over them once.
    """
    own = prefixes if competitor.translation is None else _translate(prefixes, competitor.translation.to_own)
    context = own if whole is None else whole.sessions
    if competitor.customers is not None:
        context = replace(context, customers=competitor.customers[context.customers])
    if competitor.evaluate is not None:
        # What is declared of an event looks back only, so that it is the same in a session and in its prefixes.
        context = replace(context, features=competitor.evaluate(context))
    if whole is None:
        scores = competitor.model.score(context)
    else:
        scores = competitor.model.score_prefixes(context)
        if len(scores) != len(prefixes):
            scores = scores[whole.places]
    mask_excluded(scores, own, competitor.exclude)
    if competitor.barred is not None:
        competitor.barred.hide(scores, prefixes.customers, begun)
    return scores


def _in_test(competitor: EvaluatedModel, tops: Items) -> Items:
    """Listed items in the test's vocabulary."""
    if competitor.translation is None:
        return tops
    return np.where(tops == NO_ITEM, NO_ITEM, competitor.translation.to_test[tops]).astype(np.int32)


def _own(competitor: EvaluatedModel, items: Items) -> Items:
    """Items of the test's vocabulary in the competitor's own, -1 where it has none."""
    if competitor.translation is None:
        return items
    return np.where(items == NO_ITEM, NO_ITEM, competitor.translation.to_own[items]).astype(np.int32)


def _among(competitor: EvaluatedModel, scores: NDArray[np.float32], row: Ints, candidates: Items, k: int) -> Items:
    """The k best of each prediction's candidates (int32 [b, c], the test's vocabulary, -1 none), in the own vocabulary.

    scores: float32 [q, items]; row: int64 [b], which of them are of the prediction."""
    # Ascending, so that the smaller place of a tie is the smaller index.
    own = np.sort(_own(competitor, candidates), axis=1)
    theirs = np.where(own == NO_ITEM, np.float32(-np.inf), scores[row[:, None], own])
    places = top(theirs, k).items
    return np.where(places == NO_ITEM, NO_ITEM, np.take_along_axis(own, places.astype(np.int64), axis=1))


def _translate(sessions: Sessions, to_own: Items) -> Sessions:
    """The sessions in another vocabulary, without the items that it lacks."""
    items = to_own[sessions.items]
    known = items != NO_ITEM
    counts = np.bincount(sessions.session_of_event[known], minlength=len(sessions))
    return Sessions(
        items[known],
        sessions.times[known],
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        sessions.customers,
        {name: values[known] for name, values in sessions.features.items()},
        None if sessions.types is None else sessions.types[known],
    )


def _parts(predictions: QueryTargets, size: int) -> Iterator[QueryTargets]:
    """Predictions of runs of sessions with about `size` prefixes at most, whose events are not too many either."""
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
