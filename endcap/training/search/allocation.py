"""How the trials and the time of a search are shared by a blend's members."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from endcap.models import make
from endcap.spec.model import SingleSpec

_SLOW_WEIGHT = 3
"""A model that learns in epochs has more to find, and is dearer to try, than one that does not."""


@dataclass(frozen=True)
class TrialShare:
    """A model's share of a search.

    Attributes
    ----------
    label
        The model's label.
    trials
        Number of its trials.
    weight
        Weight of its time among the models that are not searched yet.
    """

    label: str
    trials: int
    weight: int


def allocate_trials(searched: Mapping[str, SingleSpec], trials: int) -> list[TrialShare]:
    """Share trials out, and return the models in the order of their search.

    Quick models come first, so that the others get the time that they leave. Each model has a trial at least. The slow
    models get the trials that are left over.

    Parameters
    ----------
    searched
        The models, by label.
    trials
        Number of trials of all models.
    """
    weights = {label: _SLOW_WEIGHT if make(spec).needs_validation else 1 for label, spec in searched.items()}
    order = sorted(searched, key=lambda label: weights[label])
    remaining, weight, parts = trials, sum(weights.values()), []
    for label in order:
        count = max(1, remaining * weights[label] // weight)
        parts.append(TrialShare(label, count, weights[label]))
        remaining, weight = remaining - count, weight - weights[label]
    return parts
