"""Scores of models as features of a prefix and an item, and the choices that weights of them are learnt from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from endcap.features.sessions import Ints, Sessions
from endcap.models.base import Model
from endcap.models.conditional_logit import Choices
from endcap.models.opinion_pool import Scale, fit_scale
from endcap.models.topk import find_best

Floats = NDArray[np.float32]
Scores = Mapping[str, Floats]
OWN_FEATURES = ("popularity", "seen", "last")
"""Features that need no model: the logarithm of the item's share of the events, and 1 if the session or its last event
has the item."""
_MOST_CHOICES = 10_000
_MOST_VALUES = 30_000_000
_SAMPLED_SCORES = 20_000_000
_SCORES_AT_ONCE = 4_000_000
_BEST = 50
"""Of each model's items: how many are alternatives of a choice for sure."""
_DRAWN = 100
"""How many of the other items are drawn. They stand for all others."""


@dataclass(frozen=True)
class TimeCut:
    """Sessions cut in two at a moment, so that nothing of the earlier part is later than anything of the later part.

    Attributes
    ----------
    moment
        The moment, epoch ms.
    earlier
        All events before the moment. A session that goes on after it is cut.
    later
        The sessions that begin at the moment or after it.
    left_out
        Events in neither part: those from the moment on of sessions that began before it.
    """

    moment: int
    earlier: Sessions
    later: Sessions
    left_out: int

    @classmethod
    def of(cls, sessions: Sessions, share: float) -> Self:
        """Cut sessions so that about this share of them, the ones that begin last, is the later part."""
        filled = np.flatnonzero(sessions.lengths)
        starts = sessions.starts[filled]
        place = int((1.0 - share) * len(starts))
        moment = int(np.sort(starts)[place]) if len(starts) else 0
        is_earlier = sessions.times < moment
        ends = np.bincount(sessions.session_of_event[is_earlier], minlength=len(sessions)).astype(np.int64)
        reached = np.flatnonzero(ends)
        later = sessions.take(filled[starts >= moment])
        left_out = len(sessions.items) - int(is_earlier.sum()) - len(later.items)
        return cls(moment, sessions.beginnings(reached, ends[reached]), later, left_out)


@dataclass(frozen=True)
class ScoreFeatures:
    """The features of sessions and items. Training and serving compute them by this class alone.

    Of each model a feature is the logarithm of its score as a probability (`Scale.logs`), and another one is the same
    divided by the length of the session: the two let a model count less, or more, in short sessions.

    Attributes
    ----------
    models
        Fitted models, by label.
    scales
        How their scores become probabilities, by label.
    counts
        int64 [n_items], the events of each item.
    """

    models: Mapping[str, Model]
    scales: Mapping[str, Scale]
    counts: Ints

    @property
    def names(self) -> list[str]:
        """The features' names, in the order of `compute`."""
        return [name for label in self.models for name in (label, f"{label}/length")] + list(OWN_FEATURES)

    def score(self, sessions: Sessions) -> Scores:
        """Return the scores of each model, by label: float32 [n, n_items] each."""
        return {label: model.score(sessions) for label, model in self.models.items()}

    def score_prefixes(self, sessions: Sessions) -> Scores:
        """Return the scores of each model after each proper prefix, by label: float32 [p, n_items] each."""
        return {label: model.score_prefixes(sessions) for label, model in self.models.items()}

    def compute(self, sessions: Sessions, scores: Scores) -> Iterator[Floats]:
        """Yield the features one by one.

        Parameters
        ----------
        sessions
            n sessions.
        scores
            The models' scores of them, by label.

        Yields
        ------
        numpy.ndarray
            float32 [n, n_items], or [1, n_items] if it is the same for all sessions.
        """
        lengths = np.maximum(sessions.lengths, 1).astype(np.float32)[:, None]
        for label in self.models:
            logs = self.scales[label].logs(scores[label])
            yield logs
            yield logs / lengths
        shares = (self.counts + 1.0) / (self.counts.sum() + max(1, len(self.counts)))
        yield np.log(shares).astype(np.float32)[None, :]
        for picked in (sessions, sessions.last(1)):
            has = np.zeros((len(sessions), len(self.counts)), dtype=np.float32)
            has[picked.session_of_event, picked.items] = 1.0
            yield has

    def combine(self, sessions: Sessions, scores: Scores, weights: Mapping[str, float]) -> Floats:
        """Return the weighted sum of the features: float32 [n, n_items]; -inf where no model has an opinion.

        Parameters
        ----------
        sessions
            n sessions.
        scores
            The models' scores of them, by label.
        weights
            The weight of each feature, by name.
        """
        total = np.zeros((len(sessions), len(self.counts)), dtype=np.float32)
        for name, values in zip(self.names, self.compute(sessions, scores), strict=True):
            total += np.float32(weights[name]) * values
        total[~np.logical_or.reduce([np.isfinite(values) for values in scores.values()])] = -np.inf
        return total


def fit_scales(models: Mapping[str, Model], sessions: Sessions) -> dict[str, Scale]:
    """Find the scale of each model under which the items that came next are likeliest.

    Parameters
    ----------
    models
        Fitted models, by label.
    sessions
        Sessions that the models have not seen.
    """
    prefixes, targets, _ = sessions.prefixes()
    n_items = next(iter(models.values())).n_items
    sample = _select_evenly(len(targets), min(_MOST_CHOICES, _SAMPLED_SCORES // max(1, n_items)))
    if not len(sample):
        return dict.fromkeys(models, Scale())
    queries = prefixes.take(sample)
    return {
        label: fit_scale(model.score(queries), targets[sample], np.ones(len(sample))) for label, model in models.items()
    }


def make_choices(features: ScoreFeatures, sessions: Sessions, seed: int) -> Choices:
    """Make choices of sessions: after a prefix, the item that came next was chosen among others.

    Parameters
    ----------
    features
        The features, of models that have not seen the sessions.
    sessions
        The sessions.
    seed
        Seed of the items that are drawn.

    Notes
    -----
    The alternatives are the target, each model's best items, and items that are drawn from the others. Each of these
    counts as many times as it stands for others, so the sum over the alternatives is an unbiased estimate of the sum
    over the catalogue (importance sampling, as in Bengio and Senecal, 2003).
    """
    prefixes, targets, _ = sessions.prefixes()
    n_items, n_features = len(features.counts), len(features.names)
    width = min(n_items, len(features.models) * _BEST + 1 + _DRAWN)
    rows = _select_evenly(len(targets), min(_MOST_CHOICES, max(1, _MOST_VALUES // max(1, width * n_features))))
    draws = np.random.default_rng(seed)
    size = max(1, _SCORES_AT_ONCE // max(1, n_items))
    values, offsets, chosen = [], [], []
    for begin in range(0, len(rows), size):
        part = rows[begin : begin + size]
        queries = prefixes.take(part)
        scores = features.score(queries)
        items, own_offsets = _select_alternatives(list(scores.values()), targets[part], width, draws)
        computed = (np.broadcast_to(each, (len(part), n_items)) for each in features.compute(queries, scores))
        values.append(np.stack([np.take_along_axis(each, items, axis=1) for each in computed], axis=2))
        offsets.append(own_offsets)
        chosen.append((items == targets[part, None]).argmax(axis=1))
    if not values:
        return Choices(np.zeros((0, width, n_features), np.float32), np.zeros((0, width), np.float32), np.zeros(0, int))
    return Choices(np.concatenate(values), np.concatenate(offsets), np.concatenate(chosen))


def _select_alternatives(
    scores: list[Floats], targets: NDArray[np.int32], width: int, draws: np.random.Generator
) -> tuple[Ints, Floats]:
    """Return the items of each choice, int64 [n, width], the first of a repeated item with its offset [n, width]."""
    n_items = scores[0].shape[1]
    if width == n_items:
        return np.tile(np.arange(n_items), (len(targets), 1)), np.zeros((len(targets), n_items), dtype=np.float32)
    sure = np.concatenate([targets[:, None].astype(np.int64), *(find_best(each, _BEST) for each in scores)], axis=1)
    # A model with few opinions lists fewer: there the target stands again, and does not count twice.
    sure = np.sort(np.where(sure < 0, targets[:, None], sure), axis=1)
    is_first = np.ones(sure.shape, dtype=np.bool_)
    is_first[:, 1:] = sure[:, 1:] != sure[:, :-1]
    listed = np.zeros((len(targets), n_items), dtype=np.bool_)
    np.put_along_axis(listed, sure, True, axis=1)
    drawn = draws.integers(0, n_items, (len(targets), width - sure.shape[1]))
    is_other = ~np.take_along_axis(listed, drawn, axis=1)
    weight = (n_items - is_first.sum(axis=1, keepdims=True)) / np.maximum(is_other.sum(axis=1, keepdims=True), 1)
    with np.errstate(divide="ignore"):
        offsets = np.concatenate(
            [np.where(is_first, 0.0, -np.inf), np.where(is_other, np.log(weight), -np.inf)], axis=1
        )
    return np.concatenate([sure, drawn], axis=1), offsets.astype(np.float32)


def _select_evenly(count: int, most: int) -> Ints:
    """Return at most this many of `count` places, evenly spread."""
    return np.arange(0, count, max(1, -(-count // max(1, most))), dtype=np.int64)
