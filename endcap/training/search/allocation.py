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
    """A model's part. weight: of its time among those that are not searched yet."""

    label: str
    trials: int
    weight: int


def allocate_trials(searched: Mapping[str, SingleSpec], trials: int) -> list[TrialShare]:
    """The models in the order of their search: quick ones first, so that what they leave of the time is the others'.

    Each has a trial at least; the slow ones have what is left over.
    """
    weights = {label: _SLOW_WEIGHT if make(spec).needs_validation else 1 for label, spec in searched.items()}
    order = sorted(searched, key=lambda label: weights[label])
    left, weight, parts = trials, sum(weights.values()), []
    for label in order:
        own = max(1, left * weights[label] // weight)
        parts.append(TrialShare(label, own, weights[label]))
        left, weight = left - own, weight - weights[label]
    return parts
