"""Compares an answer that is computed again with the one that was given."""

from __future__ import annotations

from collections.abc import Sequence

from endcap.ranking import Answer
from endcap.replay.reasons import EQUAL, ROUNDING, UNEXPLAINED
from endcap.samples import SampledRequest

TOLERANCE = 1e-5
"""By how much a score may differ for rounding, as a share of the largest score: what models promise for batches
(`endcap.testing.ModelContract`)."""


def compare_answers(sample: SampledRequest, answer: Answer) -> str:
    """Compare an answer with the recorded one.

    Parameters
    ----------
    sample
        The recorded request and its answer.
    answer
        The answer that was computed again.

    Returns
    -------
    str
        `EQUAL` if items and scores are equal bit for bit; `ROUNDING` if only the last bits of scores differ, and with
        them the order of items whose scores are as near; `UNEXPLAINED` otherwise.
    """
    recorded = (sample.unknown, sample.fallback, sample.precomputed)
    if recorded != (answer.unknown, answer.reason, answer.precomputed):
        return UNEXPLAINED
    if list(sample.items) == answer.ids and list(sample.scores) == answer.scores:
        return EQUAL
    return ROUNDING if _differ_by_rounding(sample, answer) else UNEXPLAINED


def _differ_by_rounding(sample: SampledRequest, answer: Answer) -> bool:
    original, repeated = _list_scores(sample.scores), _list_scores(answer.scores)
    if (
        len(original) != len(repeated)
        or list(sample.items[len(original) :]) != answer.ids[len(repeated) :]
        or not original
    ):
        return False
    near = TOLERANCE * max(map(abs, original))
    if any(abs(before - after) > near for before, after in zip(original, repeated, strict=True)):
        return False
    scores = dict(zip(answer.ids, repeated, strict=False))
    for place, (item, score) in enumerate(zip(sample.items, original, strict=False)):
        # An item at the end may have given way to another whose score is as near, but not to one with the same score:
        # ties have an order of their own.
        if item not in scores and score == repeated[place]:
            return False
        if abs(scores.get(item, repeated[-1]) - score) > near:
            return False
    return True


def _list_scores(scores: Sequence[float | None]) -> list[float]:
    """Return the scores of the items that are no fallbacks; these come first."""
    return [score for score in scores if score is not None]
