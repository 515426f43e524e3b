"""A fitted model as a verdict evaluates it, and its scores after queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from endcap.evaluation.rule_masks import RuleMask
from endcap.features.queries import QueryTargets
from endcap.features.sessions import Ints, Sessions
from endcap.features.split import slice_sessions
from endcap.models import NO_ITEM, Model, mask_excluded, top
from endcap.spec.recommender import Exclude

WORTHWHILE = 2
"""A model passes over whole sessions if their proper prefixes are at most this many times the queries."""


Items = NDArray[np.int32]


@dataclass(frozen=True)
class VocabularyTranslation:
    """Indices between the test's vocabulary and another model's; -1 if the other side lacks the item.

    `to_own` is int32 [test items] and `to_test` is int32 [own items].
    """

    to_own: Items
    to_test: Items

    @classmethod
    def between(cls, test: list[str], own: list[str]) -> VocabularyTranslation | None:
        """Return the translation; None if the two vocabularies are equal."""
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
    """Makes the model's event features of a query, if the test sessions do not carry its own."""
    customers: NDArray[np.int32] | None = None
    """int32 [c + 1]: the model's own index of each of the test's customers, -1 if it does not know one. A last -1 is
    for customers who are unknown to the test too. None: the test's indices are its own."""
    mask: RuleMask | None = None
    """What the shop's rules hide; None: there are no rules."""


@dataclass(frozen=True)
class WholeSessions:
    """Sessions whose proper prefixes a model may score in one pass, and which of these prefixes are queries: int64
    [q]."""

    sessions: Sessions
    places: Ints


def find_whole_sessions(competitor: EvaluatedModel, chosen: QueryTargets, size: int) -> WholeSessions | None:
    """Return the sessions if nearly all their prefixes are queries and the scores fit into memory, else None."""
    first = chosen.first
    begin, end = int(chosen.owner[0]), int(chosen.owner[-1]) + 1
    sessions = slice_sessions(chosen.sessions, begin, end)
    counts = np.maximum(sessions.lengths - 1, 0)
    if competitor.translation is not None or counts.sum() > min(size, WORTHWHILE * len(first)):
        return None
    return WholeSessions(sessions, (np.cumsum(counts) - counts)[chosen.owner[first] - begin] + chosen.ends[first] - 1)


def rank_histories(competitor: EvaluatedModel, prefixes: Sessions, k: int) -> Items:
    """Rank the k best items after each history, in the model's own vocabulary: int32 [n, k]."""
    return top(score_prefixes(competitor, prefixes, prefixes.starts), k).items


def score_prefixes(
    competitor: EvaluatedModel, prefixes: Sessions, begun: Ints, whole: WholeSessions | None = None
) -> NDArray[np.float32]:
    """Score the model's items after each prefix; -inf for those that may not be listed.

    Parameters
    ----------
    competitor
        The model.
    prefixes
        The n histories, in the test's vocabulary.
    begun
        int64 [n], epoch ms: when each query's session or basket began.
    whole
        The sessions whose prefixes these are: a model may pass over them once.
    """
    own = prefixes if competitor.translation is None else _translate_sessions(prefixes, competitor.translation.to_own)
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
    if competitor.mask is not None:
        competitor.mask.hide(scores, prefixes.customers, begun)
    return scores


def translate_to_test(competitor: EvaluatedModel, tops: Items) -> Items:
    """Return listed items in the test's vocabulary."""
    if competitor.translation is None:
        return tops
    return np.where(tops == NO_ITEM, NO_ITEM, competitor.translation.to_test[tops]).astype(np.int32)


def translate_to_own(competitor: EvaluatedModel, items: Items) -> Items:
    """Return items of the test's vocabulary in the model's own, -1 if it has none."""
    if competitor.translation is None:
        return items
    return np.where(items == NO_ITEM, NO_ITEM, competitor.translation.to_own[items]).astype(np.int32)


def _translate_sessions(sessions: Sessions, to_own: Items) -> Sessions:
    """Return the sessions in another vocabulary, without the items that it lacks."""
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
